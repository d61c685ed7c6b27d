"""Whatever an engine tells of a container, and the kernel of its process: no control raises, and none passes by it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from compliant_container import NOW, compliant
from hostile import BYTES, JSON, TEXTS, changed, changed_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_container_kernel import MOUNTS, SAME, complete, found, status

from claude_sandbox.api.clip import clip, plain
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.backends.docker.evidence.proc import witness_of
from claude_sandbox.compliance.catalogue import WITNESSED
from claude_sandbox.compliance.evidence import mountinfo
from claude_sandbox.compliance.evidence.containers import DockerEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.compliance.reports.findings import compliance

IDENTIFIER = "c" * 64
REAL = {
    "cgroup": f"0::/docker/{IDENTIFIER}\n",
    "status": status(),
    "uid_map": SAME,
    "gid_map": SAME,
    "mountinfo": MOUNTS,
    "limits": "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max open files            64                   64                   files     \n",
    "attr/current": "docker-default (enforce)\n",
}
GROUP = {"memory.max": "134217728\n", "cpu.max": "50000 100000\n", "pids.max": "64\n"}
WITNESSES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)


def evidence(document: Any, **fields: Any) -> DockerEvidence:
    world = compliant()
    given_ = {"networks": tuple(world.networks), "volumes": tuple(world.volumes), **fields}
    return DockerEvidence(world.declared, Reading(document, EvidenceSource.INSPECT, NOW), NOW, **given_)


def sound(one: DockerEvidence) -> None:
    """Every control has a result, and the status can be written, with nothing in it that a terminal takes for more."""
    told = findings(one)
    assert len({finding.control.id for finding in told}) == len(told)
    written = compliance(told, NOW).model_dump_json(by_alias=True)
    assert json.loads(written)
    assert written.isprintable()


@given(st.one_of(changed(compliant().container), st.dictionaries(TEXTS, JSON)))
@settings(deadline=None, max_examples=120)
def test_no_document_of_a_container_ends_its_measurement(document: Any) -> None:
    sound(evidence(document))


@given(changed(compliant().networks), changed(compliant().volumes))
@settings(deadline=None)
def test_nor_does_one_of_its_networks_or_volumes(networks: Any, volumes: Any) -> None:
    others = {"networks": tuple(networks if isinstance(networks, list) else [networks])}
    others["volumes"] = tuple(volumes if isinstance(volumes, list) else [volumes])
    sound(evidence(compliant().container, **others))


def placed(directory: Path, files: dict[str, bytes], group: dict[str, bytes]) -> tuple[Path, Path]:
    """A /proc with one process, and a control group."""
    place, cgroups = directory / "proc/42", directory / "cgroup/docker" / IDENTIFIER
    for root, content in ((place, files), (cgroups, group)):
        for name, data in content.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    return directory / "proc", directory / "cgroup"


def text_or_changed(real: dict[str, str]) -> st.SearchStrategy[dict[str, bytes]]:
    """All files as they are but one or two, which hold anything."""
    files = {name: content.encode() for name, content in real.items()}
    other = st.sampled_from(sorted(files)).flatmap(
        lambda name: st.one_of(BYTES, changed_bytes(files[name])).map(lambda data: {name: data})
    )
    return st.lists(other, min_size=1, max_size=2).map(
        lambda some: {**files, **{k: v for d in some for k, v in d.items()}}
    )


@WITNESSES
@given(text_or_changed(REAL), text_or_changed(GROUP))
def test_no_file_of_the_kernels_ends_it(tmp_path: Path, files: dict[str, bytes], group: dict[str, bytes]) -> None:
    proc, cgroups = placed(tmp_path, files, group)
    document = {"Id": IDENTIFIER, "State": {"Pid": 42}, "HostConfig": {"Runtime": "runc"}}
    told = witness_of(document, NOW, proc, cgroups)
    sound(evidence(compliant().container, process=told))


@given(st.one_of(st.dictionaries(TEXTS, JSON), changed({"Id": "x", "State": {"Pid": 1}, "HostConfig": {}})))
@settings(deadline=None)
def test_nor_does_asking_for_the_process_of_any_document(document: Any) -> None:
    witness_of(document if isinstance(document, dict) else {}, NOW, Path("/nowhere"), Path("/nowhere"))


USERS = {"PRIV-04", "PRIV-05", "PRIV-06"}
CONFUSED = {
    "status": (b"Uid:\tx\xff\nGid:\t\xff\n", {"PRIV-04", "PRIV-05"}),
    "uid_map": (b"9 \x1b[m\n", {"PRIV-04", "PRIV-06"}),
    "mountinfo": (b"nonsense\xff\x1b[m\n", set(WITNESSED)),
    "limits": (b"Max open files \xff\x1b[m\n", set(WITNESSED)),
    "cgroup": (REAL["cgroup"].encode() + b"\xff\n", set(WITNESSED)),
}


@pytest.mark.parametrize("file", CONFUSED)
def test_who_confuses_the_kernels_word_gains_no_pass_by_it(tmp_path: Path, file: str) -> None:
    content, about = CONFUSED[file]
    files = {**{name: content.encode() for name, content in REAL.items()}, file: content}
    proc, cgroups = placed(tmp_path, files, {name: content.encode() for name, content in GROUP.items()})
    document = {"Id": IDENTIFIER, "State": {"Pid": 42}, "HostConfig": {"Runtime": "runc"}}
    told = witness_of(document, NOW, proc, cgroups)
    results = {one.control.id: one for one in findings(evidence(compliant().container, process=told))}
    doubted = {id for id in WITNESSED if results[id].result is Result.UNKNOWN}
    # What no document tells is Unknown without the kernel.
    untold = {"PRIV-06", "PRIV-07", "OPS-02"}
    assert doubted | untold == (about | untold) - {"SEC-04"}
    for id in doubted - untold:
        assert "the kernel's word" in results[id].verdict.message
        assert "\x1b" not in results[id].verdict.message
    # What the kernel is no witness to stays what it is.
    assert results["FS-02"].result is Result.PASS


def test_one_judge_that_raises_makes_one_control_unknown() -> None:
    fine = {id: one.result for id, one in found(complete()).items()}
    wrong = found(complete(text=status(CapBnd="0x\x1b", Uid="101000\t101000\t101000\t101000")))
    assert {id for id, one in wrong.items() if one.result is not fine[id]} == {"PRIV-01", "PRIV-02"}
    assert "ValueError in capabilities (compliance/containers/witness.py" in wrong["PRIV-02"].verdict.message
    assert wrong["PRIV-02"].result is Result.UNKNOWN
    unread = found(complete())
    assert unread["PRIV-02"].result is Result.PASS
    told = {one.control.id: one.result for one in findings(evidence(compliant().container, process=Unread("x")))}
    assert {id for id in WITNESSED if told[id] is Result.PASS} == set()


@given(TEXTS, st.integers(3, 400))
def test_texts_are_plain_and_bounded_whatever_they_hold(text: str, limit: int) -> None:
    shown = clip(text, limit)
    assert shown.isprintable()
    assert len(shown.encode()) <= limit
    assert clip(shown, limit) == shown
    assert plain(plain(text)) == plain(text)


def test_long_input_takes_a_time_that_goes_with_its_length() -> None:
    def seconds(size: int) -> float:
        line = "1094 1056 0:62 /\\040 /p\\012 ro,relatime - overlay overlay rw,lowerdir=/a\n"
        began = time.process_time()
        mountinfo.parse(line * size)
        clip("\x1b" * size * 100, 100)
        found(complete(text=status(Groups="9 " * size, Uid="101000\t101000\t101000\t101000")))
        return time.process_time() - began

    seconds(10)
    small = max(min(seconds(1000) for _ in range(3)), 0.005)
    assert min(seconds(8000) for _ in range(3)) < 8 * small * 3
