"""From what was seen and read of a sandbox to the results of its controls. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Compliance
from claude_sandbox.backends.base import Outcome
from claude_sandbox.backends.docker.evidence import container as evidence
from claude_sandbox.backends.docker.gateway import evidence as gateway_evidence
from claude_sandbox.backends.docker.keys.key_place import place_of
from claude_sandbox.backends.docker.model import Observed
from claude_sandbox.backends.docker.relay import evidence as relay_evidence
from claude_sandbox.backends.docker.seen import Seen
from claude_sandbox.backends.probing.schedule import UNDER_WAY
from claude_sandbox.compliance.evidence.containers import (
    NOT_READ,
    Declared,
    ExecSessions,
    SettingsContent,
)
from claude_sandbox.compliance.evidence.probes import NOT_PROBED, ProbeReport
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.compliance.reports.findings import compliance
from claude_sandbox.compliance.reports.isolation import Judgement
from claude_sandbox.compliance.reports.pods import compliant


@dataclass(frozen=True)
class Read:
    """What was read of a sandbox's container beside its document; None and NOT_READ for what was not."""

    process: Reading[Process] | Unread | None = None
    settings: Reading[SettingsContent] | Unread = NOT_READ
    visits: ExecSessions | None = None
    probe: Reading[ProbeReport] | Unread = NOT_PROBED
    probe_max_age: timedelta = timedelta.max


def measured(
    declared: Declared, seen: Seen | None, missing: str, outcome: Outcome, read: Read, now: datetime
) -> tuple[Compliance, Judgement, Judgement]:
    """The controls' results, and what the Compliant and IsolationVerified conditions say.

    `missing`: why there is no container to judge, or nothing was seen at all.
    """
    observed = seen.observed if seen is not None else Observed()
    container = observed.container
    found = findings(
        evidence.evidence(
            declared,
            container if container is not None else missing,
            (observed.network,) if observed.network is not None else (),
            tuple(observed.volumes.values()),
            seen.at if seen is not None else now,
            now,
            process=read.process,
            drifted=outcome.drifted,
            outdated=outcome.spec_changed,
            capabilities=seen.capabilities if seen is not None else None,
            settings=read.settings,
            relay=relay_evidence.of(seen.wanted, seen.observed, seen.capabilities) if seen is not None else None,
            gateway=gateway_evidence.of(seen.wanted, seen.observed, seen.capabilities) if seen is not None else None,
            visits=read.visits,
            key_place=place_of(observed.delivered),
            probe=read.probe,
            probe_max_age=read.probe_max_age,
        )
    )
    reported = compliance(found, now)
    if seen is None:
        lost: Judgement = (ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, f"{missing}.")
        return reported, compliant(found, reported, declared.level), lost
    judged = compliant(found, reported, declared.level)
    isolated = evidence.isolation(seen.wanted, container, observed.network, found, under_way=read.probe is UNDER_WAY)
    return reported, judged, isolated
