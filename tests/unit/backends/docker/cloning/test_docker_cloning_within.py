"""What containers of earlier versions that cloned for themselves tell of their repositories, by their health check."""

import json
from dataclasses import replace
from typing import Any

import pytest
from docker_world import CLUSTER, NEW, blueprint_of, desired_of, live_of

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import Cloning
from claude_sandbox.backends.docker.cloning.within import NOT_CLONED
from claude_sandbox.backends.docker.keys.delivery import settings_archive
from claude_sandbox.backends.docker.objects import container, documents
from claude_sandbox.backends.docker.state import state_of, with_outcomes
from claude_sandbox.blueprint.repositories import GIT_CONFIG

BROKERED = {"credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}}
URL = "https://git.example.org/team/project"
SPEC = {**BROKERED, "workspace": {"type": "EmptyDir"}, "repositories": [{"path": "project", "url": URL}]}
WISHED = (("project", URL),)
# As engines write times: in their own zone, of a run that began at 12:00 UTC.
BEFORE, SINCE = "2026-03-01T12:59:59.123456789+01:00", "2026-03-01T13:00:01.123456789+01:00"
CLONED, FAILED = '["Cloned abc"]\n', '["Failed remote: no"]\n'


def made(**spec: Any) -> dict[str, Any]:
    return container(blueprint_of(**SPEC, **spec), CLUSTER, NEW)


def living(status: str, *checks: tuple[int, str]) -> dict[str, Any]:
    live = dict(live_of(desired_of(**SPEC)).container or {})
    log = [{"ExitCode": code, "Output": said, "Start": SINCE} for code, said in checks]
    return live | {"State": live["State"] | {"Health": {"Status": status, "Log": log}}}


def test_gits_configuration_is_brought_beside_the_managed_settings() -> None:
    assert GIT_CONFIG.removeprefix("/").encode() in settings_archive(blueprint_of(**SPEC))
    with_it, without = (documents(blueprint_of(**spec), CLUSTER, NEW).settings for spec in (SPEC, BROKERED))
    assert with_it["Labels"] != without["Labels"]


@pytest.mark.parametrize("change", [{"url": f"{URL}2"}, {"path": "b"}, {"ref": "v1"}, {"depth": 1}, {"lfs": True}])
def test_another_wish_is_another_container(change: dict[str, Any]) -> None:
    other = blueprint_of(**SPEC | {"repositories": [SPEC["repositories"][0] | change]})  # type: ignore[index]
    hashes = {json.dumps(container(one, CLUSTER, NEW)["Labels"]) for one in (blueprint_of(**SPEC), other)}
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("live", "expected", "reason"),
    [
        (living("starting"), Cloning(WISHED), Reason.POD_PENDING),
        (living("starting", (NOT_CLONED, "")), Cloning(WISHED), Reason.REPOSITORIES_NOT_READY),
        (
            living("unhealthy", (NOT_CLONED, ""), (NOT_CLONED, FAILED)),
            Cloning(WISHED, ("Failed remote: no",)), Reason.REPOSITORIES_NOT_READY,
        ),
        (living("healthy", (0, CLONED)), Cloning(WISHED, ("Cloned abc",), done=True), Reason.SANDBOX_READY),
        (
            living("healthy", (NOT_CLONED, FAILED), (0, CLONED), (-1, "Health check exceeded timeout (25s)")),
            Cloning(WISHED, ("Cloned abc",), done=True), Reason.SANDBOX_READY,
        ),
        (living("healthy", (0, f"{CLONED}more")), Cloning(WISHED, ("Cloned abc",), done=True), Reason.SANDBOX_READY),
        (living("healthy", (0, "anything")), Cloning(WISHED), Reason.SANDBOX_READY),
    ],
)  # fmt: skip
def test_what_became_of_them_is_read_from_the_check(live: dict[str, Any], expected: Cloning, reason: Reason) -> None:
    found = state_of(live, "local", "1", ())
    assert (found.cloning, found.reason) == (expected, reason)


@pytest.mark.parametrize("at", [BEFORE, "", None, "x", "2026-03-01T13:00:01"])
def test_what_was_said_before_a_start_is_not_believed(at: str | None) -> None:
    live = living("starting", (0, CLONED))
    live["State"]["Health"]["Log"][0]["Start"] = at
    assert state_of(live, "local", "1", ()).cloning == Cloning(WISHED)
    live["State"]["Health"]["Log"][0] |= {"ExitCode": NOT_CLONED}
    assert state_of(live, "local", "1", ()).reason is Reason.POD_PENDING


def test_one_that_is_cloning_is_looked_at_again_though_no_event_tells_of_it() -> None:
    assert state_of(living("starting", (NOT_CLONED, FAILED)), "local", "1", ()).again
    assert state_of(living("unhealthy", (NOT_CLONED, FAILED)), "local", "1", ()).again
    assert state_of(living("healthy", (0, CLONED)), "local", "1", ()).again is None


def test_a_container_without_repositories_has_none() -> None:
    live = live_of(desired_of(**BROKERED)).container
    assert state_of(live, "local", "1", ()).cloning is None


def test_what_was_said_holds_while_checks_take_too_long_and_not_after_a_restart() -> None:
    before = state_of(living("healthy", (0, CLONED)), "local", "1", ())
    mute = state_of(living("unhealthy", *[(-1, "Health check exceeded timeout (25s)")] * 5), "local", "1", ())
    assert with_outcomes(mute, before).cloning == before.cloning
    assert mute.workload is not None
    again = replace(mute, workload=mute.workload.model_copy(update={"uid": "another"}))
    assert with_outcomes(again, before).cloning == Cloning(WISHED)
    assert with_outcomes(mute, None) == mute
