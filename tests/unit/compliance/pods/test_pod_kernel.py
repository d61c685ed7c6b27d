"""The kernel of a pod's node beside the pod's object: either's failure counts, and both are told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from compliant_sandbox import MAX_AGE, NOW, SETTINGS, World, compliant

from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.catalogue import POD_WITNESSED
from claude_sandbox.compliance.evidence import mountinfo
from claude_sandbox.compliance.evidence.mountinfo import KernelMount
from claude_sandbox.compliance.evidence.pod_processes import ContainerProcesses, KeptLog, PodLogs, PodProcesses
from claude_sandbox.compliance.evidence.pods import KubernetesEvidence
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.compliance.reports.pods import findings
from claude_sandbox.procfs.limits import Limits
from claude_sandbox.procfs.listeners import Listener

AGENT, PAUSE, OTHER = "a" * 64, "b" * 64, "c" * 64
NONE, ALL = "0" * 16, "000001ffffffffff"
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - an address that is read
STATUS = {
    "Uid": "101000\t101000\t101000\t101000",
    "Gid": "101000\t101000\t101000\t101000",
    "Groups": "101000 ",
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), NONE),
    "NoNewPrivs": "1",
    "Seccomp": "2",
}
REMAPPED = "0 100000 65536\n"
MOUNTS = f"""\
0 0 0:62 / / ro - overlay none rw
0 0 0:65 / /proc rw,nosuid,nodev,noexec - proc none rw
0 0 0:66 / /dev rw,nosuid - tmpfs none rw,size=1
0 0 0:68 / /sys ro,nosuid,nodev,noexec - sysfs none ro
0 0 254:0 /pods/u/etc-hosts /etc/hosts rw - ext4 none rw
0 0 254:0 /pods/u/containers/agent/1 /dev/termination-log rw - ext4 none rw
0 0 0:69 / /dev/shm rw,nosuid,nodev,noexec - tmpfs none rw,size=1
0 0 0:70 / /tmp rw - tmpfs none rw,size=1
0 0 254:0 /pods/u/volumes/w /workspace rw - ext4 none rw
0 0 0:71 / /run/api-key ro - tmpfs none rw,size=1
0 0 0:72 / {SETTINGS.directory} ro - tmpfs none rw
0 0 0:65 /sys /proc/sys ro,nosuid,nodev,noexec - proc none rw
0 0 0:66 /null /proc/kcore rw,nosuid - tmpfs none rw
"""


def status(**changes: str) -> str:
    return "".join(f"{name}:\t{value}\n" for name, value in (STATUS | changes).items())


def process(**fields: Any) -> Process:
    told: dict[str, Any] = {
        "status": status(),
        "uid_map": REMAPPED,
        "gid_map": REMAPPED,
        "limits": Limits(2 << 30, 2, 512),
        "mounts": mountinfo.parse(MOUNTS),
        "system_files": frozenset({"kcore"}),
        "confinement": "cri-containerd.apparmor.d (enforce)",
        "namespaces": {"pid": False, "net": False},
        "maps_are_the_hosts": True,
    }
    return Process(**(told | fields))


def mounted(place: str, **fields: Any) -> tuple[KernelMount, ...]:
    mounts = {one.place: one for one in mountinfo.parse(MOUNTS)}
    other = KernelMount("254:0", "/x", place, frozenset({"rw"}), False, "ext4", False)
    mounts[place] = replace(mounts.get(place, other), **fields)
    return tuple(mounts.values())


QUIET = PodLogs({"agent": KeptLog(64 << 20, False)}, True)


def pod(
    *processes: Process,
    others: tuple[ContainerProcesses, ...] | None = None,
    whole: bool = True,
    listeners: tuple[Listener, ...] | None = (),
    logs: PodLogs | None = QUIET,
) -> PodProcesses:
    """The agent's container, with these processes; and what holds the pod's network."""
    holder = ContainerProcesses(PAUSE, (process(status=status(CapBnd="00000000a80425fb")),), 1)
    agent = ContainerProcesses(AGENT, processes or (process(),), max(len(processes), 1), whole)
    containers = (ContainerProcesses("", (), 0), agent, *((holder,) if others is None else others))
    return PodProcesses(containers, True, listeners, logs)


def world() -> World:
    """A compliant one whose processes are the node's own."""
    found = compliant()
    found.runtime_class = None
    del found.spec["runtimeClassName"]
    found.pod["status"]["containerStatuses"][0] |= {"containerID": f"containerd://{AGENT}", "state": {"running": {}}}
    return found


def evidence(told: PodProcesses | Unread | None, of: World | None = None) -> KubernetesEvidence:
    reading = Reading(told, EvidenceSource.HOST_PROC, NOW) if isinstance(told, PodProcesses) else told
    return replace((of or world()).evidence(), kernel=reading)


def found(told: PodProcesses | Unread | None, of: World | None = None) -> dict[str, Finding]:
    return {one.control.id: one for one in findings(evidence(told, of))}


def failing(results: dict[str, Finding]) -> set[str]:
    """Without KERN-06: the node's own kernel, which is the witness here, is not a hardened one."""
    return {id for id, one in results.items() if one.result is Result.FAIL} - {"KERN-06"}


def test_where_both_agree_the_kernel_is_what_the_result_rests_on() -> None:
    results = found(pod())
    for id in POD_WITNESSED:
        assert (results[id].result, results[id].source) == (Result.PASS, EvidenceSource.HOST_PROC), results[id]
    assert results["FS-05"].source is EvidenceSource.LIVE_OBJECT


CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a capability": ({"status": status(CapEff="0000000000200000")}, "PRIV-02", "CapEff"),
    "all capabilities": ({"status": status(CapBnd=ALL)}, "PRIV-01 PRIV-02", "all capabilities"),
    "privileges to be gained": ({"status": status(NoNewPrivs="0")}, "PRIV-03", "gain privileges"),
    "root": ({"status": status(Uid="100000\t100000\t100000\t100000")}, "PRIV-04", "uid 0"),
    "root's group": ({"status": status(Gid="100000\t100000\t100000\t100000")}, "PRIV-05", "root's group"),
    "a system's group": ({"status": status(Groups="101000 100010 ")}, "PRIV-05", "system group 10"),
    "no filter": ({"status": status(Seccomp="0")}, "KERN-01", "filters no system calls"),
    "the host's users": (
        {"uid_map": "0 0 4294967295\n", "gid_map": "0 0 4294967295\n"}, "PRIV-06", "root on the host"
    ),
    "unconfined": ({"confinement": "unconfined"}, "KERN-02", "unconfined"),
    "complaining": ({"confinement": "cri-containerd.apparmor.d (complain)"}, "KERN-02", "complain"),
    "what is not masked": ({"system_files": frozenset({"kcore", "keys"})}, "KERN-04", "/proc/keys"),
    "the host's processes": ({"namespaces": {"pid": True, "net": False}}, "NS-01", "host's pid"),
    "the host's network": ({"namespaces": {"pid": False, "net": True}}, "NS-03", "host's net"),
    "a root that can be written to": ({"mounts": mounted("/", options=frozenset({"rw"}))}, "FS-01", "root file system"),
    "shared mounts": ({"mounts": mounted("/workspace", shared=True)}, "FS-06", "/workspace"),
    "an image's own volume": ({"mounts": mounted("/var/lib/data")}, "FS-08", "/var/lib/data"),
    "what was to be read only": ({"mounts": mounted("/run/api-key", options=frozenset({"rw"}), root="/x")},
                                 "FS-08", "/run/api-key"),
    "settings that are covered": ({"mounts": mounted("/etc")}, "FS-08 SEC-04", "/etc"),
    "more memory": ({"limits": Limits(4 << 30, 2, 512)}, "RES-01", "memory limit"),
    "more CPUs": ({"limits": Limits(2 << 30, 3, 512)}, "RES-02", "cpu limit"),
    "any number of processes": ({"limits": Limits(2 << 30, 2, float("inf"))}, "RES-03", "any number"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_the_kernel_says_otherwise_fails_and_both_are_told(name: str) -> None:
    fields, expected, word = CASES[name]
    for processes in ((process(**fields),), (process(), process(**fields))):
        results = found(pod(*processes))
        assert failing(results) == set(expected.split())
        for id in failing(results):
            one = results[id]
            assert one.source is EvidenceSource.HOST_PROC
            assert one.remedy
            assert "container agent: " in one.verdict.message
            assert id == "RES-03" or "the pod's object says it is well, but " in one.verdict.message
        assert any(word in results[id].verdict.message for id in failing(results))


def test_every_control_that_the_kernel_is_a_witness_to_is_seen_failing() -> None:
    assert {id for _, expected, _ in CASES.values() for id in expected.split()} | {
        *("PRIV-08", "OPS-02", "RES-08"),
    } == POD_WITNESSED.keys()


def test_what_the_object_says_is_wrong_the_kernel_does_not_excuse() -> None:
    loose = world()
    loose.agent["securityContext"]["readOnlyRootFilesystem"] = False
    one = found(pod(), loose)["FS-01"]
    assert one.result is Result.FAIL
    assert "root file system" in one.verdict.message


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(
            (ContainerProcesses(OTHER, (process(),), 1), ContainerProcesses(PAUSE, (process(),), 1)), id="two"
        ),
        pytest.param((ContainerProcesses(PAUSE, (process(),), 2),), id="more than one process"),
    ],
)
def test_a_container_that_the_api_does_not_know_is_foreign(others: tuple[ContainerProcesses, ...]) -> None:
    results = found(pod(others=others))
    assert failing(results) == {"PRIV-08"}


def test_processes_in_none_of_the_pods_containers_are_foreign() -> None:
    loose = ContainerProcesses("", (process(status=status(CapBnd=ALL, CapEff=ALL)),), 1)
    told = replace(pod(), containers=(loose, *pod().containers[1:]))
    results = found(told)
    assert failing(results) == {"PRIV-01", "PRIV-08"}
    assert "in none of its containers" in results["PRIV-01"].verdict.message


def test_the_kernel_settles_what_no_object_tells() -> None:
    unsure = world()
    unsure.declare(plain_images=frozenset())
    assert found(None, unsure)["FS-08"].result is Result.UNKNOWN
    assert found(pod(), unsure)["FS-08"].result is Result.PASS
    del unsure.pod["status"]["containerStatuses"][0]["user"]
    assert found(None, unsure)["PRIV-05"].result is Result.UNKNOWN
    assert found(pod(), unsure)["PRIV-05"].result is Result.PASS
    assert found(None, unsure)["RES-03"].result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("listeners", "result", "word"),
    [
        ((), Result.PASS, "nothing listens"),
        ((Listener("tcp", 8080, ALL_ADDRESSES),), Result.PASS, "tcp 0.0.0.0:8080"),
        ((Listener("tcp", 2222, "::"), Listener("tcp", 8080, ALL_ADDRESSES)), Result.FAIL, "declared: tcp [::]:2222"),
        # What is declared are ports of TCP.
        ((Listener("udp", 8080, "10.0.0.7"),), Result.FAIL, "udp 10.0.0.7:8080"),
        (tuple(Listener("tcp", port, "::") for port in range(9000, 9065)), Result.FAIL, "and 57 more"),
        (None, Result.UNKNOWN, "the kernel does not tell what listens"),
    ],
)
def test_what_listens_where_nothing_is_declared_fails_and_is_named(
    listeners: tuple[Listener, ...] | None, result: Result, word: str
) -> None:
    declared = world()
    declared.declare(ports=(8080,))
    one = found(pod(listeners=listeners), declared)["OPS-02"]
    assert (one.result, one.required) == (result, False)
    assert word in one.verdict.message + one.verdict.value
    assert (one.source is EvidenceSource.HOST_PROC) == (result is not Result.UNKNOWN)


@pytest.mark.parametrize("namespaces", [{"pid": False, "net": True}, {"pid": False}])
def test_in_the_node_s_network_nobody_knows_who_listens(namespaces: dict[str, bool]) -> None:
    assert found(pod(process(), process(namespaces=namespaces)))["OPS-02"].result is Result.UNKNOWN


def kept(size: int, *, rotated: bool = False, rotates: bool = True, name: str = "agent") -> PodLogs:
    return PodLogs({name: KeptLog(size << 20, rotated)}, rotates)


@pytest.mark.parametrize(
    ("logs", "result", "word"),
    [
        (kept(64), Result.PASS, "up to 64 MiB are kept; its node rotates others'"),
        (kept(1024, rotated=True), Result.PASS, "up to 1024 MiB are kept; its node rotates its own"),
        (kept(2048, rotated=True), Result.FAIL, "more than 1024 MiB of what container agent wrote"),
        (kept(2048, rotates=False), Result.FAIL, "more than 1024 MiB"),
        (kept(64, rotates=False), Result.UNKNOWN, "has not rotated anybody's output yet"),
        (kept(64, name="other"), Result.UNKNOWN, "tells of no output of container agent"),
        (None, Result.UNKNOWN, "no agent sees"),
    ],
)
def test_how_much_of_its_output_its_node_keeps(logs: PodLogs | None, result: Result, word: str) -> None:
    one = found(pod(logs=logs))["RES-08"]
    assert (one.result, bool(one.remedy)) == (result, result is Result.FAIL)
    assert word in one.verdict.message + one.verdict.value


def without_kernel(one: dict[str, Finding]) -> dict[str, tuple[Result, str, EvidenceSource | None]]:
    return {id: (each.result, each.verdict.message, each.source) for id, each in one.items()}


BAD = pod(process(status=status(CapEff=ALL)))


def aged(one: KubernetesEvidence) -> KubernetesEvidence:
    old = NOW - MAX_AGE - timedelta(seconds=1)
    return replace(one, kernel=Reading(BAD, EvidenceSource.HOST_PROC, old))


def sandboxed(one: KubernetesEvidence) -> KubernetesEvidence:
    return replace(one, runtime_class=Reading({"handler": "runsc"}, EvidenceSource.LIVE_OBJECT, NOW))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(aged, id="too old"),
        pytest.param(sandboxed, id="another kernel between"),
        pytest.param(lambda one: replace(one, kernel=None), id="no agent"),
    ],
)
def test_where_it_says_nothing_results_rest_on_the_object(
    change: Callable[[KubernetesEvidence], KubernetesEvidence],
) -> None:
    changed = change(evidence(BAD))
    told = {one.control.id: one for one in findings(changed)}
    plain = {one.control.id: one for one in findings(replace(changed, kernel=None))}
    assert without_kernel(told) == without_kernel(plain)
    assert told["PRIV-02"].result is Result.PASS


def test_a_container_that_it_does_not_tell_of_is_judged_by_the_object() -> None:
    told = found(PodProcesses((ContainerProcesses(PAUSE, (process(),), 1),)))
    assert (told["PRIV-02"].result, told["PRIV-02"].source) == (Result.PASS, EvidenceSource.LIVE_OBJECT)


@pytest.mark.parametrize(
    "told", [Unread("nonsense"), pod(whole=False), replace(pod(), whole=False), pod(process(status="CapBnd:\tno\n"))]
)
def test_what_confuses_the_witness_turns_passes_into_unknown(told: PodProcesses | Unread) -> None:
    results = found(told)
    assert results["PRIV-01"].result is Result.UNKNOWN
    assert "the kernel's word on its processes can't be taken" in results["PRIV-01"].verdict.message
    assert results["FS-05"].result is Result.PASS


def test_ever_so_much_to_look_at_hides_no_failure() -> None:
    assert found(pod(process(status=status(CapEff=ALL)), whole=False))["PRIV-02"].result is Result.FAIL
