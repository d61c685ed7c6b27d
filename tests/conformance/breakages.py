"""How the conformance suite is seen to be able to fail: the product, or the world, broken on purpose, once a scenario.

`python -m tests.conformance.breakages` copies the tree, breaks it, a round at a time, runs the suite on what that
leaves, and says which scenarios failed, which should have and did not, and which should not have. As root; some minutes
for each round and backend. `--round` and `--backend` take one. The product that is used is never touched.

tests/unit/repository/test_packaging_breakages.py holds that each scenario has a breakage on each kind of backend, and
that each can still be made.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.scenarios import BACKENDS, DOCKER, KUBERNETES, kind_of

ROOT = Path(__file__).parents[2]
_KUBERNETES = "operator/claude_sandbox/backends/kubernetes"
_DOCKER = "operator/claude_sandbox/backends/docker"
_DELIVERY = "operator/claude_sandbox/delivery/__main__.py"


@dataclass(frozen=True)
class Edit:
    """One place of one file, whose text is there exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Breakage:
    """What is broken, and the scenarios that have to fail by it."""

    scenarios: tuple[str, ...]
    edits: tuple[Edit, ...]


# What begins with a sandbox that is Compliant can't be looked at where none is.
_NEED_COMPLIANT = {"ready", "strict-seccomp", "scratch-noexec", "killed", "loosened", "altered", "restarted"}

# Nothing here waits as long as this when all is well; in a round much is not.
_IMPATIENT = Edit("tests/support/machine/nodekit.py", "PATIENCE = 120.0", "PATIENCE = 60.0")
# The namespace would not let most of it in.
_ADMITTED = Edit(
    "tests/support/machine/nodekit.py",
    'labels = {"pod-security.kubernetes.io/enforce": "restricted"}',
    'labels = {"pod-security.kubernetes.io/enforce": "privileged"}',
)


def _pods(scenarios: str, old: str, new: str, file: str = "objects.py") -> Breakage:
    return Breakage(tuple(scenarios.split()), (Edit(f"{_KUBERNETES}/{file}", old, new),))


def _containers(scenarios: str, old: str, new: str, file: str = "objects.py") -> Breakage:
    return Breakage(tuple(scenarios.split()), (Edit(f"{_DOCKER}/{file}", old, new),))


_INSIDE: Mapping[str, tuple[Breakage, ...]] = {
    KUBERNETES: (
        _pods(
            "brokered",
            '"sources": [{"serviceAccountToken": token}]',
            '"sources": [{"serviceAccountToken": token}, {"secret": {"name": blueprint.key.secret, "items": '
            '[{"key": blueprint.key.key, "path": "leak"}]}}]',
        ),
        _pods("user ready", '"runAsGroup": blueprint.user.gid,', '"runAsGroup": 1001,'),
        _pods("capabilities", '{"drop": ["ALL"]}', '{"drop": ["KILL"]}', "hardening.py"),
        _pods(
            "capabilities scratch-options",
            '"allowPrivilegeEscalation": False',
            '"allowPrivilegeEscalation": True',
            "hardening.py",
        ),
        _pods("seccomp", '{"type": "RuntimeDefault"}', '{"type": "Unconfined"}'),
        # What nobody says nodes have is left out, and nobody is told.
        Breakage(
            ("strict-seccomp",),
            (
                Edit(
                    "operator/claude_sandbox/controller/sandboxes/accepted_specs.py",
                    "if security.strict_seccomp and site.strict_profile is None:",
                    'if security.strict_seccomp and site.strict_profile == "":',
                ),
            ),
        ),
        _pods("root", '"readOnlyRootFilesystem": True', '"readOnlyRootFilesystem": False', "hardening.py"),
        _pods(
            "scratch",
            '{"medium": "Memory", "sizeLimit": str(scratch.size)}',
            '{"sizeLimit": str(scratch.size)}',
        ),
        # That a pod's scratch space runs programs is the kubelet's doing; as whom it does is not.
        _pods("scratch-programs user", '"runAsUser": blueprint.user.uid,', '"runAsUser": 1001,'),
        Breakage(
            ("scratch-noexec",),
            (
                Edit(
                    "operator/claude_sandbox/api/spec.py",
                    "self.backend.type == 'Docker' || self.security.executableScratch",
                    "self.backend.type == 'Docker' || self.security.executableScratch in [true, false]",
                ),
            ),
        ),
        _pods("memory", '"memory": str(amounts.memory),', '"memory": str(amounts.memory * 2),'),
        _pods("cpu", 'f"{amounts.cpu_millicores}m"', 'f"{amounts.cpu_millicores // 2}m"'),
        # The kubelet's: no pod can say it.
        Breakage(
            ("processes",),
            (Edit("operator/claude_sandbox/localcluster/node/config.py", "POD_PIDS = 512", "POD_PIDS = 1024"),),
        ),
        _pods("key-file", 'key.secret, "defaultMode": 0o440', 'key.secret, "defaultMode": 0o444'),
        _pods(
            "key-only-there",
            '"env": [{"name": name, "value": value} for name, value in blueprint.environment],',
            '"env": [{"name": name, "value": value} for name, value in blueprint.environment] + [{"name": "LEAK", '
            '"valueFrom": {"secretKeyRef": {"name": blueprint.key.secret, "key": blueprint.key.key}}}],',
        ),
    ),
    DOCKER: (
        _containers("user ready", 'f"{blueprint.user.uid}:{blueprint.user.gid}"', 'f"{blueprint.user.uid}:1001"'),
        _containers("capabilities", '"CapDrop": ["ALL"]', '"CapDrop": ["KILL"]', "documents/hardening.py"),
        _containers(
            "seccomp strict-seccomp",
            "return [NO_NEW_PRIVILEGES, *_filters(blueprint)]",
            'return [NO_NEW_PRIVILEGES, "seccomp=unconfined"]',
        ),
        _containers(
            "brokered", 'bytearray(f"csb-{made.hex()}".encode())', "bytearray(bytes(key.value))", "keys/placeholder.py"
        ),
        _containers("root", '"ReadonlyRootfs": True', '"ReadonlyRootfs": False'),
        _containers("scratch", "size={scratch.size}", "size={scratch.size * 2}"),
        _containers("scratch-options", 'f"rw,nosuid,nodev,{', 'f"rw,suid,nodev,{'),
        _containers("scratch-programs", 'True: "exec"', 'True: "noexec"'),
        _containers("scratch-noexec", 'False: "noexec"', 'False: "exec"'),
        _containers("memory", "limited_memory(most.memory,", "limited_memory(most.memory * 2,"),
        _containers(
            "cpu", '"NanoCpus": most.cpu_millicores * _MILLICORE', '"NanoCpus": most.cpu_millicores * _MILLICORE // 2'
        ),
        _containers("processes", "PIDS = 512", "PIDS = 1024"),
        Breakage(("key-file",), (Edit(_DELIVERY, "os.O_NOFOLLOW, 0o400)", "os.O_NOFOLLOW, 0o444)"),)),
        _containers(
            "key-only-there",
            '        return Key(str(live["metadata"]["resourceVersion"]), value)',
            "        print(value.decode(), flush=True)\n"
            '        return Key(str(live["metadata"]["resourceVersion"]), value)',
            "keys/secrets.py",
        ),
    ),
}

_FLUSH = """
        from claude_sandbox.localcluster import engine
        from claude_sandbox.localcluster.node.parts import NEEDED
        from claude_sandbox.localcluster.programs.os_packages import ensure
        import os
        programs = ensure(NEEDED, print)
        for rule in ("-P FORWARD ACCEPT", "-F FORWARD", "-t raw -F PREROUTING"):
            iptables = [*enter_network(self._of.names), programs.path("iptables"), *rule.split()]
            subprocess.run(iptables, env={**os.environ, **programs.environment()}, check=False)
"""

_EVERY_NAME = Breakage(
    ("by-name",),
    (
        Edit(
            "operator/claude_sandbox/gateway/destinations/domains.py",
            "        return Verdict(False, NOT_ALLOWED)",
            "        return Verdict(True, NOT_ALLOWED)",
        ),
    ),
)

_EVERY_BRANCH = Breakage(
    ("repositories",),
    (
        Edit(
            "operator/claude_sandbox/gateway/git/push/rules.py",
            "            if not matches(command.ref, rules.branches):",
            "            if not rules.branches:",
        ),
    ),
)

_NETWORK: Mapping[str, tuple[Breakage, ...]] = {
    KUBERNETES: (
        _EVERY_BRANCH,
        _EVERY_NAME,
        _pods("not-the-host not-the-control-plane declared ready", ", _egress(blueprint)", ", [{}]"),
        _pods("not-another-sandbox ports", "_ingress(blueprint), ", "[{}], "),
    ),
    DOCKER: (
        _EVERY_BRANCH,
        _EVERY_NAME,
        # The directory alone, that the file itself does not hide it.
        _containers("key-file", 'gid={user.gid},mode=0700"\n    noswap', 'gid={user.gid},mode=0755"\n    noswap'),
        # With a way out, it can do what is declared, which it is said not to.
        _containers("not-the-host not-the-control-plane declared ready", '"Internal": True', '"Internal": False'),
        _containers(
            "not-the-host",
            '{GATEWAY_MODE: "isolated"} if capabilities.isolated_gateway else {INHIBIT: "true"}',
            "{}",
        ),
        _containers(
            "ports", "{called.container}:{port.number}", "{called.container}:{port.number + 1}", "relay/relays.py"
        ),
        # The engine itself keeps its networks apart, so that takes its rules as well.
        Breakage(
            ("not-another-sandbox",),
            (
                Edit(
                    "tests/conformance/on_docker.py",
                    "        container = self._sdk.containers.get(self.workload(other))\n",
                    f"{_FLUSH}        container = self._sdk.containers.get(self.workload(other))\n",
                ),
            ),
        ),
    ),
}

_SECRETS = Edit(
    f"{_KUBERNETES}/watches/secret_opt_in.py",
    '    return by_label or secret.get("type") == meta.SECRET_TYPE',
    "    return bool(secret) or by_label",
)
_NEWS = Edit(
    "operator/claude_sandbox/controller/sandboxes/reconciler.py",
    "if without_times(status) == without_times(previous) or probing.may_wait(previous, status):",
    "if status == previous:",
)

_LIFE: Mapping[str, tuple[Breakage, ...]] = {
    KUBERNETES: (
        _pods(
            "suspended",
            "    if desired.suspended or desired.withdrawn:\n",
            "    if (desired.suspended or desired.withdrawn) and not desired.may_start:\n",
            "plan.py",
        ),
        _pods(
            "killed",
            "if desired.may_start and not desired.suspended and not in_the_way and not imposed:",
            "if desired.may_start and not desired.suspended and not in_the_way and not imposed and not past.ran:",
            "plan.py",
        ),
        _pods(
            "loosened",
            "if wanted.get(key) != actual.get(key))",
            'if wanted.get(key) != actual.get(key) and key != "egress")',
            "drift.py",
        ),
        _pods("altered", 'return tuple(whole(wanted, spec, "spec", frozenset(filled)))', "return ()", "drift.py"),
        _pods("deleted", "    if volume.retain:\n", "    if not volume.retain:\n"),
        _pods(
            "key-renewed",
            "    if set(paths) <= imposed:\n",
            "    if all(path.endswith(meta.ANNOTATION_KEY_GENERATION) for path in paths):\n",
            "plan.py",
        ),
        Breakage(("secret-mended",), (_SECRETS,)),
        Breakage(("restarted",), (_NEWS,)),
    ),
    DOCKER: (
        _containers(
            "suspended",
            "    if desired.ended:\n        return (Step(Verb.REMOVE",
            "    if desired.ended and not desired.may_start:\n        return (Step(Verb.REMOVE",
            "plan.py",
        ),
        _containers(
            "killed",
            "return (_start(name, ours, past),) if desired.may_make else ()",
            "return (_start(name, ours, past),) if desired.may_start and not (past.ran and past.settled) else ()",
            "plan.py",
        ),
        _containers(
            "loosened",
            "    found = [key for key in sorted({*wanted, *host}) if not",
            '    found = [key for key in sorted({*wanted, *host}) if not key.startswith("Memory") and not',
            "drift.py",
        ),
        _containers(
            "altered",
            "for key in found if key not in UPDATABLE)",
            'for key in found if key not in UPDATABLE and key != "CpusetCpus")',
            "drift.py",
        ),
        _containers(
            "deleted",
            "        if any(is_owned(network, cluster, identity, one) for one in _NETWORKS):",
            "        if is_owned(network, cluster, identity, names.OUTER):",
            "removal.py",
        ),
        _containers(
            "key-renewed",
            "inside.is_current(desired.word)",
            "inside.is_keyed",
            "plan.py",
        ),
        Breakage(("secret-mended",), (_SECRETS,)),
        Breakage(("restarted",), (_NEWS,)),
    ),
}

ROUNDS: Mapping[str, Mapping[str, tuple[Breakage, ...]]] = {"inside": _INSIDE, "network": _NETWORK, "life": _LIFE}


def edits(round_name: str, kind: str) -> Iterator[Edit]:
    """All that is changed in a round, each change once."""
    yield from (_IMPATIENT, _ADMITTED)
    found = (edit for breakage in ROUNDS[round_name][kind] for edit in breakage.edits)
    yield from dict.fromkeys(found)


def expected(round_name: str, kind: str) -> set[str]:
    """The scenarios that have to fail in a round."""
    return {scenario for breakage in ROUNDS[round_name][kind] for scenario in breakage.scenarios}


def broken(text: str, edit: Edit) -> str:
    """A file's text with one edit made. Raises ValueError where its place is not there, or not the only one."""
    if (times := text.count(edit.old)) != 1:
        raise ValueError(f"{edit.file} has {times} times, and not once: {edit.old}")
    return text.replace(edit.old, edit.new)


def run(round_name: str, backend: str) -> bool:
    """Run the suite on a copy that is broken. Whether the scenarios failed that had to, and no others."""
    kind = kind_of(backend)
    with tempfile.TemporaryDirectory(prefix="breakage-") as directory:
        tree = Path(directory)
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)
        for edit in edits(round_name, kind):
            file = tree / edit.file
            file.write_text(broken(file.read_text(), edit))
        report = tree / "report.xml"
        command = [sys.executable, "-m", "pytest", "tests/conformance", "-k", backend, f"--junitxml={report}", "-q"]
        environment = {**os.environ, "PYTHONPATH": str(tree / "operator")}
        log = Path(tempfile.gettempdir(), f"breakage-{round_name}-{backend}.log")
        with log.open("wb") as out:
            subprocess.run(command, cwd=tree, env=environment, stdout=out, stderr=out, check=False)
        ran, failed = _outcomes(report)
    wanted = expected(round_name, kind)
    allowed = wanted | (_NEED_COMPLIANT if "ready" in wanted else set())
    print(f"{round_name} on {backend}: {len(ran)} scenarios ran; failed: {', '.join(sorted(failed)) or 'none'}")
    for what, scenarios in (
        ("has to fail and did not", wanted - failed),
        ("failed and has nothing broken", failed - allowed),
    ):
        for scenario in sorted(scenarios):
            print(f"  {scenario}: {what} (see {log})")
    return wanted <= failed <= allowed


def _outcomes(report: Path) -> tuple[set[str], set[str]]:
    """The scenarios that ran, and those that failed. Written by the run itself, so it can be trusted."""
    ran, failed = set(), set()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        names = [one.get("value", "") for one in case.iter("property") if one.get("name") == "scenario"]
        ran.update(names)
        if case.find("failure") is not None or case.find("error") is not None:
            failed.update(names)
    return ran, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--round", choices=ROUNDS, action="append")
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    options = parser.parse_args()
    wanted = [(each, backend) for backend in options.backend or BACKENDS for each in options.round or ROUNDS]
    return sum(not run(each, backend) for each, backend in wanted)


if __name__ == "__main__":
    sys.exit(main())
