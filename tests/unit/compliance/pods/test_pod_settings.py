"""SEC-04: what was asked for passes, and whatever stands in its place does not."""

from collections.abc import Callable
from dataclasses import replace
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


def _another_file_by_its_own_annotation(world: World) -> None:
    items, path = world.spec["volumes"][-1]["downwardAPI"]["items"], "managed-settings.d/z.json"
    items.append({"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{meta.file_annotation(path)}']"}})


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
        _other_annotation, _no_annotation, _other_volume, _another_file,
        _another_file_by_its_own_annotation, _another_field, _elsewhere,
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


def _told(world: World, text: str, wanted: str) -> None:
    """A file beside the settings, and what it is to be."""
    path = ".claude/agents/a.md"
    annotation = meta.file_annotation(path)
    item = {"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}
    world.spec["volumes"][-1]["downwardAPI"]["items"].append(item)
    world.pod["metadata"]["annotations"][annotation] = text
    world.declare(managed_settings=replace(SETTINGS, files=((path, wanted),)))


def test_a_file_beside_them_passes_where_it_is_the_one_that_was_asked_for() -> None:
    for text, result in (("You test.", Result.PASS), ("You steal.", Result.FAIL)):
        world = compliant()
        _told(world, text, "You test.")
        assert _of_pod(world).result is result


def test_a_file_that_is_not_asked_for_any_more_is_for_drifted_to_say() -> None:
    world = compliant()
    _told(world, "You test.", "You test.")
    world.declare(managed_settings=SETTINGS)
    assert _of_pod(world).result is Result.PASS


def _fs_07(world: World) -> Result:
    wanted = "Only the workspace and scratch space writable"
    return next(one.verdict.result for one in findings(world.evidence()) if one.control.title == wanted)


def test_what_is_kept_of_the_home_may_be_written_to_and_another_claim_may_not() -> None:
    place = "/home/claude/.claude"
    for claim, allowed in (("sandbox-alice-home", True), ("somebody-elses", False)):
        world = compliant()
        before = _fs_07(world)
        world.spec["volumes"].insert(0, {"name": "kept-home", "persistentVolumeClaim": {"claimName": claim}})
        world.agent["volumeMounts"].insert(0, {"name": "kept-home", "mountPath": place})
        world.declare(kept_claims={place: "sandbox-alice-home"})
        assert (_fs_07(world) is before) is allowed
        assert before is Result.PASS
