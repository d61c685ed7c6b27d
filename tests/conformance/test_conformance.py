"""The same scenarios on Kubernetes and on Docker, old and new, through the same public surface."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path

import kernel
import pytest
import results
from adapter import CONNECT, DECLARED_NAME, OTHER_NAME, OUTSIDE, OUTSIDE_PORT, PORT, Backend, Done, Target
from conformance_place import EARLY, KEY, VOLUME, Place
from git_process import TOKEN
from key_search import Search
from nodekit import eventually
from sandboxkit import Sandbox, mounted
from scenarios import DOCKER, KUBERNETES, SCENARIOS, kind_of

pytestmark = [pytest.mark.controlplane, pytest.mark.node, pytest.mark.engine]

scenario = pytest.mark.scenario
MIB = 1 << 20
KEY_FILE = "/run/claude-sandbox/api-key/api-key"
SCRATCH = {"/tmp": 64 * MIB, "/home/claude": 128 * MIB}


@pytest.fixture(scope="module")
def agent(backend: Backend, alice: Sandbox) -> Path:
    """The /proc directory, on the machine, of the first resident's agent."""
    return kernel.agent(backend.workload(alice))


# Start


@scenario("ready")
def test_comes_to_ready_and_compliant(alice: Sandbox) -> None:
    alice.wait("Ready", "True", "SandboxReady")
    alice.wait("Compliant")
    passed, _, required = alice.get()["status"]["compliance"]["summary"]["required"].partition("/")
    assert passed == required
    assert int(required) > 20


def test_what_is_said_to_prove_a_scenario_passes(backend: Backend, alice: Sandbox, found: results.Results) -> None:
    alice.wait("Compliant")
    if kind_of(backend.id) == DOCKER:
        # That comes a moment after the start, and nothing waits for it.
        eventually("its files were looked at", lambda: alice.results()["PRIV-07"] != "Unknown")
    passed = {control for control, result in alice.results().items() if result == "Pass"}
    named = {proof for each in SCENARIOS for proof in each.proofs.get(kind_of(backend.id), ()) if "-" in proof}
    assert named <= passed, alice.get()["status"]["compliance"]
    found.passed[backend.id] = sorted(passed)


# What the kernel holds the agent to


@scenario("user")
def test_runs_as_uid_and_gid_1000(agent: Path) -> None:
    status = kernel.status(agent)
    assert status["Uid"].split() == status["Gid"].split() == ["1000"] * 4
    assert set(status["Groups"].split()) <= {"1000"}


@scenario("capabilities")
def test_has_no_capability_and_can_get_none(agent: Path) -> None:
    status = kernel.status(agent)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


@scenario("seccomp")
def test_a_seccomp_filter_is_in_force(agent: Path) -> None:
    assert kernel.status(agent)["Seccomp"] == "2"


@scenario("strict-seccomp")
def test_the_strict_filter_refuses_what_the_runtimes_own_lets_through(
    backend: Backend, alice: Sandbox, place: Place
) -> None:
    # It asks the kernel how it adjusts its clock.
    script = "/bin/busybox adjtimex"
    assert backend.run(alice, script).code == 0
    strict = {"seccompProfile": {"type": "Strict"}}
    if kind_of(backend.id) == KUBERNETES:
        made = place.apply("strict", backend, security=strict)
        made.wait("Stalled", "True", "InvalidSpec")
        refused = made.condition("Stalled")["message"]
        place.delete(made)
        assert "--strict-seccomp-profile" in refused
        raise results.CanNotError(refused)
    made = place.apply("strict", backend, security=strict)
    made.wait("Ready")
    made.wait("Compliant")
    assert "Operation not permitted" in backend.run(made, script).output
    place.delete(made)


@scenario("root")
def test_the_root_and_the_settings_can_not_be_written_to(backend: Backend, alice: Sandbox, agent: Path) -> None:
    assert backend.run(alice, "touch /workspace/x /tmp/x /home/claude/x").code == 0
    settings = "/etc/claude-code/managed-settings.json"
    before = backend.run(alice, f"cat {settings}").output
    assert "apiKeyHelper" in before
    for path in ("/x", "/bin/x", "/etc/claude-code/x"):
        assert "Read-only file system" in backend.run(alice, f"touch {path}").output
    # It is another's, and on a file system that is read-only: which of the two is told is the kernel's choice by call.
    assert backend.run(alice, f"echo {{}} > {settings}").code != 0
    assert backend.run(alice, f"rm -f {settings}").code != 0
    assert backend.run(alice, f"cat {settings}").output == before
    mounts = kernel.mounts(agent)
    for path in ("/", settings):
        where = max((one for one in mounts if f"{path}/".startswith(f"{one.rstrip('/')}/")), key=len)
        assert "ro" in mounts[where][1], where


@scenario("scratch")
def test_scratch_space_is_in_memory_and_has_a_size(agent: Path) -> None:
    mounts = kernel.mounts(agent)
    for path, size in SCRATCH.items():
        kind, options = mounts[path]
        assert kind == "tmpfs"
        assert f"size={size // 1024}k" in options


@scenario("scratch-options")
def test_nothing_in_scratch_space_gives_privileges(backend: Backend, alice: Sandbox, agent: Path) -> None:
    for path in SCRATCH:
        assert backend.run(alice, f"/bin/busybox mknod {path}/device c 1 3").code != 0
    assert kernel.status(agent)["NoNewPrivs"] == "1"
    options = [kernel.mounts(agent)[path][1] for path in SCRATCH]
    if not all({"nosuid", "nodev"} <= each for each in options):
        raise results.CanNotError(options)


@scenario("scratch-programs")
def test_a_program_in_scratch_space_can_be_run(backend: Backend, alice: Sandbox) -> None:
    for path in SCRATCH:
        assert _copied(backend, alice, path, "id -u").output.strip() == "1000"


@scenario("scratch-noexec")
def test_with_noexec_no_program_in_scratch_space_can_be_run(backend: Backend, alice: Sandbox, place: Place) -> None:
    strict = {"executableScratch": False}
    if kind_of(backend.id) == KUBERNETES:
        with pytest.raises(AssertionError, match="an emptyDir takes no mount options") as refused:
            place.apply("strict", backend, security=strict)
        raise results.CanNotError(refused)
    made = place.apply("strict", backend, security=strict)
    made.wait("Ready")
    made.wait("Compliant")
    for path in SCRATCH:
        assert "Permission denied" in _copied(backend, made, path, "true").output
    place.delete(made)


def _copied(backend: Backend, one: Sandbox, path: str, applet: str) -> Done:
    """What comes of a copy of busybox in `path`, made set-user-ID, which is removed again."""
    program = f"{path}/busybox"
    assert backend.run(one, f"cat /bin/busybox > {program} && chmod 6755 {program}").code == 0
    try:
        return backend.run(one, f"{program} {applet}")
    finally:
        assert backend.run(one, f"rm {program}").code == 0


@scenario("memory")
def test_memory_is_limited(agent: Path) -> None:
    memory, swap = ("memory.max", "memory.swap.max") if kernel.unified() else (
        "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
    )  # fmt: skip
    limited = [value for value in kernel.limits(agent, "memory", memory) if value.isdigit()]
    assert min(map(int, limited)) == 512 * MIB
    with_swap = [int(value) for value in kernel.limits(agent, "memory", swap) if value.isdigit()]
    assert not with_swap or min(with_swap) == (0 if kernel.unified() else 512 * MIB)


@scenario("cpu")
def test_cpu_time_is_limited(agent: Path) -> None:
    if kernel.unified():
        quota, period = kernel.limits(agent, "cpu", "cpu.max")[0].split()
    else:
        quota, period = (kernel.limits(agent, "cpu", f"cpu.cfs_{what}_us")[0] for what in ("quota", "period"))
    assert int(quota) == int(period)


@scenario("processes")
def test_the_number_of_processes_is_limited(backend: Backend, alice: Sandbox, agent: Path) -> None:
    limited = [int(value) for value in kernel.limits(agent, "pids", "pids.max") if value != "max"]
    assert min(limited) == 512


# The key


@scenario("key-file")
def test_the_key_is_a_file_for_the_agent_alone(backend: Backend, alice: Sandbox) -> None:
    mode = "400 1000:1000" if kind_of(backend.id) == DOCKER else "440 0:1000"
    assert backend.run(alice, f"stat -L -c '%a %u:%g' {KEY_FILE}").output.strip() == mode
    assert backend.run(alice, f"cat {KEY_FILE}").output == KEY
    assert backend.run(alice, f"echo other > {KEY_FILE}").code != 0
    # Nor can it be put away and another one put in its place.
    directory = KEY_FILE.rpartition("/")[0]
    assert "Read-only file system" in backend.run(alice, f"touch {directory}/x").output
    if kind_of(backend.id) == DOCKER:
        assert backend.run(alice, f"stat -c '%a %u:%g' {directory}").output.strip() == "700 1000:1000"


@scenario("key-only-there")
def test_the_key_is_nowhere_else(backend: Backend, alice: Sandbox, place: Place) -> None:
    kinds = place.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
    kinds = [kind for kind in kinds if kind != "secrets" and not kind.startswith("events.")]
    objects = place.kubectl("get", ",".join(kinds), "-A", "-o", "json").stdout
    running = kernel.processes(backend.workload(alice))
    assert running
    visible = [(process / file).read_bytes().decode() for process in running for file in ("environ", "cmdline")]
    everything = {
        "the API server's objects": objects,
        "the processes": "\n".join(visible),
        "the operator's log": place.operator.log.read_text(),
        "the backend": backend.told(alice),
    }
    encoded = base64.b64encode(KEY.encode()).decode()
    for where, text in everything.items():
        assert KEY not in text, where
        assert encoded not in text, where
    # A search that finds nothing is worth something only where it finds what is there.
    assert encoded in place.kubectl("get", "secrets", "-A", "-o", "json").stdout
    assert '"alice"' in objects


@scenario("key-renewed")
def test_a_new_key_is_in_place_without_a_restart(backend: Backend, place: Place) -> None:
    place.secret("renewed", "the-first")
    made = place.apply("renewed", backend, credentials=mounted("renewed"))
    made.wait("Ready")
    before = backend.workload(made)
    seen = kernel.agent(before) / "root" / KEY_FILE.lstrip("/")
    assert seen.read_text() == "the-first"
    place.secret("renewed", "the-second")
    eventually("the new key is there", lambda: seen.read_text() == "the-second")
    made.wait("CredentialsCurrent", "True", "KeyMounted")
    assert backend.workload(made) == before
    place.delete(made)


@scenario("secret-mended")
def test_a_wrong_secret_is_told_and_mended(backend: Backend, place: Place) -> None:
    missing, opaque = f"missing-{backend.id}", f"opaque-{backend.id}"
    place.secret(opaque, "a-key-all-the-same", "Opaque")
    first = place.apply("missing", backend, credentials=mounted(missing))
    second = place.apply("opaque", backend, credentials=mounted(opaque))
    first.wait("Stalled", "True", "SecretNotFound")
    second.wait("Stalled", "True", "SecretNotOptedIn")
    for made, secret, command in ((first, missing, "create secret generic"), (second, opaque, "label secret")):
        remedy = made.condition("Stalled")["message"]
        assert f"kubectl {command}" in remedy
        assert secret in remedy
        assert backend.workload(made) == ""
    place.secret(missing, "a-key-at-last")
    place.kubectl("label", "secret", "-n", place.namespace, opaque, "claudesandbox.dev/api-key=true")
    for made, key in ((first, "a-key-at-last"), (second, "a-key-all-the-same")):
        made.wait("Ready")
        assert backend.run(made, f"cat {KEY_FILE}").output == key
    place.delete(first, second)


def _brokered(place: Place, alice: Sandbox) -> Sandbox:
    """One with a gateway, which was made when `alice` was."""
    made = Sandbox(place.kubectl, place.namespace, "brokered")
    made.wait("Ready")
    assert alice
    return made


@scenario("brokered")
def test_brokered_the_key_is_not_in_the_sandbox(backend: Backend, place: Place, alice: Sandbox) -> None:
    made = _brokered(place, alice)
    running = kernel.processes(backend.workload(made))
    placeholder = backend.run(made, f"cat {KEY_FILE}").output.strip()
    _is_not_in(KEY, running)
    # What is there is found.
    assert Search(placeholder).in_files(*_places(running))
    assert any(b"httpd" in kernel.memory(process) for process in running)
    # The provider here knows no such method, and says so: it was asked.
    for identity, status in ((placeholder, 501), (placeholder[:-4] + "AAAA", 401)):
        assert _status(backend.ask(made, identity)) == status


def _places(running: Sequence[Path]) -> list[Path]:
    """Where in a sandbox, by its processes, there are files of its own."""
    inside = [running[0] / "root" / one for one in ("run", "tmp", "home", "workspace", "etc", "var")]
    return [one for one in inside if one.is_dir()]


def _is_not_in(secret: str, running: Sequence[Path]) -> None:
    """Nor in a sandbox's files, nor in its processes' environment, command lines and memory."""
    search = Search(secret)
    found = search.in_files(*_places(running))
    for process in running:
        for file in ("environ", "cmdline"):
            found += search.in_bytes(file, (process / file).read_bytes())
        found += search.in_bytes("memory", kernel.memory(process))
    assert found == []


def _status(done: Done) -> int:
    found = re.search(r"HTTP/1\.[01] ([0-9]{3})", done.output)
    assert found is not None, done
    return int(found[1])


# The network


def _refused(backend: Backend, made: Sandbox, target: Target) -> None:
    eventually("the target answers where it may be asked", target.answers)
    assert backend.run(made, CONNECT.format(host=target.host, port=target.port)).code != 0
    assert target.answers()


@scenario("not-another-sandbox")
def test_another_sandbox_can_not_be_connected_to(backend: Backend, alice: Sandbox, bob: Sandbox) -> None:
    _refused(backend, alice, backend.another_sandbox(bob))


@scenario("not-the-host")
def test_the_host_can_not_be_connected_to(backend: Backend, alice: Sandbox) -> None:
    _refused(backend, alice, backend.host())


@scenario("not-the-control-plane")
def test_the_control_plane_can_not_be_connected_to(backend: Backend, alice: Sandbox) -> None:
    _refused(backend, alice, backend.control_plane())


@scenario("declared")
def test_what_is_declared_can_be_connected_to(backend: Backend, alice: Sandbox, bob: Sandbox) -> None:
    target = backend.declared
    _refused(backend, bob, target)
    done = backend.run(alice, CONNECT.format(host=target.host, port=target.port))
    if done.code != 0:
        raise results.CanNotError(done)


@scenario("by-name")
def test_brokered_it_reaches_what_is_declared_by_name(backend: Backend, place: Place, alice: Sandbox) -> None:
    made = _brokered(place, alice)
    # There is no page, and it is the server that says so.
    for name, status in ((DECLARED_NAME, 404), (OTHER_NAME, 403), (OUTSIDE, 403)):
        asked = f"/bin/busybox wget -S -O /dev/null http://{name}:{OUTSIDE_PORT}/no-page 2>&1"
        assert _status(backend.run(made, asked)) == status, name
    _refused(backend, made, backend.outside())


@scenario("ports")
def test_a_declared_port_can_be_connected_to_and_no_other(backend: Backend, place: Place) -> None:
    undeclared = PORT + 1
    network = {"egress": {"allowedCIDRs": []}, "ports": [{"name": f"p{PORT}", "containerPort": PORT}]}
    made = place.apply("ports", backend, network=network)
    made.wait("Ready")
    eventually("the declared port answers", lambda: backend.connects(made, PORT))
    opened = f"/bin/busybox httpd -p {undeclared} -h /bin && {CONNECT.format(host='127.0.0.1', port=undeclared)}"
    assert backend.run(made, opened).code == 0
    assert not backend.connects(made, undeclared)
    assert backend.connects(made, PORT)


# Work


@scenario("repositories")
def test_a_repository_is_cloned_and_pushed_to_as_declared(backend: Backend, place: Place, alice: Sandbox) -> None:
    made, git = Sandbox(place.kubectl, place.namespace, "repositories"), place.git
    assert alice
    assert git is not None
    made.wait("RepositoriesReady", "True", "Cloned")
    made.wait("Ready")
    main = git.refs()["refs/heads/main"]

    def run(script: str) -> Done:
        return backend.run(made, f"cd /workspace/project && {script} 2>&1")

    assert run("git rev-parse HEAD").output == f"{main}\n"
    assert run("git checkout -qb claude/work && echo more >>README && git commit -qam more").code == 0
    assert run("git push origin HEAD").code == 0
    pushed = run("git rev-parse HEAD").output.strip()
    refused = run("git push origin HEAD:main")
    assert refused.code != 0
    assert "only branches claude/*" in refused.output
    assert git.refs() == {"refs/heads/main": main, "refs/heads/claude/work": pushed}
    # Its credential is with the gateway alone.
    _is_not_in(TOKEN, kernel.processes(backend.workload(made)))


# Life and repair


@scenario("suspended")
def test_suspended_and_resumed_it_has_its_files(backend: Backend, place: Place) -> None:
    made = place.apply("suspended", backend, **EARLY["suspended"])
    made.wait("Ready")
    assert backend.run(made, "echo mine > /workspace/file").code == 0
    before = backend.workload(made)
    place.change(made, operatingMode="Suspended")
    made.wait("Ready", "False", "Suspended")
    eventually("no process is left", lambda: not kernel.processes(before))
    assert backend.workload(made) == ""
    place.change(made, operatingMode="Running")
    made.wait("Ready")
    assert backend.workload(made) not in ("", before)
    assert backend.run(made, "cat /workspace/file").output == "mine\n"
    place.delete(made)


@scenario("killed")
def test_a_workload_that_was_killed_is_back(backend: Backend, place: Place) -> None:
    made = place.apply("killed", backend, **EARLY["killed"])
    made.wait("Ready")
    before = backend.started(made)
    backend.kill(made)
    eventually("a workload was started since", lambda: backend.started(made) not in ("", before))
    place.healed(made)
    made.wait("Compliant")
    assert backend.run(made, f"cat {KEY_FILE}").output == KEY
    place.delete(made)


@scenario("loosened")
def test_what_was_loosened_is_put_back(backend: Backend, place: Place) -> None:
    made = place.apply("loosened", backend, **EARLY["loosened"])
    made.wait("Compliant")
    before = backend.workload(made)
    backend.loosen(made)
    eventually("it is put back", lambda: not backend.loosened(made))
    place.healed(made)
    made.wait("Compliant")
    assert backend.workload(made) == before
    place.delete(made)


@scenario("altered")
def test_what_only_a_new_workload_could_mend_is_told_or_mended(backend: Backend, place: Place) -> None:
    made = place.apply("altered", backend, **EARLY["altered"])
    made.wait("Compliant")
    before = backend.workload(made)
    backend.alter(made)
    made.wait("Drifted", "True", "PodDrifted")
    assert backend.workload(made) == before
    place.change(made, updateStrategy={"type": "Recreate"})
    eventually("another workload runs", lambda: backend.workload(made) not in ("", before))
    made.wait("Drifted", "False")
    made.wait("Ready")
    place.delete(made)


@scenario("deleted")
def test_deleted_it_leaves_nothing_or_its_workspace(backend: Backend, place: Place) -> None:
    leaving, keeping = (place.apply(name, backend, **EARLY[name]) for name in ("leaving", "keeping"))
    for one in (leaving, keeping):
        one.wait("Ready")
    assert backend.run(keeping, "echo mine > /workspace/file").code == 0
    running = [backend.workload(one) for one in (leaving, keeping)]
    assert all(running)
    assert backend.left("leaving")
    place.delete(leaving, keeping)
    eventually("nothing is left", lambda: not backend.left("leaving"))
    eventually("the workspace alone is left", lambda: len(backend.left("keeping")) == 1)
    (kept,) = backend.left("keeping")
    assert kept.endswith("-workspace")
    eventually("no process is left", lambda: not any(map(kernel.processes, running)))
    again = place.apply("keeping", backend, workspace=VOLUME)
    again.wait("Ready")
    assert backend.run(again, "cat /workspace/file").output == "mine\n"
    place.delete(again)
    eventually("nothing is left of it either", lambda: not backend.left("keeping"))


@scenario("restarted")
def test_an_operator_that_starts_anew_writes_nothing(backend: Backend, place: Place, alice: Sandbox) -> None:
    alice.wait("Compliant")
    assert place.operator.stop() == 0
    before = alice.get()["metadata"]["resourceVersion"], backend.fingerprint(alice.name)
    place.start_operator()
    # Another sandbox comes to rest after it: then the first was looked at.
    after = place.apply("after", backend)
    after.wait("Compliant")
    assert (alice.get()["metadata"]["resourceVersion"], backend.fingerprint(alice.name)) == before
    place.delete(after)


# Last, when all has been noted


def test_the_committed_results_are_these(
    request: pytest.FixtureRequest, backend: Backend, found: results.Results
) -> None:
    if set(found.scenarios.get(backend.id, {})) != {each.id for each in SCENARIOS}:
        pytest.skip("not all scenarios were run")
    if not request.config.getoption("--write-results", default=False):
        remedy = "run `make conformance` and commit tests/conformance/results.json and docs/reference/backends.md"
        assert results.read().get(backend.id) == found.of(backend.id), remedy
