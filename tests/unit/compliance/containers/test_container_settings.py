"""SEC-04 on Docker: what was asked for passes, and whatever stands in its place does not; the kernel is a witness."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from compliant_container import NOW, compliant

from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.evidence.containers import NOT_READ, DockerEvidence, SettingsContent
from claude_sandbox.compliance.evidence.mountinfo import KernelMount
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import ManagedSettings, Object, Reading, Unread
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.procfs.limits import Limits

SETTINGS = ManagedSettings("/etc/claude-code", "managed-settings.json", '{"env":{}}')
_MOUNT = {
    "Type": "volume", "Name": "alice-settings", "Source": "/var/lib/docker/volumes/alice-settings/_data",
    "Destination": SETTINGS.directory, "Driver": "local", "Mode": "z", "RW": False, "Propagation": "",
}  # fmt: skip
_VOLUME = {"Name": "alice-settings", "Driver": "local", "Options": None, "Scope": "local", "Labels": {}}


def _container(content: str | None = SETTINGS.content, **changes: Any) -> DockerEvidence:
    world = compliant()
    world.declare(managed_settings=SETTINGS, mounts=frozenset({SETTINGS.directory}))
    document: Object = copy.deepcopy(world.container)
    document["Mounts"] += [_MOUNT | changes.pop("mount", {}), *changes.pop("added", ())]
    document["Config"]["Env"] += changes.pop("env", ())
    read = Reading(SettingsContent(content), EvidenceSource.INSPECT, NOW)
    container = Reading(document, EvidenceSource.INSPECT, NOW)
    volumes = (*world.volumes, _VOLUME)
    evidence = DockerEvidence(world.declared, container, NOW, tuple(world.networks), volumes, settings=read)
    return replace(evidence, **changes)


def _of_container(evidence: DockerEvidence) -> Result:
    return next(one.verdict.result for one in findings(evidence) if one.control.id == "SEC-04")


def test_a_container_with_the_settings_that_were_asked_for_passes() -> None:
    assert _of_container(_container()) is Result.PASS


def test_a_container_of_which_nothing_is_declared_is_not_judged() -> None:
    evidence = _container()
    assert _of_container(replace(evidence, declared=replace(evidence.declared, managed_settings=None))) is (
        Result.NOT_APPLICABLE
    )


_OVER = {"Type": "bind", "Source": "/srv", "Destination": "/etc/claude-code/managed-settings.json", "RW": False}


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "{}"}, {"content": None}, {"mount": {"RW": True}}, {"mount": {"Destination": "/elsewhere"}},
        {"mount": {"Type": "bind", "Source": "/srv"}}, {"mount": {"Type": "tmpfs", "Name": None}}, {"added": [_OVER]},
        {"env": ["CLAUDE_CODE_MANAGED_SETTINGS_PATH=/workspace"]},
    ],
)  # fmt: skip
def test_whatever_stands_in_their_place_in_a_container_fails(changes: dict[str, Any]) -> None:
    assert _of_container(_container(**changes)) is Result.FAIL


@pytest.mark.parametrize(
    "settings",
    [
        NOT_READ,
        Unread("the engine does not answer"),
        Reading(SettingsContent(SETTINGS.content), EvidenceSource.INSPECT, NOW.replace(year=2020)),
    ],
)
def test_settings_that_were_not_read_lately_leave_it_unknown(settings: Any) -> None:
    assert _of_container(_container(settings=settings, max_age=timedelta(minutes=5))) is Result.UNKNOWN


def _kernel(*places: str, options: str = "ro") -> tuple[KernelMount, ...]:
    return tuple(
        KernelMount("8:1", "/", place, frozenset({options}), shared=False, kind="ext4", sized=False) for place in places
    )


@pytest.mark.parametrize(
    ("mounts", "result"),
    [
        (_kernel("/", "/etc/claude-code"), Result.PASS),
        (_kernel("/"), Result.FAIL),
        (_kernel("/", "/etc/claude-code", options="rw"), Result.FAIL),
        (_kernel("/", "/etc/claude-code", "/etc/claude-code"), Result.FAIL),
        (_kernel("/", "/etc/claude-code", "/etc/claude-code/managed-settings.json"), Result.FAIL),
        (_kernel("/", "/etc/claude-code", "/etc"), Result.FAIL),
        (_kernel("/", "/etc", "/etc/claude-code"), Result.PASS),
    ],
)
def test_the_kernel_says_whether_anything_is_over_them(mounts: tuple[KernelMount, ...], result: Result) -> None:
    process = Process("", "0 0 1", "0 0 1", Limits(), mounts=mounts)
    assert _of_container(_container(process=Reading(process, EvidenceSource.HOST_PROC, NOW))) is result
