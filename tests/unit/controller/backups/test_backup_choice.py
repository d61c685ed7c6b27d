"""With which backup a sandbox may begin anew whose host is somebody else's: with none that this one could have made."""

from datetime import UTC, datetime
from typing import Any

import pytest

from claude_sandbox.controller.backups.choice import LARGE, Chosen, chosen, with_lists

MARK = datetime(2026, 11, 29, 12, tzinfo=UTC)
ALICE = {"metadata": {"name": "alice", "uid": "a", "creationTimestamp": "2026-11-01T00:00:00Z"}}
TRUE = ({"type": "Complete", "status": "True"}, {"type": "BackupVerified", "status": "True"})


def digest(digit: int) -> str:
    return f"{digit}" * 64


def backup(hour: int = 10, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"b{number}", "creationTimestamp": more.get("made", f"2026-11-29T{hour:02}:00:00Z")},
        "spec": {"sandboxName": more.get("of", "alice"), "target": {"type": more.get("target", "S3")}},
        "status": {
            "completedAt": f"2026-11-29T{hour:02}:30:00Z",
            "location": more.get("location", "there"),
            "sizeBytes": more.get("size", LARGE),
            "snapshot": more.get("snapshot", digest(number)),
            "conditions": more.get("conditions", TRUE),
        },
    }


def test_the_last_that_was_verified_in_time_is_taken() -> None:
    backups = [backup(9, 1), backup(11, 2), backup(10, 3), backup(12, 4), backup(11, 5, conditions=TRUE[:1])]
    at = datetime(2026, 11, 29, 11, 30, tzinfo=UTC)
    assert chosen(ALICE, backups, MARK) == Chosen("b2", digest(2), at)
    # At the very moment is still in time.
    assert chosen(ALICE, backups, at) == Chosen("b2", digest(2), at)


@pytest.mark.parametrize(
    ("backups", "why"),
    [
        ([], "no backup"),
        ([backup(of="bob")], "no backup"),
        # Of an earlier sandbox of the name, which may have been somebody else's.
        ([backup(made="2026-10-31T10:00:00Z")], "no backup"),
        ([backup(conditions=TRUE[:1])], "verified"),
        ([backup(conditions=[TRUE[0], {"type": "BackupVerified", "status": "Unknown"}])], "verified"),
        ([backup(conditions=[TRUE[1], {"type": "Complete", "status": "False"}])], "verified"),
        ([backup(13)], "before 2026-11-29T12:00:00Z"),
        ([backup(target="HostDirectory")], "on the host itself"),
        ([backup(snapshot="0123abcd")], "eight digits"),
        ([backup(snapshot="")], "eight digits"),
    ],
)
def test_what_can_not_be_trusted_is_not_taken_and_the_reason_told(backups: list[dict[str, Any]], why: str) -> None:
    found = chosen(ALICE, backups, MARK)
    assert isinstance(found, str)
    assert why in found


def test_the_list_of_the_last_that_was_verified_is_read_and_of_no_other() -> None:
    backups = [backup(11, 2), backup(9, 1), backup(10, 3, location="elsewhere"), backup(12, 4, of="bob")]
    assert with_lists(ALICE, backups) == {"there": digest(2), "elsewhere": digest(3)}
    failed = backup(12, 5) | {"status": {"location": "there", "conditions": [{"type": "Complete", "status": "False"}]}}
    assert with_lists(ALICE, [*backups, failed])["there"] == digest(2)


@pytest.mark.parametrize(
    "last",
    [
        # After one that differs all is read: what it was compared with may come from the list before.
        backup(12, 3, conditions=TRUE[:1]),
        backup(12, 3, size=LARGE - 1),
        backup(12, 3, snapshot="0123abcd"),
    ],
)
def test_what_a_list_may_not_be_believed_of_or_is_not_worth_is_read(last: dict[str, Any]) -> None:
    assert with_lists(ALICE, [backup(11, 2), last]) == {}
