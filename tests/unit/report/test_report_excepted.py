"""What a sandbox excepts is reported as what it is, and until when it is excepted."""

from datetime import UTC, date, datetime

from compliant_sandbox import World
from reported_sandboxes import Object, on_kubernetes, reported

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.report.checklists import checked
from claude_sandbox.report.model import Verdict
from claude_sandbox.report.reading import report


def excepted(world: World) -> None:
    world.agent["securityContext"].update(privileged=True)
    world.declare(exemptions=(Exemption("PRIV-01", "it builds images", "alice", world.evidence().now.date()),))


def declared() -> Object:
    document = on_kubernetes(excepted)
    told = {"control": "PRIV-01", "reason": "it builds images", "owner": "alice", "expires": "2026-03-01"}
    document["spec"]["compliance"] = {"exceptions": [told]}
    return document


def test_it_fails_and_says_until_when_that_is_excepted() -> None:
    document = declared()
    [sandbox] = reported(document).sandboxes
    [found] = [one for one in sandbox.outcomes if one.control == "PRIV-01"]
    assert (found.result, found.required) == (Result.FAIL, False)
    assert found.exemption == Exemption("PRIV-01", "it builds images", "alice", date(2026, 3, 1))
    assert sandbox.verdict is Verdict.COMPLIANT


def test_of_a_status_of_before_an_exceptions_end_nothing_is_excepted_after_it() -> None:
    later = datetime(2026, 3, 2, tzinfo=UTC)
    read = report([declared()], generated_at=later, version="1", origin="a file", scope="all in it")
    [found] = [one for one in read.sandboxes[0].outcomes if one.control == "PRIV-01"]
    assert (found.required, found.exemption) == (True, None)
    assert "its exception by alice expired on 2026-03-01" in found.message
    assert read.verdict is Verdict.NOT_COMPLIANT


def test_in_the_checklists_an_exception_answers_nothing() -> None:
    lines = {line.text: line for one in checked(reported(declared())) for line in one.lines}
    assert lines["Review the security settings"].result is Result.FAIL
