"""What is due turns conditions when its date passes, and nothing else of a status."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status import Workload
from claude_sandbox.api.status_fields.due import DueSubject
from claude_sandbox.backends.base import KeyState, WorkloadState
from claude_sandbox.backends.docker.engine.documents import made_at
from claude_sandbox.cli.due import due
from claude_sandbox.controller.sandboxes.reporting.dates import Dates, Verified, dates_of
from claude_sandbox.kubernetes_api.unstructured import data_changed_at

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
RUNNING = WorkloadState(
    ConditionStatus.TRUE, Reason.SANDBOX_READY, "", workload=Workload(name="a", uid="1", started_at=NOW)
)


def found(
    made: datetime | None = None,
    changed: datetime | None = None,
    started: datetime | None = NOW,
    now: datetime = NOW,
    ends: datetime | None = None,
    verified: Verified | None = None,
    certificate: datetime | None = None,
    **spec: Any,
) -> Dates:
    fields = {"credentials": {"apiKeySecretRef": {"name": "key"}}, **spec}
    asked = ClaudeSandboxSpec.model_validate_json(json.dumps(fields))
    workload = replace(RUNNING, image_made=made, workload=Workload(name="a", uid="1", started_at=started))
    workload = replace(workload, certificate_ends=certificate)
    return dates_of(asked, KeyState("7", changed=changed), workload, ends, now, verified)


@pytest.mark.parametrize(
    ("days", "reason"),
    [(90, None), (21, None), (20, "CertificateNotRenewed"), (1, "CertificateNotRenewed"), (0, "CertificateExpired")],
)
def test_that_a_gateways_certificate_was_not_renewed_is_told_while_it_is_so(days: int, reason: str | None) -> None:
    told = found(certificate=NOW + timedelta(days=days))
    (date,) = (one for one in told.due if one.what is DueSubject.CERTIFICATE)
    assert date.at == NOW + timedelta(days=days - 20)
    assert (told.certificate[1] if told.certificate is not None else None) == reason
    assert found().certificate is None


@pytest.mark.parametrize(
    ("age", "spec", "status"),
    [
        (29, {}, ConditionStatus.TRUE),
        (30, {}, ConditionStatus.FALSE),
        (30, {"due": {"imageMaxAge": "31d"}}, ConditionStatus.TRUE),
        (8, {"due": {"imageMaxAge": "7d"}}, ConditionStatus.FALSE),
    ],
)
def test_an_image_is_current_until_it_is_as_old_as_the_spec_says(
    age: int, spec: dict[str, Any], status: ConditionStatus
) -> None:
    assert found(made=NOW - timedelta(days=age), **spec).image[0] is status


def test_of_an_image_that_says_nothing_it_is_known_that_it_is_older_than_what_runs_it() -> None:
    status, reason, message = found(started=NOW - timedelta(days=3)).image
    assert (status, reason) == (ConditionStatus.UNKNOWN, Reason.AGE_NOT_KNOWN)
    assert "2026-06-28 at the latest" in message
    assert found(started=NOW - timedelta(days=30)).image[:2] == (ConditionStatus.FALSE, Reason.IMAGE_DUE)
    assert found(started=None).image[0] is ConditionStatus.UNKNOWN


def test_an_image_that_claims_to_be_from_the_future_gains_nothing() -> None:
    claimed = found(made=NOW + timedelta(days=3650), started=NOW - timedelta(days=31))
    assert claimed.image[0] is ConditionStatus.FALSE


def test_a_key_is_due_when_its_secret_was_not_written_for_so_long() -> None:
    assert found(changed=NOW - timedelta(days=89)).key[:2] == (ConditionStatus.FALSE, Reason.KEY_NOT_DUE)
    assert found(changed=NOW - timedelta(days=90)).key[:2] == (ConditionStatus.TRUE, Reason.KEY_DUE)
    assert found(changed=NOW - timedelta(days=9), due={"keyMaxAge": "7d"}).key[0] is ConditionStatus.TRUE
    assert found().key[:2] == (ConditionStatus.UNKNOWN, Reason.AGE_NOT_KNOWN)


def test_what_is_due_is_sorted_and_says_nothing_that_changes_with_the_clock() -> None:
    exception = {"control": "RES-06", "reason": "x", "owner": "o@example.org", "expires": "2026-06-30"}
    given: dict[str, Any] = {
        "made": NOW - timedelta(days=1),
        "changed": NOW - timedelta(days=89),
        "ends": NOW + timedelta(days=40),
        "compliance": {"exceptions": [exception]},
    }
    dates = found(**given)
    assert [(one.what, one.name) for one in dates.due] == [
        (DueSubject.KEY, "key"), (DueSubject.IMAGE, ""), (DueSubject.EXCEPTION, "RES-06"), (DueSubject.LIFETIME, ""),
    ]  # fmt: skip
    assert dates.due[2].at == datetime(2026, 7, 1, tzinfo=UTC)
    assert found(now=NOW + timedelta(hours=3), **given) == dates


def test_when_data_was_written_is_what_the_api_server_recorded_of_it() -> None:
    def secret(*entries: tuple[str, str]) -> dict[str, Any]:
        fields = [{"time": at, "fieldsV1": {field: {}}} for at, field in entries]
        return {"metadata": {"managedFields": fields}}

    assert data_changed_at(secret()) is None
    one = secret(("2026-01-01T00:00:00Z", "f:data"), ("2026-05-01T00:00:00Z", "f:metadata"))
    assert data_changed_at(one) == "2026-01-01T00:00:00Z"
    two = secret(("2026-01-01T00:00:00Z", "f:data"), ("2026-02-01T00:00:00Z", "f:data"))
    assert data_changed_at(two) == "2026-02-01T00:00:00Z"


@pytest.mark.parametrize("told", [None, "", 7, "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00"])
def test_an_image_that_tells_no_time_of_its_making_tells_none(told: Any) -> None:
    assert made_at({"Created": told}) is None
    assert made_at(None) is None
    assert made_at({"Created": "2026-01-02T03:04:05.123456789Z"}) is not None


def _listed(*dates: dict[str, Any]) -> str:
    metadata = {"namespace": "agents", "name": "alice"}
    one = {"apiVersion": "claudesandbox.dev/v1alpha1", "kind": "ClaudeSandbox", "metadata": metadata}
    return json.dumps({"kind": "List", "items": [one | {"status": {"due": list(dates)}}]})


def test_the_command_lists_what_is_due_and_exits_by_it() -> None:
    later = {"what": "Image", "at": "2999-01-01T00:00:00Z", "message": "later\x1b[2J"}
    past = {"what": "Key", "name": "anthropic", "at": "2020-01-01T00:00:00Z", "message": "make a new key"}
    ended = {"what": "Lifetime", "at": "2020-01-01T00:00:00Z", "message": ""}
    run = CliRunner()
    shown = run.invoke(due, ["-"], input=_listed(later, past))
    head, first, second = shown.stdout.splitlines()
    assert shown.exit_code == 1
    assert head.split()[:4] == ["DATE", "DUE", "SANDBOX", "WHAT"]
    assert first.startswith("2020-01-01  yes  agents/alice  Key anthropic")
    assert "\x1b" not in second
    assert run.invoke(due, ["-"], input=_listed(later, ended)).exit_code == 0
    assert run.invoke(due, ["-", "--within", "30"], input=_listed(later)).stdout.startswith("Nothing has a date")
    [told] = json.loads(run.invoke(due, ["-", "-o", "json"], input=_listed(past)).stdout)
    assert (told["sandbox"], told["what"], told["due"]) == ("alice", "Key", True)
    assert run.invoke(due, ["-"], input="{}").exit_code == 4


BACKUP = {
    "schedule": "30 2 * * *", "target": {"type": "VolumeClaim", "claimName": "b"}, "passwordSecretRef": {"name": "b"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("verified", "made", "spec", "told"),
    [
        (6, 99, {}, (ConditionStatus.TRUE, Reason.BACKUP_NOT_DUE)),
        (7, 99, {}, (ConditionStatus.FALSE, Reason.BACKUP_DUE)),
        (7, 99, {"due": {"backupMaxAge": "8d"}, "backup": BACKUP}, (ConditionStatus.TRUE, Reason.BACKUP_NOT_DUE)),
        (None, 6, {}, (ConditionStatus.UNKNOWN, Reason.NO_BACKUP_YET)),
        (None, 7, {}, (ConditionStatus.FALSE, Reason.BACKUP_DUE)),
    ],
)
def test_a_backup_is_due_to_be_verified_when_none_was_for_as_long_as_the_spec_says(
    verified: int | None, made: int, spec: dict[str, Any], told: tuple[ConditionStatus, Reason]
) -> None:
    last = None if verified is None else NOW - timedelta(days=verified)
    asked = Verified(last, NOW - timedelta(days=made), "The last one ended with TargetFull.")
    dates = found(verified=asked, **spec)
    assert dates.backup is not None
    assert dates.backup[:2] == told
    assert "TargetFull" in dates.backup[2]
    assert [one.at for one in dates.due if one.what is DueSubject.BACKUP]


def test_backups_that_are_not_where_they_were_are_told_at_once() -> None:
    dates = found(verified=Verified(NOW, NOW - timedelta(days=9), "One ended with RepositoryGone.", gone=True))
    assert dates.backup is not None
    assert dates.backup[:2] == (ConditionStatus.FALSE, Reason.BACKUPS_GONE)
    assert "RepositoryGone" in dates.backup[2]


def test_without_a_schedule_nothing_is_said_of_backups() -> None:
    assert found().backup is None
    assert DueSubject.BACKUP not in [one.what for one in found().due]
