"""Whether a container's output can fill its host's disk, by each kind of log driver."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.logs import container_log
from claude_sandbox.compliance.evidence.containers import Declared, DockerEvidence, Journal
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.containers import findings

MIB = 1 << 20
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def logging(driver: str | None, **options: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return {"HostConfig": {"LogConfig": {"Type": driver, "Config": named}}}


@pytest.mark.parametrize(
    ("document", "result", "part"),
    [
        (logging("none"), Result.PASS, "none is kept"),
        (logging("local"), Result.PASS, "5 x 20m"),
        (logging("local", max_size="-1"), Result.FAIL, "keeps all that it writes"),
        (logging("json-file"), Result.FAIL, "keeps all that it writes"),
        (logging("json-file", max_size="10m", max_file="3"), Result.PASS, "3 x 10m"),
        (logging("journald"), Result.UNKNOWN, "the host's journal keeps is not known: nobody asked"),
        (logging("awslogs"), Result.PASS, "a copy of 5 x 20m"),
        (logging("gcplogs", cache_disabled="true"), Result.PASS, "no copy"),
        (logging("awslogs", cache_max_size="-1"), Result.FAIL, "the copy that the engine keeps"),
        (logging("syslog"), Result.UNKNOWN, "whoever the driver syslog sends it to"),
        (logging("syslog", cache_max_size="-1"), Result.FAIL, "the copy that the engine keeps"),
        (logging("fluentd", cache_max_size="1m"), Result.UNKNOWN, "whoever the driver fluentd sends it to"),
        (logging("somebodys/plugin:latest"), Result.UNKNOWN, "no engine tells"),
        (logging(None), Result.UNKNOWN, "does not tell"),
    ],
)
def test_what_is_kept_is_judged_by_the_driver(document: dict[str, Any], result: Result, part: str) -> None:
    found = container_log(Container(document))
    assert found.result is result
    assert part in f"{found.message} {found.value}"


def of_journal(read: Reading[Journal] | Unread | None) -> tuple[Result, str]:
    evidence = DockerEvidence(
        declared=Declared(),
        container=Reading(logging("journald"), EvidenceSource.INSPECT, NOW),
        now=NOW,
        journal=read,
        max_age=timedelta(minutes=5),
    )
    found = next(one.verdict for one in findings(evidence) if one.control.id == "RES-08")
    return found.result, f"{found.message}{found.value}"


@pytest.mark.parametrize(
    ("kept", "age", "result", "part"),
    [
        (8 * MIB, 0, Result.PASS, "8 MiB of the 16 MiB that it keeps of all that the host writes"),
        # A file may be beyond it for a moment.
        (18 * MIB, 0, Result.PASS, "18 MiB"),
        (19 * MIB, 0, Result.FAIL, "journald drops nothing"),
        (8 * MIB, 10, Result.UNKNOWN, "more than 300 s ago"),
    ],
)
def test_of_journald_the_host_s_word_counts_while_it_is_fresh(kept: int, age: int, result: Result, part: str) -> None:
    found = of_journal(Reading(Journal(16 * MIB, kept), EvidenceSource.HOST_PROC, NOW - timedelta(minutes=age)))
    assert found[0] is result
    assert part in found[1]


def test_a_journal_that_can_not_be_read_is_never_a_pass_and_says_what_to_do() -> None:
    assert of_journal(None)[0] is Result.UNKNOWN
    result, said = of_journal(Unread("there is no journalctl here: run the command on the engine's host"))
    assert (result, "run the command on the engine's host" in said) == (Result.UNKNOWN, True)
