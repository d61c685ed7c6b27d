"""Words that formats have in common."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from claude_sandbox.api.status import Result, Severity
from claude_sandbox.report.model import Change, ControlEntry, Host, Measured, Outcome, Report, Sandbox, Verdict

TOOL = "claude-sandbox report"
VERDICTS = {
    Verdict.COMPLIANT: "compliant",
    Verdict.NOT_COMPLIANT: "not compliant",
    Verdict.NOT_VERIFIED: "not verified",
}
RESULTS = {
    Result.FAIL: "fail",
    Result.UNKNOWN: "unknown",
    Result.NOT_APPLICABLE: "not applicable",
    Result.PASS: "pass",
}
SEVERITIES = tuple(Severity)
"""From the worst on."""


_MANY = 12
"""So many changes of a sandbox are told one by one."""


@dataclass(frozen=True)
class Found:
    """The same result of one control, for the same reason, and every sandbox that has it."""

    control: ControlEntry
    outcome: Outcome
    sandboxes: tuple[str, ...]


def moment(at: datetime) -> str:
    """As Kubernetes writes times, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def required(one: Measured) -> str:
    """Passed/required."""
    return "{}/{}".format(*one.required)


def asked(outcome: Outcome) -> str:
    """Whether the verdict depends on it, and why not."""
    return "excepted" if outcome.exemption else "required" if outcome.required else "not required"


def excepted(outcome: Outcome) -> str:
    """Its exception; empty where it has none."""
    one = outcome.exemption
    return f"by {one.owner} until {one.expires}: {one.reason}" if one else ""


def gathered(report: Report, *results: Result, doubted: bool = False) -> Iterator[Found]:
    """What has one of these results, the most severe first, each message once for all sandboxes that have it.

    That nothing is known of a sandbox that is in doubt as a whole is left to `doubts`, unless `doubted`.
    """
    groups: dict[tuple[object, ...], list[tuple[Sandbox, Outcome]]] = {}
    for sandbox in report.sandboxes:
        for one in sandbox.outcomes:
            told = doubted or not (sandbox.doubt and one.result is Result.UNKNOWN)
            if told and one.result in results:
                key = (one.control, one.result, one.required, one.message, one.exemption)
                groups.setdefault(key, []).append((sandbox, one))
    found = [
        Found(report.controls[those[0][1].control], those[0][1], tuple(sandbox.full_name for sandbox, _ in those))
        for those in groups.values()
    ]
    places = {identifier: place for place, identifier in enumerate(report.controls)}
    yield from sorted(
        found,
        key=lambda one: (
            results.index(one.outcome.result),
            not one.outcome.decides,
            SEVERITIES.index(one.control.severity),
            places[one.control.id],
            one.outcome.message,
        ),
    )


def gathered_of_hosts(report: Report, *results: Result) -> Iterator[Found]:
    """The same of Docker hosts."""
    as_sandboxes = [(one, outcome) for one in report.hosts for outcome in one.outcomes if outcome.result in results]
    groups: dict[tuple[object, ...], list[tuple[Host, Outcome]]] = {}
    for host, outcome in as_sandboxes:
        if not (host.doubt and outcome.result is Result.UNKNOWN):
            groups.setdefault((outcome.control, outcome.result, outcome.message), []).append((host, outcome))
    found = [
        Found(report.host_controls[those[0][1].control], those[0][1], tuple(host.name for host, _ in those))
        for those in groups.values()
    ]
    yield from sorted(
        found,
        key=lambda one: (
            results.index(one.outcome.result),
            not one.outcome.decides,
            SEVERITIES.index(one.control.severity),
            one.control.id,
            one.outcome.message,
        ),
    )


def conditions_of(host: Host) -> str:
    """Its conditions as `Ready=True (HostReady)`, with what is said of those that are not as they should be."""
    told = [
        f"{one.type}={one.status} ({one.reason})" + (f": {one.message}" if one.message and one.status != "True" else "")
        for one in host.conditions
        if one.status != "False" or one.type not in _RATHER_FALSE
    ]
    return "; ".join(told)


_RATHER_FALSE = frozenset({"Reconciling", "Stalled", "Drained"})


def doubts(report: Report) -> dict[str, tuple[str, ...]]:
    """Why what passed is unknown, of sandboxes that are in doubt as a whole, and which those are."""
    found: dict[str, tuple[str, ...]] = {}
    for sandbox in report.sandboxes:
        if sandbox.doubt:
            found[sandbox.doubt] = (*found.get(sandbox.doubt, ()), sandbox.full_name)
    return found


def changed(report: Report) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What changed since an earlier report, as a phrase, each once for all sandboxes of which it is so."""
    found = report.changes
    if found is None:
        return
    for word, changes in (("worse", found.worse), ("better", found.better)):
        yield from ((f"{word}: {what}", names) for what, names in _grouped(changes, report))
    for word, names in (("new", found.new), ("gone", found.gone)):
        if names:
            yield word, names


def _grouped(changes: Iterable[Change], report: Report) -> Iterator[tuple[str, tuple[str, ...]]]:
    """By control; but where much of a sandbox went the same way, as when it was not measured, by how much it is."""
    of_one: dict[tuple[str, Result | None, Result], list[Change]] = {}
    for one in changes:
        of_one.setdefault((one.sandbox, one.was, one.now), []).append(one)
    groups: dict[str, list[str]] = {}
    for (sandbox, was, now), those in of_one.items():
        went = f"{was.value if was else 'not asked'} before, now {now.value}"
        controls = [report.controls[one.control] for one in those]
        whats = [f"{len(those)} controls"] if len(those) > _MANY else [f"{one.id} {one.title}" for one in controls]
        for what in whats:
            groups.setdefault(f"{what}, {went}", []).append(sandbox)
    yield from ((what, tuple(names)) for what, names in groups.items())


def some(names: Iterable[str], most: int) -> tuple[list[str], int]:
    """The first of them, and how many more there are."""
    everything = list(names)
    return everything[:most], max(0, len(everything) - most)
