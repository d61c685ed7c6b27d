"""SEC-04: what was asked for passes, and whatever stands in its place does not."""

from collections.abc import Callable
from typing import Any

import pytest
from compliant_sandbox import SETTINGS, World, compliant

from claude_sandbox.api import meta
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.reports.pods import findings
from claude_sandbox.compliance.verdict import Verdict


def _of_pod(world: World) -> Verdict:
    return next(one.verdict for one in findings(world.evidence()) if one.control.id == "SEC-04")


def test_the_settings_that_were_asked_for_pass() -> None:
    assert _of_pod(compliant()).result is Result.PASS


def test_a_pod_of_which_nothing_is_declared_is_not_judged() -> None:
    world = compliant()
    world.declare(managed_settings=None)
    assert _of_pod(world).result is Result.NOT_APPLICABLE


def _other_annotation(world: World) -> None:
    world.pod["metadata"]["annotations"][meta.ANNOTATION_MANAGED_SETTINGS] = "{}"


def _no_annotation(world: World) -> None:
    del world.pod["metadata"]["annotations"]


def _other_volume(world: World) -> None:
    world.spec["volumes"][-1] = {"name": "settings", "emptyDir": {}}


def _another_file(world: World) -> None:
    items = world.spec["volumes"][-1]["downwardAPI"]["items"]
    items.append({**items[0], "path": "managed-settings.d/z.json"})


def _another_field(world: World) -> None:
    world.spec["volumes"][-1]["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"] = "metadata.annotations['x']"


def _mount(**fields: Any) -> Callable[[World], None]:
    return lambda world: world.agent["volumeMounts"][-1].update(fields)


def _added(path: str) -> Callable[[World], None]:
    return lambda world: world.agent["volumeMounts"].append({"name": "workspace", "mountPath": path})


def _elsewhere(world: World) -> None:
    world.agent["env"].append({"name": "CLAUDE_CODE_MANAGED_SETTINGS_PATH", "value": "/workspace"})


@pytest.mark.parametrize(
    "change",
    [
        _other_annotation, _no_annotation, _other_volume, _another_file, _another_field, _elsewhere,
        _mount(subPath="empty"), _mount(subPathExpr="$(X)"), _mount(readOnly=False), _mount(mountPath="/elsewhere"),
        _added("/etc/claude-code/managed-settings.json"), _added("/etc//claude-code/./managed-settings.d"),
        _added("/etc/claude-code/"),
    ],
)  # fmt: skip
def test_whatever_stands_in_their_place_fails(change: Callable[[World], None]) -> None:
    world = compliant()
    change(world)
    verdict = _of_pod(world)
    assert verdict.result is Result.FAIL
    assert SETTINGS.content not in verdict.message


def test_variables_that_were_not_read_leave_it_unknown() -> None:
    world = compliant()
    world.agent["envFrom"] = [{"configMapRef": {"name": "x"}}]
    assert _of_pod(world).result is Result.UNKNOWN
