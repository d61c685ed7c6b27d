"""What of a sandbox is due at which time, and the conditions that turn then. Pure: the clock is an argument.

Nothing is written when a date passes but by the pass that comes next: a status says dates and no ages, so that one at
rest stays as it is. What could be known only in part is said as that: an image is at least as old as the workload that
runs it, and a key as the last write of its Secret's data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.fields.due import Due
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status_fields.due import MOST_DUE, DueDate, DueSubject
from claude_sandbox.backends.base import KeyState, WorkloadState

Judgement = tuple[ConditionStatus, Reason, str]

RENEWED_BY = timedelta(days=20)
"""How long before the end of a gateway's certificate it should have been renewed: the operator does so ten days before.
"""
_RENEW_IMAGE = "have the image built anew and name its digest, or replace the workload where a tag names it"
_RENEW_KEY = "make a new key, put it into the Secret, and revoke the old one"


@dataclass(frozen=True)
class Dates:
    """`due`: the earliest first. `image`, `key` and `backup`: the conditions ImageCurrent, CredentialsDue and
    BackupVerified, which a sandbox has whose spec asks for backups. `certificate`: CertificateDue, while it is."""

    due: tuple[DueDate, ...]
    image: Judgement
    key: Judgement
    backup: Judgement | None = None
    certificate: Judgement | None = None


@dataclass(frozen=True)
class Verified:
    """`last`: when a backup was verified last. `since`: when the sandbox was made, which counts before that.
    `said`: what is amiss with its backups; `gone`: that they are not where they were.
    """

    last: datetime | None
    since: datetime
    said: str = ""
    gone: bool = False


def dates_of(
    spec: ClaudeSandboxSpec, key: KeyState, workload: WorkloadState, ends: datetime | None, now: datetime,
    verified: Verified | None = None,
) -> Dates:  # fmt: skip
    """What is due of a sandbox. `ends`: when its time is over, where its spec bounds that."""
    asked = spec.due or Due()
    made, certain = _made(workload)
    image = None if made is None else _second(made + asked.image_lasts)
    changed = None if key.changed is None else _second(key.changed + asked.key_lasts)
    found = [*_exceptions(spec)]
    if image is not None:
        found.append(DueDate(what=DueSubject.IMAGE, at=image, message=f"{_RENEW_IMAGE[:1].upper()}{_RENEW_IMAGE[1:]}."))
    if changed is not None:
        name = spec.credentials.secret_ref.name
        message = f"{_RENEW_KEY[:1].upper()}{_RENEW_KEY[1:]}."
        found.append(DueDate(what=DueSubject.KEY, name=name, at=changed, message=message))
    backup = None if verified is None else _second((verified.last or verified.since) + asked.backup_lasts)
    if backup is not None:
        message = "See why none was verified since: kubectl get claudesandboxbackups."
        found.append(DueDate(what=DueSubject.BACKUP, at=backup, message=message))
    renewed = None if workload.certificate_ends is None else _second(workload.certificate_ends - RENEWED_BY)
    if renewed is not None:
        message = "The operator renews its gateway's certificate before; if this is past, its log says why it has not."
        found.append(DueDate(what=DueSubject.CERTIFICATE, name=meta.GATEWAY_TLS, at=renewed, message=message))
    if ends is not None:
        message = "It ends then; a later spec.lifecycle puts that off."
        found.append(DueDate(what=DueSubject.LIFETIME, at=_second(ends), message=message))
    # By all three, so that two of the same date don't change places from write to write.
    found.sort(key=lambda one: (one.at, one.what, one.name))
    return Dates(tuple(found[:MOST_DUE]), _image(image, now, certain=certain), _key(changed, now),
                 _backup(backup, verified, now), _certificate(renewed, workload.certificate_ends, now))  # fmt: skip


def _made(workload: WorkloadState) -> tuple[datetime | None, bool]:
    """When the image that runs was made, and whether that is known; else when it was there already."""
    started = workload.workload.started_at if workload.workload is not None else None
    made = workload.image_made
    # Who makes an image says when it was made; that it was there before it ran is certain.
    if made is not None and started is not None:
        return min(made, started), True
    return started, False


def _exceptions(spec: ClaudeSandboxSpec) -> Iterator[DueDate]:
    for one in spec.compliance.exceptions:
        last = datetime.combine(datetime.fromisoformat(one.expires).date(), time(), UTC)
        message = f"The exception of {one.owner} ends: see that the control passes."
        yield DueDate(what=DueSubject.EXCEPTION, name=one.control, at=last + timedelta(days=1), message=message)


def _image(due: datetime | None, now: datetime, *, certain: bool) -> Judgement:
    if due is None:
        return ConditionStatus.UNKNOWN, Reason.NO_WORKLOAD, "Nothing runs whose image could have an age."
    if due <= now:
        return ConditionStatus.FALSE, Reason.IMAGE_DUE, f"Its image is due since {_day(due)}: {_RENEW_IMAGE}."
    if certain:
        return ConditionStatus.TRUE, Reason.IMAGE_NOT_DUE, f"Its image is due on {_day(due)}."
    message = f"Nothing tells when its image was made. It is due on {_day(due)} at the latest: it runs for so long."
    return ConditionStatus.UNKNOWN, Reason.AGE_NOT_KNOWN, message


def _key(due: datetime | None, now: datetime) -> Judgement:
    if due is None:
        message = "Nothing tells when the key was changed last: the operator may not look at its Secret."
        return ConditionStatus.UNKNOWN, Reason.AGE_NOT_KNOWN, message
    if due <= now:
        return ConditionStatus.TRUE, Reason.KEY_DUE, f"Its key is due since {_day(due)}: {_RENEW_KEY}."
    return ConditionStatus.FALSE, Reason.KEY_NOT_DUE, f"Its key is due on {_day(due)}, by the Secret's last change."


def _backup(due: datetime | None, verified: Verified | None, now: datetime) -> Judgement | None:
    if due is None or verified is None:
        return None
    more = f" {verified.said}" if verified.said else ""
    was = "None was verified yet" if verified.last is None else f"One was verified on {_day(verified.last)}"
    if verified.gone:
        message = f"{verified.said} None of the backups is where it was. Do what its condition Complete says."
        return ConditionStatus.FALSE, Reason.BACKUPS_GONE, message
    if due <= now:
        message = f"{was}, and is due since {_day(due)}: see why with kubectl get claudesandboxbackups.{more}"
        return ConditionStatus.FALSE, Reason.BACKUP_DUE, message
    if verified.last is None:
        return ConditionStatus.UNKNOWN, Reason.NO_BACKUP_YET, f"{was}. It is due on {_day(due)}.{more}"
    return ConditionStatus.TRUE, Reason.BACKUP_NOT_DUE, f"{was}; the next is due on {_day(due)}.{more}"


def _certificate(due: datetime | None, ends: datetime | None, now: datetime) -> Judgement | None:
    if due is None or ends is None or now < due:
        return None
    does, reason = ("ended", Reason.CERTIFICATE_EXPIRED) if ends <= now else ("ends", Reason.CERTIFICATE_NOT_RENEWED)
    message = f"The certificate of its gateway (Secret {meta.GATEWAY_TLS}) {does} on {_day(ends)}, and was not renewed:"
    return ConditionStatus.TRUE, reason, f"{message} the operator's log says why."


def _day(at: datetime) -> str:
    return at.strftime("%Y-%m-%d")


def _second(at: datetime) -> datetime:
    return at.replace(microsecond=0)
