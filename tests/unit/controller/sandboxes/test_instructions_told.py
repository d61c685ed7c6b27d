"""What sandboxes are told by ConfigMaps, and what counts while one can't be read."""

from typing import Any

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.fields.work.claude_code import ClaudeCode
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.controller.sandboxes.instructions import ToldInstructions
from claude_sandbox.controller.sandboxes.store import Key

ALICE = Key("agents", "alice")
ASKED = ClaudeCode.model_validate({"memory": {"name": "team"}})


class Place:
    """One namespace's ConfigMaps, as they are followed."""

    def __init__(self) -> None:
        self.readable = True
        self.found: dict[str, dict[str, Any]] = {}
        self._version = 0

    def put(self, **data: str) -> None:
        self._version += 1
        metadata = {"name": "team", "resourceVersion": str(self._version)}
        self.found["team"] = {"metadata": metadata, "data": {key.replace("_", "."): text for key, text in data.items()}}

    def look(self, namespace: str, name: str) -> tuple[bool, dict[str, Any] | None]:
        assert namespace == "agents"
        return self.readable, self.found.get(name)


def test_what_is_understood_counts_and_a_change_is_told_once() -> None:
    place = Place()
    told = ToldInstructions(place.look)
    place.put(CLAUDE_md="Be brief.")
    first, again = told.of(ALICE, "1", ASKED), told.of(ALICE, "1", ASKED)
    assert (first.instructions.settings, first.changed) == ({"claudeMd": "Be brief."}, True)
    assert (again.instructions, again.changed) == (first.instructions, False)
    place.put(CLAUDE_md="Be long.")
    assert told.of(ALICE, "1", ASKED).changed
    assert told.of(ALICE, "1", ClaudeCode()).changed
    assert not told.of(ALICE, "1", ClaudeCode()).changed


def test_what_counted_goes_on_counting_while_the_config_map_is_wrong_or_gone() -> None:
    place = Place()
    told = ToldInstructions(place.look)
    place.put(CLAUDE_md="Be brief.")
    before = told.of(ALICE, "1", ASKED).instructions
    place.put(CLAUDE_md=" ")
    refused = told.of(ALICE, "1", ASKED)
    assert refused.failure is not None
    assert (refused.failure.reason, refused.instructions) == (Reason.CONFIG_MAP_REFUSED, before)
    del place.found["team"]
    gone = told.of(ALICE, "1", ASKED)
    assert gone.failure is not None
    assert (gone.failure.reason, gone.instructions, gone.changed) == (Reason.CONFIG_MAP_NOT_FOUND, before, False)
    assert "kubectl label configmap -n agents team claudesandbox.dev/claude-code=true" in gone.failure.message


def test_another_sandbox_of_the_name_inherits_nothing() -> None:
    place = Place()
    told = ToldInstructions(place.look)
    place.put(CLAUDE_md="Be brief.")
    told.of(ALICE, "1", ASKED)
    del place.found["team"]
    assert told.of(ALICE, "2", ASKED).instructions.settings == {}
    told.forget(ALICE)
    assert told.of(ALICE, "1", ASKED).instructions.settings == {}


def test_a_right_that_is_missing_and_a_stub_are_told() -> None:
    place = Place()
    told = ToldInstructions(place.look)
    place.readable = False
    missing = told.of(ALICE, "1", ASKED).failure
    assert missing is not None
    assert missing.reason is Reason.PERMISSION_DENIED
    place.put(CLAUDE_md="Be brief.")
    place.found["team"] = {**place.found["team"], OUTSIZE: "it has 200 KiB, and 128 are kept of one"}
    large = told.of(ALICE, "1", ASKED).failure
    assert large is not None
    assert (large.reason, "smaller" in large.message) == (Reason.CONFIG_MAP_REFUSED, True)
