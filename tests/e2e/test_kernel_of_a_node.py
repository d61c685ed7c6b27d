"""The kernel as a witness on a real node: the agent as it is installed, real pods, and processes that differ."""

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from node_agentkit import DAEMON_SET, address_of, let_in
from nodekit import Kubectl, eventually
from sandboxkit import Object, Sandbox, sandbox

from claude_sandbox.backends.kubernetes.gateway.certificates import Bundle
from claude_sandbox.backends.kubernetes.node_agents import AUTHORITY_SECRET, NAMESPACE, TLS_SECRET
from claude_sandbox.backends.kubernetes.node_agents.answers import Answer
from claude_sandbox.backends.kubernetes.node_agents.asking import AskingError, ask
from claude_sandbox.backends.kubernetes.node_agents.certificates import context_of
from claude_sandbox.compliance.catalogue import POD_WITNESSED
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.node_agent import PORT

pytestmark = pytest.mark.node

# The nodes here have no AppArmor, give pods the machine's own users, and may have rotated nobody's output yet.
UNTOLD = {"KERN-02", "PRIV-06", "RES-08"}


# Many processes: of a name that the runtime's own have while they begin, and of one that looks like other files.
CROWD = r"""
import ctypes, os, time
for number in range(250):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, [b"runc:[2:INIT]", b"a\n0::/\xff)"][number % 2], 0, 0, 0)
        time.sleep(3600)
time.sleep(3600)
"""


# A server for everybody, and one for the sandbox alone; the process' first thread ends, as which the kernel has it.
SERVER = r"""
import ctypes, os, socket, threading, time
open("/tmp/server.pid", "w").write(str(os.getpid()))
open_to_all, own = socket.create_server(("0.0.0.0", 2222)), socket.create_server(("127.0.0.1", 3333))
threading.Thread(target=time.sleep, args=(3600,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[__import__("platform").machine()], 0)
"""


def with_output(daemon_set: Object) -> Object:
    """An agent that was given the kubelet's files of output as well, as docs/operations.md says how."""
    pod = daemon_set["spec"]["template"]["spec"]
    [container] = pod["containers"]
    container["command"].append("--logs=/run/claude-sandbox/logs")
    container["volumeMounts"].append({"name": "logs", "mountPath": "/run/claude-sandbox/logs", "readOnly": True})
    pod["volumes"].append({"name": "logs", "hostPath": {"path": "/var/log/pods", "type": "Directory"}})
    pod["securityContext"]["supplementalGroups"] = [0]
    return daemon_set


def by_kernel(made: Sandbox) -> set[str]:
    """The controls that pass by what the kernel says too."""
    groups = (made.get().get("status", {}).get("compliance") or {}).get("passed", [])
    return {control for group in groups if group["source"] == "HostProc" for control in group["controls"]}


def failing(made: Sandbox) -> set[str]:
    return {id for id, result in made.results().items() if result == "Fail"}


def confirmed(made: Sandbox) -> None:
    """Wait until the kernel has confirmed everything."""
    wanted = POD_WITNESSED.keys() - UNTOLD
    try:
        eventually("the kernel confirms all that it tells of", lambda: by_kernel(made) >= wanted)
    except BaseException:
        print(wanted - by_kernel(made), json.dumps(made.get()["status"]["compliance"]["controls"], indent=1))
        raise


def answer(kubectl: Kubectl, agent: str, made: Sandbox) -> Answer:
    """What the agent tells whoever has the operator's certificate."""
    found = json.loads(kubectl("get", "secret", "-n", NAMESPACE, AUTHORITY_SECRET, "-o", "json").stdout)["data"]
    bundle = Bundle(*(base64.b64decode(found[name]).decode() for name in ("ca.crt", "ca.key", "tls.crt", "tls.key")))
    return asyncio.run(ask(agent, PORT, context_of(bundle, datetime.now(UTC)), made.pod_uid()))


@contextmanager
def entered(made: Sandbox) -> Iterator[None]:
    """Somebody of the node's is in the sandbox's namespaces and control groups, as root and with all capabilities."""
    inside = made.agent()
    program = shutil.which("nsenter")
    assert program is not None
    command = [program, "--all", "--target", inside.name, "sleep", "3600"]
    # Between two forks nsenter itself is what is in there; its child is in the namespace of processes.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as visitor:
        try:
            eventually("it sleeps", lambda: bool(_children(visitor.pid)))
            for pid in (visitor.pid, *_children(visitor.pid)):
                _join(pid, inside)
            yield
        finally:
            for pid in _children(visitor.pid):
                subprocess.run(["kill", "-9", str(pid)], check=False)
            visitor.kill()


def root_has_every_capability() -> bool:
    """Of this machine."""
    found = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return int(found["CapEff"], 16) == (1 << (last + 1)) - 1


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _join(pid: int, of: Path) -> None:
    """Have a process in the control groups of another, whichever version they are of."""
    for line in (of / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=")
        group = Path("/sys/fs/cgroup") / name / path.lstrip("/")
        if path != "/" and (group / "cgroup.procs").exists():
            (group / "cgroup.procs").write_text(str(pid))


@contextmanager
def as_many_processes_as_it_likes(made: Sandbox) -> Iterator[None]:
    """Somebody of the node's takes away the limit of the sandbox's container, and that of its pod."""
    lines = (line.split(":", 2) for line in (made.agent() / "cgroup").read_text().splitlines())
    places = [Path("/sys/fs/cgroup", controllers, path.lstrip("/")) for _, controllers, path in lines]
    [group] = [one for one in places if (one / "pids.max").exists()]
    limits = {one / "pids.max": (one / "pids.max").read_text() for one in (group, group.parent)}
    for limit in limits:
        limit.write_text("max")
    try:
        yield
    finally:
        for limit, before in limits.items():
            limit.write_text(before)


@pytest.mark.slow
def test_what_listens_where_nothing_is_declared_is_told_until_it_has_ended(
    kubectl: Kubectl, sandboxes: str, agent: str
) -> None:
    with sandbox(kubectl, sandboxes, "serving") as made:
        eventually("nothing listens", lambda: made.results()["OPS-02"] == "Pass")
        before = failing(made)
        made.run("sh", "-c", 'setsid python3 -c "$1" >/dev/null 2>&1 &', "sh", SERVER)
        eventually("it is told", lambda: made.results()["OPS-02"] == "Fail")
        told = made.control("OPS-02")
        assert told["message"].endswith("something listens in it where no port is declared: tcp 0.0.0.0:2222")
        assert told["evidence"]["source"] == "HostProc"
        assert "spec.network.ports" in told["remedy"]
        assert failing(made) - before == {"OPS-02"}
        # Nothing has to pass for it: agents start servers for their work.
        assert made.is_("Compliant")
        made.run("sh", "-c", "kill -9 $(cat /tmp/server.pid)")
        eventually("it is gone", lambda: made.results()["OPS-02"] == "Pass")


@pytest.mark.slow
def test_output_that_is_dropped_passes_and_more_than_is_to_be_kept_fails(
    kubectl: Kubectl, node: Cluster, sandboxes: str, agent: str
) -> None:
    with sandbox(kubectl, sandboxes, "loud") as made:
        assert made.results()["RES-08"] == "Unknown"
        found = json.loads(kubectl("get", "-n", NAMESPACE, DAEMON_SET, "-o", "json").stdout)
        patch = json.dumps({"spec": with_output(found)["spec"]})
        kubectl("patch", "-n", NAMESPACE, DAEMON_SET, "--type=merge", "-p", patch)
        kubectl("rollout", "status", "-n", NAMESPACE, DAEMON_SET, "--timeout=120s")
        kubectl.apply(let_in(address_of(kubectl)))
        # More than a file may have; the kubelet looks every ten seconds.
        made.run("sh", "-c", "head -c 15000000 /dev/zero | tr '\\0' x | fold -w 200 >/proc/1/fd/1")
        place = node.layout.node / "log/pods" / f"{sandboxes}_{made.pod}_{made.pod_uid()}" / "agent"
        eventually("its kubelet drops it", lambda: len(list(place.glob("0.log.*"))) > 0)
        eventually("it passes", lambda: made.results()["RES-08"] == "Pass")
        before, more = failing(made), place / "0.log.20260101-000000"
        with more.open("wb") as opened:
            opened.truncate(2 << 30)
        eventually("it fails", lambda: made.results()["RES-08"] == "Fail")
        told = made.control("RES-08")
        assert told["message"] == "its node keeps more than 1024 MiB of what container agent wrote"
        assert "containerLogMaxSize" in told["remedy"]
        assert failing(made) - before == {"RES-08"}
        more.unlink()
        eventually("it passes again", lambda: made.results()["RES-08"] == "Pass")


@pytest.mark.slow
def test_a_limit_of_processes_that_is_taken_away_makes_it_fail(kubectl: Kubectl, sandboxes: str, agent: str) -> None:
    with sandbox(kubectl, sandboxes, "unlimited") as made:
        confirmed(made)
        before = failing(made)
        with as_many_processes_as_it_likes(made):
            eventually("it fails", lambda: made.results()["RES-03"] == "Fail")
            assert failing(made) - before == {"RES-03"}
            told = made.control("RES-03")
            assert told["message"].endswith("the kernel lets it have any number of processes")
            assert "podPidsLimit" in told["remedy"]
        eventually("it passes again", lambda: made.results()["RES-03"] == "Pass")


@pytest.mark.slow
def test_of_a_compliant_pod_the_kernel_confirms_what_its_object_says(
    kubectl: Kubectl, sandboxes: str, agent: str
) -> None:
    with sandbox(kubectl, sandboxes, "witnessed") as made:
        made.wait("Compliant")
        confirmed(made)
        made.wait("Compliant")
        assert made.results()["RES-03"] == "Pass"


def test_who_enters_with_more_than_the_pod_has_makes_it_fail_and_both_are_told(
    kubectl: Kubectl, sandboxes: str, agent: str
) -> None:
    with sandbox(kubectl, sandboxes, "entered") as made:
        confirmed(made)
        with entered(made):
            made.wait("Compliant", "False")
            found = failing(made)
            assert found >= {"PRIV-02", "PRIV-03", "PRIV-04", "PRIV-05", "KERN-01"}
            # Which is not so in many a container.
            assert ("PRIV-01" in found) == root_has_every_capability()
            told = made.control("PRIV-02")
            assert told["evidence"]["source"] == "HostProc"
            assert "container agent: the kernel gives its process capabilities (Cap" in told["message"]
            assert "the pod's object says it is well, but " in told["message"]
            assert told["remedy"]
        made.wait("Compliant")
        confirmed(made)


def test_a_sandbox_that_tries_to_hide_or_to_forge_changes_nothing(kubectl: Kubectl, sandboxes: str, agent: str) -> None:
    with sandbox(kubectl, sandboxes, "forging") as made:
        confirmed(made)
        assert made.fails("sh", "-c", "mkdir /sys/fs/cgroup/kubepods || mkdir /sys/fs/cgroup/pids/kubepods")
        assert made.fails("sh", "-c", "mount -t tmpfs none /proc || unshare --user --mount true")
        made.run("sh", "-c", 'setsid python3 -c "$1" >/dev/null 2>&1 &', "sh", CROWD)

        def told() -> int:
            containers = answer(kubectl, agent, made).containers
            assert all(one.whole for one in containers)
            return sum(kind.count for one in containers for kind in one.kinds)

        eventually("all of them are told", lambda: told() > 250)
        # As few kinds as before, however many there are.
        assert all(len(one.kinds) <= 4 for one in answer(kubectl, agent, made).containers)
        confirmed(made)
        made.wait("Compliant")


def test_the_agent_is_nobody_on_its_node_and_answers_nobody_else(kubectl: Kubectl, sandboxes: str, agent: str) -> None:
    uid = kubectl("get", "pods", "-n", NAMESPACE, "-o", "jsonpath={.items[0].metadata.uid}").stdout
    places = (path.parent for path in Path("/proc").glob("[0-9]*/cgroup") if uid in path.read_text())
    statuses = [(place / "status").read_text() for place in places if b"node_agent" in (place / "cmdline").read_bytes()]
    assert statuses
    for status in statuses:
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert (fields["Uid"].split(), fields["NoNewPrivs"], fields["Seccomp"]) == (["65532"] * 4, "1", "2")
        assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    with sandbox(kubectl, sandboxes, "curious") as made:
        assert not kubectl.connects(sandboxes, made.pod, agent, PORT)
        # What the agents themselves have opens nothing.
        found = json.loads(kubectl("get", "secret", "-n", NAMESPACE, TLS_SECRET, "-o", "json").stdout)["data"]
        assert set(found) == {"ca.crt", "tls.crt", "tls.key"}
        assert answer(kubectl, agent, made).containers


def test_of_a_pod_that_is_not_there_nothing_is_told(kubectl: Kubectl, sandboxes: str, agent: str) -> None:
    nobody = Sandbox(kubectl, sandboxes, "nobody")
    with pytest.raises(AskingError):
        # No pod has no UID.
        answer(kubectl, agent, nobody)
