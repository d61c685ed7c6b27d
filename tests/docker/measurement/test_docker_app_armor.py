"""AppArmor in force on a real Docker Engine, in a virtual machine whose kernel has it."""

from typing import Any

import pytest
from app_armor import PATIENCE, PROFILE, told_by
from engine_documents import evidence

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.reports.docker_hosts import findings

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return told_by("app_armor_on_docker.py", tmp_path_factory.mktemp("told"))


def test_the_engine_gives_app_armor(found: dict[str, Any]) -> None:
    assert any(option.startswith("name=apparmor") for option in found["options"])
    assert found["gives"] is True
    told = findings(evidence(info={"SecurityOptions": found["options"]}))
    assert {one.control.id: one.result for one in told}["HOST-04"] is Result.PASS


def test_a_container_that_asks_for_nothing_is_held_to_the_engines_own(found: dict[str, Any]) -> None:
    seen = found["plain"]
    assert seen["engine"] == "docker-default"
    assert seen["kernel"] == seen["inside"] == "docker-default (enforce)"
    assert seen["judged"][:2] == ["Pass", "HostProc"]
    assert seen["attempt"] == ["allowed", "written"]


def test_one_that_is_unconfined_fails_by_either_witness(found: dict[str, Any]) -> None:
    seen = found["unconfined"]
    assert seen["kernel"] == "unconfined"
    assert seen["judged"][0] == seen["without the kernel"][0] == "Fail"


def test_that_a_profile_is_not_loaded_is_told_with_what_to_do(found: dict[str, Any]) -> None:
    lacking = found["lacking"]
    assert "apparmor" in lacking["refused"]
    assert (lacking["status"], lacking["reason"], lacking["failed"]) == ("False", "ProfileMissing", "ProfileMissing")
    for word in (f"the AppArmor profile {PROFILE}", "Have an administrator see to that", "The engine says"):
        assert word in lacking["message"]
        assert word in lacking["why"]


@pytest.mark.parametrize("when", ["confined", "again"])
def test_what_the_profile_forbids_is_refused_and_nothing_else(found: dict[str, Any], when: str) -> None:
    seen = found[when]
    assert seen["engine"] == PROFILE
    assert seen["kernel"] == seen["inside"] == f"{PROFILE} (enforce)"
    assert seen["judged"][:2] == ["Pass", "HostProc"]
    # What it prints and its complaints come by two ways.
    assert {"allowed", "denied"} < set(seen["attempt"])
    assert "Permission denied" in "\n".join(seen["attempt"])


def test_the_engines_own_in_place_of_the_one_that_is_asked_for_fails(found: dict[str, Any]) -> None:
    assert found["another"]["judged"][0] == found["another"]["without the kernel"][0] == "Fail"


@pytest.mark.parametrize(("done", "kernel"), [("complaining", f"{PROFILE} (complain)"), ("taken away", "unconfined")])
def test_that_a_profile_enforces_no_more_is_seen_by_the_kernel_alone(
    found: dict[str, Any], done: str, kernel: str
) -> None:
    """The engine goes on to name it. What is denied in so many words is refused by one that complains, too."""
    seen = found[done]
    assert seen["engine"] == PROFILE
    assert seen["kernel"] == kernel
    assert (seen["judged"][0], seen["without the kernel"][0]) == ("Fail", "Pass")
    assert kernel in seen["judged"][2]
