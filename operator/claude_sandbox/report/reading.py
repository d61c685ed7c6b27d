"""From ClaudeSandboxes, as the API server or a file has them, to a report.

A status names what passes and describes the rest; what it leaves out the catalogue has. Nothing here makes a result
better than its status says, and these make one worse:

- a control of the sandbox's backend that the status does not have is Unknown;
- so is everything that passed or did not apply, where the status is of an earlier generation, or its evaluation is
  overdue or failed, or whose operator is silent;
- of two results of one control the worse counts;
- an exception whose last day is over counts for nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from claude_sandbox.api.clip import plain
from claude_sandbox.api.spec import BackendType, Level, Profile
from claude_sandbox.api.status import Severity
from claude_sandbox.report import given, results
from claude_sandbox.report.entries import asked_of, entry, host_entries
from claude_sandbox.report.hosts import host
from claude_sandbox.report.model import ControlEntry, Outcome, Report, Sandbox


def report(
    documents: Iterable[Mapping[str, Any]],
    *,
    generated_at: datetime,
    version: str,
    origin: str,
    scope: str,
    silence: str = "",
    note: str = "",
    hosts: Iterable[Mapping[str, Any]] = (),
) -> Report:
    """A report of the ClaudeSandboxes, and of DockerHosts. `silence` says why no pass of any counts.

    Raises NotASandboxError.
    """
    read = [_sandbox(document, silence) for document in documents]
    read.sort(key=lambda one: (one[0].namespace, one[0].name, one[0].uid))
    entries: dict[str, ControlEntry] = {}
    for _, mentioned in read:
        entries |= {identifier: one for identifier, one in mentioned.items() if identifier not in entries}
    ordered = sorted(entries, key=results.order)
    sandboxes = tuple(_without_ended(sandbox, generated_at.date()) for sandbox, _ in read)
    found = sorted((host(document, sandboxes, silence) for document in hosts), key=lambda one: one.name)
    return Report(
        generated_at=generated_at,
        version=version,
        origin=plain(origin),
        scope=plain(scope),
        note=plain(note),
        sandboxes=sandboxes,
        controls={identifier: entries[identifier] for identifier in ordered},
        hosts=tuple(found),
        host_controls=host_entries() if found else {},
    )


def _sandbox(document: Mapping[str, Any], silence: str) -> tuple[Sandbox, dict[str, ControlEntry]]:
    metadata, spec, status = (given.fields(document, name) for name in ("metadata", "spec", "status"))
    namespace, name = (given.name(metadata, key) for key in ("namespace", "name"))
    backend = given.choice(BackendType, given.fields(spec, "backend").get("type"), BackendType.KUBERNETES)
    profile = given.choice(Profile, spec.get("profile"), Profile.DEVELOPMENT)
    level = given.choice(Level, given.fields(spec, "compliance").get("level"), Level.SANDBOX)
    workload, compliance = given.fields(status, "workload"), given.fields(status, "compliance")
    conditions = tuple(results.condition(one) for one in given.objects(status, "conditions"))
    exceptions = given.objects(given.fields(spec, "compliance"), "exceptions")
    found, entries = results.found_in(compliance, asked_of(backend, profile, level), exceptions)
    doubt = results.doubt_of(metadata, status, conditions) if compliance else results.unmeasured(conditions)
    doubt = doubt or plain(silence)
    sandbox = Sandbox(
        namespace=namespace,
        name=name,
        uid=given.text(metadata.get("uid")),
        generation=given.number(metadata.get("generation")),
        backend=backend,
        profile=profile,
        level=level,
        measured_at=given.time(compliance.get("evaluatedAt")),
        outcomes=results.outcomes(found, asked_of(backend, profile, level), doubt, measured=bool(compliance)),
        conditions=conditions,
        workload=given.text(workload.get("name")),
        place=given.text(workload.get("node") or workload.get("host") or given.fields(status, "placement").get("host")),
        image=given.text(workload.get("image")),
        read_only_workspace=_read_only(spec, profile),
        doubt=doubt,
    )
    for identifier in asked_of(backend, profile, level):
        entries.setdefault(identifier, entry(identifier, "", Severity.CRITICAL))
    return sandbox, entries


def _without_ended(sandbox: Sandbox, today: date) -> Sandbox:
    """Without exceptions whose last day is over, as in a status that is older: the control is asked for again."""
    asked = asked_of(sandbox.backend, sandbox.profile, sandbox.level)
    return replace(sandbox, outcomes=tuple(_if_ended(one, today, asked) for one in sandbox.outcomes))


def _if_ended(outcome: Outcome, today: date, asked: Mapping[str, bool]) -> Outcome:
    one = outcome.exemption
    if one is None or today <= one.expires:
        return outcome
    expired = f"its exception by {one.owner} expired on {one.expires}"
    message = f"{outcome.message}; {expired}" if outcome.message else expired
    return replace(outcome, exemption=None, required=asked.get(outcome.control, True), message=message)


def _read_only(spec: Mapping[str, Any], profile: Profile) -> bool:
    """As `ClaudeSandboxSpec.effective_read_only`: what the user says, and else the profile."""
    said = given.fields(spec, "workspace").get("readOnly")
    return said if isinstance(said, bool) else profile is Profile.PRODUCTION
