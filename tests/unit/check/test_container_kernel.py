"""The kernel's word beside the engine's: it refutes, it settles what the image decides, and it counts only if it is of
this very container.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compliant_container import NOW, compliant

from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.backends.docker.host_proc import read_process
from claude_sandbox.compliance.docker.evidence import DockerEvidence
from claude_sandbox.compliance.docker.process import Limits, Process
from claude_sandbox.compliance.docker.report import findings
from claude_sandbox.compliance.docker.witness import JUDGES
from claude_sandbox.compliance.evidence import Reading
from claude_sandbox.compliance.findings import Finding

STATUS = {
    "Uid": "1000\t1000\t1000\t1000",
    "Gid": "1000\t1000\t1000\t1000",
    "Groups": "1000 ",
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    "NoNewPrivs": "1",
    "Seccomp": "2",
}
SAME = "         0          0 4294967295\n"
REMAPPED = "         0     100000      65536\n"


def status(**changes: str) -> str:
    return "".join(f"{name}:\t{value}\n" for name, value in {"Name": "sleep", **STATUS, **changes}.items())


def process(text: str = "", limits: Limits | None = None, uid_map: str = SAME) -> Process:
    return Process(text or status(), uid_map, SAME, limits or Limits())


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
    results = found(process(limits=limits_of(compliant().container)))
    for id in JUDGES:
        assert (results[id].result, results[id].source) == (Result.PASS, EvidenceSource.HOST_PROC), results[id]
    assert results["FS-01"].source is EvidenceSource.INSPECT


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
    for id in JUDGES:
        assert (results[id].result, results[id].source) == (Result.PASS, EvidenceSource.INSPECT)


def test_what_the_engine_says_is_wrong_stays_wrong() -> None:
    results = found(process(), HostConfig__CapDrop=[], HostConfig__SecurityOpt=[])
    assert results["PRIV-02"].result is results["PRIV-03"].result is Result.FAIL
    assert "does not drop ALL" in results["PRIV-02"].verdict.message


def test_a_user_by_name_is_whom_the_kernel_runs() -> None:
    assert found(process(), Config__User="agent:agent")["PRIV-04"].result is Result.PASS
    root = process(status(Uid="0\t0\t0\t0"))
    assert found(root, Config__User="agent:agent")["PRIV-04"].result is Result.FAIL


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
