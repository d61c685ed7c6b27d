"""The kernel's word beside the engine's: it refutes, it settles what the image decides, and it counts only if it is of
this very container.
"""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from compliant_container import NOW, compliant

from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.backends.docker.evidence.proc import read_process
from claude_sandbox.compliance.catalogue import WITNESSED
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.witness_mounts import writable
from claude_sandbox.compliance.evidence import mountinfo
from claude_sandbox.compliance.evidence.containers import Declared, DeclaredPort, DockerEvidence
from claude_sandbox.compliance.evidence.image_files import ImageFiles
from claude_sandbox.compliance.evidence.mountinfo import KernelMount
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.procfs.limits import Limits
from claude_sandbox.procfs.listeners import Listener

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - an address that is read
STATUS = {
    "Uid": "1000\t1000\t1000\t1000",
    "Gid": "1000\t1000\t1000\t1000",
    "Groups": "1000 ",
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    "NoNewPrivs": "1",
    "Seccomp": "2",
}
SAME = "         0          0 4294967295\n"
ALONE = dict.fromkeys(("cgroup", "ipc", "net", "pid", "uts"), False)
REMAPPED = "         0     100000      65536\n"
# Of a sandbox's container on an engine of the release 29, with some of its mounts left out.
# Nobody declares managed settings of this container: test_container_settings.py has one of which somebody does.
UNDECLARED = {"SEC-04"}
MOUNTS = """\
1094 1056 0:62 / / ro,relatime - overlay overlay rw,lowerdir=/var/lib/docker/l/A:/var/lib/docker/l/B,index=off
1095 1094 0:65 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1096 1094 0:66 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
1097 1096 0:67 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620,ptmxmode=666
1098 1094 0:68 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
1099 1098 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
1110 1099 0:29 / /sys/fs/cgroup/pids ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,pids
1100 1096 0:64 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
1101 1096 0:69 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k
1102 1094 0:70 / /tmp rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=262144k,mode=700,uid=1000,gid=1000
1103 1094 254:0 /docker/volumes/w/_data /workspace rw,relatime - ext4 /dev/vda rw
1104 1094 254:0 /docker/containers/c/hosts /etc/hosts ro,relatime - ext4 /dev/vda rw
1105 1094 0:71 / /run/claude-sandbox/api-key ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=64k,mode=700
1106 1095 0:65 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw
1107 1095 0:66 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
1108 1095 0:66 /null /proc/keys rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
1109 1098 0:72 / /sys/firmware ro,relatime - tmpfs tmpfs ro
"""


def status(**changes: str) -> str:
    return "".join(f"{name}:\t{value}\n" for name, value in {"Name": "sleep", **STATUS, **changes}.items())


def process(text: str = "", limits: Limits | None = None, uid_map: str = SAME, **fields: Any) -> Process:
    return Process(text or status(), uid_map, SAME, limits or Limits(), **fields)


def complete(**fields: Any) -> Process:
    """Of a container that nothing is wrong with, on a kernel that tells everything."""
    told: dict[str, Any] = {
        "limits": limits_of(compliant().container),
        "uid_map": REMAPPED,
        "text": status(Uid="101000\t101000\t101000\t101000"),
        "open_files": compliant().container["HostConfig"]["Ulimits"][0]["Hard"],
        "mounts": mountinfo.parse(MOUNTS),
        "system_files": frozenset({"kcore", "keys"}),
        "confinement": "docker-default (enforce)",
        "namespaces": ALONE,
        "maps_are_the_hosts": True,
        "listeners": (),
        "files": ImageFiles(),
    }
    return process(**(told | fields))


def mounted(place: str, **fields: Any) -> tuple[KernelMount, ...]:
    """The mounts with another one in this place, which is added where there is none."""
    mounts = {one.place: one for one in mountinfo.parse(MOUNTS)}
    other = KernelMount("254:0", "/x", place, frozenset({"rw"}), False, "ext4", False)
    mounts[place] = replace(mounts.get(place, other), **fields)
    return tuple(mounts.values())


def found(one: Process, **document: Any) -> dict[str, Finding]:
    world = compliant()
    container = dict(world.container)
    for path, value in document.items():
        section, key = path.split("__")
        container[section] = container[section] | {key: value}
    evidence = DockerEvidence(
        declared=world.declared,
        container=Reading(container, EvidenceSource.INSPECT, NOW),
        now=NOW,
        networks=world.networks,
        volumes=world.volumes,
        process=Reading(one, EvidenceSource.HOST_PROC, NOW),
    )
    return {finding.control.id: finding for finding in findings(evidence)}


def limits_of(document: dict[str, Any], factor: float = 1) -> Limits:
    host = document["HostConfig"]
    return Limits(host["Memory"] * factor, host["NanoCpus"] / 1e9 * factor, host["PidsLimit"] * factor)


def test_where_both_agree_the_kernel_is_what_the_result_rests_on() -> None:
    results = found(complete())
    # What it says of devices can only refute.
    for id in WITNESSED.keys() - UNDECLARED - {"FS-05"}:
        assert (results[id].result, results[id].source) == (Result.PASS, EvidenceSource.HOST_PROC), results[id]
    assert results["FS-02"].source is EvidenceSource.INSPECT


@pytest.mark.parametrize(
    ("id", "fields", "word"),
    [
        ("PRIV-01", {"text": status(CapBnd="000001ffffffffff", Uid="101000\t101000\t101000\t101000")}, "all"),
        ("PRIV-06", {"uid_map": SAME, "text": status()}, "root on the host"),
        ("KERN-02", {"confinement": "unconfined"}, "unconfined"),
        ("KERN-02", {"confinement": "docker-default (complain)"}, "complain"),
        ("KERN-04", {"mounts": mounted("/proc/sys", options=frozenset({"rw"}))}, "/proc/sys"),
        ("KERN-04", {"mounts": mounted("/sys", options=frozenset({"rw"}))}, "/sys"),
        ("KERN-04", {"system_files": frozenset({"kcore", "timer_list"})}, "/proc/timer_list"),
        *((id, {"namespaces": ALONE | {name: True}}, f"host's {name}") for id, name in (
            ("NS-01", "pid"), ("NS-02", "ipc"), ("NS-03", "net"), ("NS-04", "uts"), ("NS-04", "cgroup"))),
        ("FS-01", {"mounts": mounted("/", options=frozenset({"rw"}))}, "root file system"),
        ("FS-06", {"mounts": mounted("/workspace", shared=True)}, "/workspace"),
        ("FS-07", {"mounts": mounted("/tmp", sized=False)}, "/tmp"),
        ("FS-07", {"mounts": mounted("/tmp", options=frozenset({"rw", "nosuid"}))}, "/tmp"),
        ("FS-07", {"mounts": mounted("/tmp", options=frozenset({"rw", "nodev"}))}, "/tmp"),
        ("FS-08", {"mounts": mounted("/data")}, "/data"),
        ("FS-08", {"mounts": mounted("/etc/passwd")}, "/etc/passwd"),
        ("FS-08", {"mounts": mounted("/mnt/x", kind="tmpfs")}, "/mnt/x"),
        ("RES-04", {"open_files": float("inf")}, "open files"),
    ],
)  # fmt: skip
def test_what_the_kernel_has_otherwise_than_the_engine_says_fails_and_both_are_told(
    id: str, fields: dict[str, Any], word: str
) -> None:
    results = found(complete(**fields))
    failing = {one for one, finding in results.items() if finding.result is Result.FAIL}
    # Who may have all capabilities may have more than one.
    assert failing == ({id, "PRIV-02"} if id == "PRIV-01" else {id})
    message = results[id].verdict.message
    assert word in message
    assert id == "PRIV-06" or "the engine's document says it is well, but " in message
    assert results[id].source is EvidenceSource.HOST_PROC


@pytest.mark.parametrize(
    ("mounts", "fails"),
    [
        (mounted("/tmp"), False),
        (mounted("/tmp", options=frozenset({"rw", "nosuid", "nodev"})), True),
        # Covered with another one: the last one counts.
        ((*mounted("/tmp"), replace(mounted("/tmp")[-1], place="/tmp", options=frozenset({"ro"}), kind="ext4")), True),
        (tuple(one for one in mounted("/tmp") if one.place != "/tmp"), True),
    ],
    ids=["noexec", "exec", "covered", "not there"],
)
def test_where_no_program_is_meant_to_run_the_kernel_has_to_say_noexec(
    mounts: tuple[KernelMount, ...], fails: bool
) -> None:
    world = compliant()
    world.declare(without_programs=frozenset({"/tmp"}))
    evidence = DockerEvidence(
        declared=world.declared,
        container=Reading(world.container, EvidenceSource.INSPECT, NOW),
        now=NOW,
        networks=world.networks,
        volumes=world.volumes,
        process=Reading(complete(mounts=mounts), EvidenceSource.HOST_PROC, NOW),
    )
    (found,) = [one for one in findings(evidence) if one.control.id == "FS-07"]
    assert (found.result is Result.FAIL) == fails, found
    assert not fails or "/tmp" in found.verdict.message


def test_old_words_of_the_kernel_count_for_nothing_and_the_result_is_as_old_as_the_older_witness() -> None:
    long_ago = NOW - timedelta(hours=1)
    loose = complete(namespaces={"pid": True})
    evidence = DockerEvidence(
        declared=compliant().declared,
        container=Reading(compliant().container, EvidenceSource.INSPECT, NOW - timedelta(minutes=2)),
        now=NOW,
        networks=(),
        process=Reading(loose, EvidenceSource.HOST_PROC, NOW),
        max_age=timedelta(minutes=10),
    )
    result = {finding.control.id: finding for finding in findings(evidence)}["NS-01"]
    assert (result.result, result.observed_at) == (Result.FAIL, NOW - timedelta(minutes=2))
    stale = replace(evidence, process=Reading(loose, EvidenceSource.HOST_PROC, long_ago))
    result = {finding.control.id: finding for finding in findings(stale)}["NS-01"]
    assert (result.result, result.source) == (Result.PASS, EvidenceSource.INSPECT)
    lost = replace(evidence, container=Reading(compliant().container, EvidenceSource.INSPECT, long_ago))
    assert not {finding.result for finding in findings(lost)} & {Result.PASS, Result.FAIL}


def test_whose_users_a_container_has_is_told_by_the_engine_where_the_kernel_can_not_be_asked() -> None:
    for remaps, result in ((True, Result.PASS), (False, Result.FAIL), (None, Result.UNKNOWN)):
        world = compliant()
        world.remaps_users = remaps
        assert world.results()["PRIV-06"] is result
    # Within a user namespace, the host's numbers are not to be seen.
    inside = found(complete(maps_are_the_hosts=False))["PRIV-06"]
    assert (inside.result, inside.source) == (Result.UNKNOWN, EvidenceSource.INSPECT)


def test_a_path_with_a_space_and_one_that_the_file_system_keeps_from_writing_are_read_right() -> None:
    line = "9 8 254:0 /a\\040b /mnt/c\\040d rw,relatime shared:4 master:2 - ext4 /dev/vda ro,errors=x\n"
    (one,) = mountinfo.parse(line)
    assert (one.root, one.place, one.shared, one.writable) == ("/a b", "/mnt/c d", True, False)
    with pytest.raises(ValueError, match="separator"):
        mountinfo.parse("nonsense\n")


@pytest.mark.parametrize(
    ("id", "changes"),
    [
        *(("PRIV-02", {name: "0000000000200000"}) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
        ("PRIV-03", {"NoNewPrivs": "0"}),
        ("PRIV-04", {"Uid": "1000\t1000\t0\t1000"}),
        ("PRIV-05", {"Gid": "0\t0\t0\t0"}),
        ("PRIV-05", {"Groups": "999 1000"}),
        ("KERN-01", {"Seccomp": "0"}),
    ],
)
def test_a_container_that_the_engine_finds_fine_fails_where_the_kernel_says_otherwise(
    id: str, changes: dict[str, str]
) -> None:
    results = found(process(status(**changes)))
    assert results[id].result is Result.FAIL
    assert results[id].source is EvidenceSource.HOST_PROC
    assert results[id].remedy
    assert [one for one, finding in results.items() if finding.result is Result.FAIL] == [id]


@pytest.mark.parametrize("factor", [1.5, float("inf")])
def test_looser_limits_than_the_engine_tells_fail(factor: float) -> None:
    results = found(process(limits=limits_of(compliant().container, factor)))
    assert {results[id].result for id in ("RES-01", "RES-02", "RES-03")} == {Result.FAIL}


def test_what_the_kernel_does_not_tell_leaves_the_engines_word() -> None:
    results = found(process("Name:\tsleep\n"))
    untold = {"PRIV-06", "PRIV-07", "OPS-02"}
    for id in WITNESSED.keys() - untold - UNDECLARED:
        assert (results[id].result, results[id].source) == (Result.PASS, EvidenceSource.INSPECT)
    assert {results[id].result for id in untold} == {Result.UNKNOWN}


def test_what_listens_on_no_declared_port_fails_and_is_named() -> None:
    ssh, web = Listener("tcp", 2222, ALL_ADDRESSES), Listener("tcp", 8080, "::")
    world = compliant()
    declared = replace(world.declared, ports=(DeclaredPort(8080, "127.0.0.1"),))
    judge = WITNESSED["OPS-02"]
    told = judge(complete(listeners=(web, ssh)), Container(world.container, declared))
    assert (told.result, told.message) == (
        *(Result.FAIL, "something listens in it where no port is declared: tcp 0.0.0.0:2222"),
    )
    told = judge(complete(listeners=(web,)), Container(world.container, declared))
    assert (told.result, told.value) == (Result.PASS, "kernel: tcp [::]:8080")
    # Neither of a network that it shares with the machine, nor where nobody declares anything.
    shared = complete(listeners=(ssh,), namespaces={**ALONE, "net": True})
    assert judge(shared, Container(world.container, declared)).result is Result.UNKNOWN
    undeclared = Container(world.container, replace(declared, ports=None))
    assert judge(complete(listeners=(ssh,)), undeclared).result is Result.UNKNOWN
    assert judge(complete(listeners=None), Container(world.container, declared)).result is Result.UNKNOWN


SETUID = ImageFiles(("/usr/bin/su (set-user-ID)",), 3)


def test_setuid_programs_are_evidence_where_they_have_no_effect_and_told_where_they_have() -> None:
    told = found(complete(files=SETUID))["PRIV-03"]
    assert (told.result, told.source) == (Result.PASS, EvidenceSource.HOST_PROC)
    assert "without effect then: /usr/bin/su (set-user-ID) and 2 more" in told.verdict.value
    free = complete(files=SETUID, text=status(Uid="101000\t101000\t101000\t101000", NoNewPrivs="0"))
    told = found(free)["PRIV-03"]
    assert told.result is Result.FAIL
    assert "for example by programs of its image: /usr/bin/su (set-user-ID) and 2 more" in told.verdict.message
    unseen = found(complete(files=replace(ImageFiles(), whole=False)))["PRIV-03"]
    assert "none seen, and more than is looked at" in unseen.verdict.value


@pytest.mark.parametrize(
    ("files", "result"),
    [
        (ImageFiles(), Result.PASS),
        (SETUID, Result.FAIL),
        (replace(SETUID, whole=False), Result.FAIL),
        (ImageFiles(whole=False), Result.UNKNOWN),
        (None, Result.UNKNOWN),
    ],
)
def test_an_image_without_setuid_programs_is_one_of_which_all_was_looked_at(
    files: ImageFiles | None, result: Result
) -> None:
    told = found(complete(files=files))["PRIV-07"]
    assert told.result is result
    assert ("/usr/bin/su (set-user-ID) and 2 more" in told.verdict.message) == (result is Result.FAIL)
    assert not told.required


@pytest.mark.parametrize(
    ("files", "result", "source"),
    [
        (ImageFiles(devices=("/dev/sda (b 8:0)",), device_count=1, whole=False), Result.FAIL, EvidenceSource.HOST_PROC),
        (ImageFiles(whole=False), Result.PASS, EvidenceSource.INSPECT),
        (None, Result.PASS, EvidenceSource.INSPECT),
    ],
)
def test_devices_among_its_files_fail_whatever_the_engine_says(
    files: ImageFiles | None, result: Result, source: EvidenceSource
) -> None:
    told = found(complete(files=files))["FS-05"]
    assert (told.result, told.source) == (result, source)
    assert ("/dev/sda (b 8:0)" in told.verdict.message) == (result is Result.FAIL)


def test_what_the_engine_says_is_wrong_stays_wrong() -> None:
    results = found(process(), HostConfig__CapDrop=[], HostConfig__SecurityOpt=[])
    assert results["PRIV-02"].result is results["PRIV-03"].result is Result.FAIL
    assert "does not drop ALL" in results["PRIV-02"].verdict.message


def test_a_user_by_name_is_whom_the_kernel_runs() -> None:
    assert found(process(), Config__User="agent:agent")["PRIV-04"].result is Result.PASS
    root = process(status(Uid="0\t0\t0\t0"))
    assert found(root, Config__User="agent:agent")["PRIV-04"].result is Result.FAIL


def test_a_user_by_name_is_not_settled_while_another_process_is_root() -> None:
    """Whoever is let in is so for a moment: where the document says who its user is, nothing changes by it."""
    some = replace(process(), users=frozenset({0, 1000}), maps_are_the_hosts=True)
    assert found(some, Config__User="agent:agent")["PRIV-04"].result is Result.UNKNOWN
    assert found(some, Config__User="agent:agent")["PRIV-05"].result is Result.UNKNOWN
    assert found(some)["PRIV-04"].result is found(some)["PRIV-05"].result is Result.PASS
    # Seen from a namespace of users, 0 is somebody's root, and not the machine's.
    elsewhere = replace(some, maps_are_the_hosts=False)
    assert found(elsewhere, Config__User="agent:agent")["PRIV-04"].result is Result.PASS


def test_who_calls_itself_another_in_a_namespace_of_its_own_is_still_the_machine_s_root() -> None:
    root = status(Uid="0\t0\t0\t0")
    one = replace(process(root, uid_map="      1000          0          1\n"), maps_are_the_hosts=True)
    assert found(one, Config__User="agent:agent")["PRIV-04"].result is Result.FAIL


def test_a_profile_that_is_not_shown_is_not_settled_by_there_being_one() -> None:
    options = ["no-new-privileges", "seccomp=/etc/docker/mine.json"]
    assert found(process(), HostConfig__SecurityOpt=options)["KERN-01"].result is Result.UNKNOWN


def test_users_are_meant_as_the_container_calls_them() -> None:
    root = process(status(Uid="100000\t100000\t100000\t100000"), uid_map=REMAPPED)
    assert found(root)["PRIV-04"].result is Result.FAIL
    agent = process(status(Uid="101000\t101000\t101000\t101000"), uid_map=REMAPPED)
    assert found(agent)["PRIV-04"].result is Result.PASS


class Machine:
    """A /proc with one process, and control groups of either version."""

    def __init__(self, directory: Path, membership: str) -> None:
        self.proc, self.cgroups = directory / "proc", directory / "cgroup"
        self.place = self.proc / "42"
        self.place.mkdir(parents=True)
        for name, content in {"status": status(), "uid_map": SAME, "gid_map": SAME, "cgroup": membership}.items():
            (self.place / name).write_text(content)

    def group(self, path: str, **files: str) -> None:
        (self.cgroups / path).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (self.cgroups / path / name.replace("__", ".")).write_text(content + "\n")

    def namespaces(self, process: str, **numbers: int) -> None:
        directory = self.proc / process / "ns"
        directory.mkdir(parents=True, exist_ok=True)
        for name, number in numbers.items():
            (directory / name).unlink(missing_ok=True)
            (directory / name).symlink_to(f"{name}:[{number}]")

    def read(self, **container: Any) -> Process | None:
        document = {"Id": "c" * 64, "State": {"Pid": 42}, "HostConfig": {"Runtime": "runc"}} | container
        return read_process(document, self.proc, self.cgroups)


def test_limits_are_read_in_either_version_of_control_groups(tmp_path: Path) -> None:
    new = Machine(tmp_path / "2", f"0::/system.slice/docker-{'c' * 64}.scope\n")
    path = f"system.slice/docker-{'c' * 64}.scope"
    new.group(path, memory__max="max", cpu__max="50000 100000", pids__max="64")
    read = new.read()
    assert read is not None
    assert read.limits == Limits(float("inf"), 0.5, 64)
    old = Machine(tmp_path / "1", "".join(f"{n}:{c}:/docker/{'c' * 64}\n" for n, c in
                  enumerate(("pids", "cpu,cpuacct", "memory", "name=systemd"), 1)))  # fmt: skip
    old.group(f"memory/docker/{'c' * 64}", memory__limit_in_bytes="134217728")
    old.group(f"cpu,cpuacct/docker/{'c' * 64}", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    old.group(f"pids/docker/{'c' * 64}", pids__max="max")
    read = old.read()
    assert read is not None
    assert read.limits == Limits(134217728, float("inf"), float("inf"))


def test_another_machines_or_another_containers_process_is_no_witness(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"0::/docker/{'d' * 64}\n")
    assert machine.read() is None
    assert machine.read(Id="d" * 64) is not None
    assert machine.read(Id="d" * 64, State={"Pid": 43}) is None
    assert machine.read(Id="d" * 64, State={"Pid": 0}) is None
    # There, the process on the host is not the one in the container.
    assert machine.read(Id="d" * 64, HostConfig={"Runtime": "runsc"}) is None


def test_a_limit_that_can_not_be_read_says_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"0::/docker/{'c' * 64}\n")
    read = machine.read()
    assert read is not None
    assert read == replace(read, limits=Limits())


def test_the_hosts_namespaces_are_known_by_their_numbers_or_by_whose_they_are(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"0::/docker/{'c' * 64}\n")
    assert (read := machine.read()) is not None
    assert read.namespaces == {}
    first = {"ipc": 4026531839, "uts": 4026531838, "pid": 4026531836, "cgroup": 4026531835, "net": 4026531840}
    machine.namespaces("42", **{**first, "ipc": 1})
    # Nobody may look at the first process, and the reader is elsewhere: whose network it is can't be told.
    machine.namespaces("self", **dict.fromkeys(first, 7))
    assert (read := machine.read()) is not None
    assert read.namespaces == {"ipc": False, "uts": True, "pid": True, "cgroup": True}
    machine.namespaces("1", net=4026531840)
    assert (read := machine.read()) is not None
    assert read.namespaces["net"] is True
    # An operator that is itself on the host is as good.
    shutil.rmtree(machine.proc / "1")
    machine.namespaces("self", **{**first, "net": 4026531999})
    assert (read := machine.read()) is not None
    assert read.namespaces["net"] is False


def test_app_armor_is_told_from_other_modules_and_from_none(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"0::/docker/{'c' * 64}\n")
    for path, content, confinement in (
        (None, "", None),
        ("attr/current", "system_u:system_r:container_t:s0:c1,c2\0", None),
        ("attr/current", "docker-default (enforce)\n", "docker-default (enforce)"),
        ("attr/apparmor/current", "unconfined\n", "unconfined"),
    ):
        if path:
            (machine.place / path).parent.mkdir(parents=True, exist_ok=True)
            (machine.place / path).write_text(content)
        assert (read := machine.read()) is not None
        assert read.confinement == confinement


def test_where_nothing_may_be_kept_whatever_can_be_written_to_fails() -> None:
    mounts = mounted("/workspace")
    undeclared, read_only = (Container({}, Declared(keeps_nothing=one)) for one in (False, True))
    process = complete(mounts=mounts)
    assert writable(process, undeclared).result is Result.UNKNOWN
    assert writable(process, read_only).result is Result.FAIL
