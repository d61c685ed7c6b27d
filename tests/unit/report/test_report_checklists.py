"""Lines of the guide's checklists that a condition answers."""

import pytest
from reported_sandboxes import Object, on_kubernetes, reported

from claude_sandbox.api.status import Result
from claude_sandbox.report.checklists import CheckedLine, checked

LINES = {"ImageCurrent": "Update base images", "BackupVerified": "Test backup and restore"}


def with_condition(kind: str, status: str, name: str = "alice") -> Object:
    document = on_kubernetes(name=name)
    document["status"]["conditions"].append({"type": kind, "status": status, "reason": "OfATest", "message": ""})
    return document


def line(text: str, *documents: Object) -> CheckedLine:
    return next(line for one in checked(reported(*documents)) for line in one.lines if line.text == text)


@pytest.mark.parametrize(("kind", "text"), LINES.items())
@pytest.mark.parametrize(("status", "result"), [("True", Result.PASS), ("False", Result.FAIL), ("Unknown", "Unknown")])
def test_the_condition_answers_the_line(kind: str, text: str, status: str, result: str) -> None:
    found = line(text, with_condition(kind, status))
    assert (found.result, f"condition {kind}" in found.why) == (result, True)


@pytest.mark.parametrize(("kind", "text"), LINES.items())
def test_it_is_not_known_of_a_sandbox_without_it(kind: str, text: str) -> None:
    """As of one that has no spec.backup: nobody has restored anything of it."""
    found = line(text, with_condition(kind, "True"), on_kubernetes(name="bob"))
    assert (found.result, found.sandboxes) == (Result.UNKNOWN, ("agents/bob",))


@pytest.mark.parametrize(("kind", "text"), LINES.items())
def test_a_condition_of_an_earlier_generation_answers_nothing_and_what_failed_fails(kind: str, text: str) -> None:
    stale = {status: with_condition(kind, status) for status in ("True", "False")}
    for one in stale.values():
        one["metadata"]["generation"] += 1
    assert line(text, stale["True"]).result is Result.UNKNOWN
    assert line(text, stale["False"]).result is Result.FAIL
