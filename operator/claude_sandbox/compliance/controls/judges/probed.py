"""What a probe proves, whichever backend it was made on.

An attempt that fails proves little by itself: the target may be away. So a denial is proven only by the kernel, which
knows no way to the target, or together with a control: the target was seen to answer elsewhere at the same time.

Of the kernel, what the kernel itself says is enough: a call that it refuses is refused.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.evidence.probes import (
    ALLOWING,
    Expected,
    KernelCall,
    ProbeReport,
    Subject,
    Tried,
    is_nobody,
)
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, decided, failed, not_applicable, passed, unknown

REACHED = frozenset({"connected", "answered"})
_RULERS = frozenset({"ALL", "NET_ADMIN", "SYS_ADMIN"})
"""Capabilities by which a process changes the routes and filters of its network, or enters another one."""
REFUSED, POSSIBLE = "denied", "possible"
"""What the kernel said to a dangerous call."""
PROVEN = frozenset({"no-route", "declined"})
"""Outcomes that prove a denial by themselves: the kernel sent nothing, or the resolver says that it can't tell."""
NOT_MADE = frozenset({"refused", "unreachable", "timeout"})
"""Outcomes that do together with a control."""


def container_denial(container: Container) -> Verdict:
    """Nothing but its gateway could be connected to, from its own network and by a program that it can't touch."""
    return _of_container(container, denial)


def container_calls(container: Container) -> Verdict:
    """The kernel refuses dangerous calls to a process that is confined as its own are."""
    probe = container.probe
    return unknown(f"what the kernel lets it do {probe}") if isinstance(probe, str) else refusals(probe)


def pod_calls(view: View) -> Verdict:
    """The same of a pod."""
    return refusals(view.kernel_probe)


def refusals(report: ProbeReport) -> Verdict:
    """What the calls say together."""
    calls = report.kernel
    if isinstance(calls, str):
        return unknown(f"what the kernel lets it do is not known: {calls}")
    problems = [f"{one.name} is possible" for one in calls if one.outcome == POSSIBLE]
    return decided(problems, _doubts(calls), f"{len(calls)} dangerous calls are refused")


def narrower(report: ProbeReport) -> Verdict:
    """Whether the filter in force is as narrow as Strict, by what that alone refuses."""
    calls = report.strict
    if isinstance(calls, str):
        return unknown(f"which calls its filter refuses is not known: {calls}")
    let = [one.name for one in calls if one.outcome == POSSIBLE]
    if let:
        return failed(f"the filter in force is not Strict, which refuses what was possible: {', '.join(let)}")
    return decided([], _doubts(calls), f"{len(calls)} calls that Strict alone refuses are refused")


def _doubts(calls: Sequence[KernelCall]) -> list[str]:
    """What is not known of them, where none was possible."""
    if not calls:
        return ["no call was tried"]
    return [f"{one.name} could not be tried: {_said(one)}" for one in calls if one.outcome not in (POSSIBLE, REFUSED)]


def pod_denial(view: View) -> Verdict:
    """Nothing but what is allowed could be connected to, by a pod that the network can't tell from the sandbox's."""
    return denial(view.probe)


def _of_container(container: Container, judge: Callable[[ProbeReport], Verdict]) -> Verdict:
    probe = container.probe
    return unknown(f"what can be reached from it {probe}") if isinstance(probe, str) else judge(probe)


def container_metadata(container: Container) -> Verdict:
    """No metadata service of a cloud could be connected to, at any of its addresses."""
    return _of_container(container, metadata)


def pod_metadata(view: View) -> Verdict:
    """No metadata service of a cloud could be connected to, at any of its addresses, while it answered on the node."""
    return metadata(view.probe)


def metadata(report: ProbeReport) -> Verdict:
    """What was tried of metadata services alone."""
    return denial(_about(report, Subject.METADATA))


def pod_cluster(view: View) -> Verdict:
    """Neither the API server nor the kubelet of its node could be connected to, while they answered others."""
    return denial(_about(view.probe, Subject.CLUSTER))


def _about(report: ProbeReport, subject: Subject) -> ProbeReport:
    """The same, without what is denied and is something else."""
    kept = (one for one in report.tried if one.expected in ALLOWING or one.subject is subject)
    return replace(report, tried=tuple(kept))


def container_allowed(container: Container) -> Verdict:
    """Its gateway could be connected to."""
    return _of_container(container, allowance)


def pod_allowed(view: View) -> Verdict:
    """Its gateway and resolver could be connected to, and one of the addresses that are declared."""
    return allowance(view.probe)


def allowance(report: ProbeReport) -> Verdict:
    """What the attempts say of what is allowed. At a declared address nobody may be, so one of all that is allowed has
    to be reached."""
    wanted = [one for one in report.tried if one.expected in ALLOWING]
    if not wanted:
        return not_applicable("nothing is allowed that could be tried: no gateway, no resolver, no single address")
    there = ", ".join(one.name for one in wanted if one.outcome in REACHED)
    missed = [one for one in wanted if one.expected is Expected.ALLOWED and one.outcome not in REACHED]
    if not report.able:
        return unknown("no connection at all could be made from its network")
    if missed:
        return failed("; ".join(f"{one.name} could not be reached: {_why(one)}" for one in missed), there)
    if not there:
        return unknown("none of the addresses that are declared could be reached: nobody may be there")
    return passed(f"reached: {there}")


def container_outside(container: Container) -> Verdict:
    """What keeps it from connecting was tried, and it has no capability by which it could change that."""
    privileged, added = container.flag("HostConfig.Privileged"), container.strings("HostConfig.CapAdd")
    if privileged is None:
        return unknown(untold("HostConfig.Privileged"))
    if added is None:
        return unknown(untold("HostConfig.CapAdd"))
    problems = ["it is privileged"] if privileged else []
    return _outside([*problems, *_changing(added)], container_denial(container))


def pod_outside(view: View) -> Verdict:
    """What keeps it from connecting was tried, and it has no capability by which it could change that."""
    problems = []
    for one in view.containers:
        added = (one.context.get("capabilities") or {}).get("add") or ()
        found = ["is privileged"] if one.context.get("privileged") else []
        problems += [f"container {one.name}: {problem}" for problem in (*found, *_changing(added))]
    return _outside(problems, pod_denial(view))


def _changing(added: Iterable[str]) -> list[str]:
    names = {str(one).upper().removeprefix("CAP_") for one in added}
    return [
        f"it has the capability {name}, by which routes and filters are changed" for name in sorted(names & _RULERS)
    ]


def _outside(problems: list[str], tried: Verdict) -> Verdict:
    if problems:
        return failed("; ".join(problems))
    if tried.result is not Result.PASS:
        return Verdict(tried.result, tried.message)
    return passed("no capability to change its network, in which what is denied was seen to be denied")


def denial(report: ProbeReport) -> Verdict:
    """What the attempts prove together."""
    problems = [problem for one in report.tried if (problem := reached(one))]
    # Docker 20.10 gives a container of an internal network a default route, by an address that nobody has. Where that
    # is seen, it is as good as none: nothing was ever asked for but that address.
    nowhere = report.dead_end and report.ways == ()
    proven = [one for one in report.tried if _proven(one, nowhere=nowhere)]
    doubts = [doubt for one in report.tried if one not in proven and (doubt := _doubt(one))]
    doubts += [f"there is a way to {way}" for way in report.ways or ()]
    if not report.able:
        doubts.append("no connection at all could be made from its network, so that one fails proves nothing")
    allowed = [one for one in report.tried if one.expected in ALLOWING]
    expected = {one.expected for one in allowed}
    if Expected.PERMITTED in expected and not any(one.outcome in REACHED for one in allowed):
        doubts.append("nothing that is allowed could be reached, so that what is denied was not proves nothing")
    if report.ways is None:
        doubts.append("the routes of its network could not be read")
    if not proven:
        doubts.append("nothing was tried that is to be denied and answers elsewhere")
    since = f", from {report.open_seconds} s after its start on" if report.open_seconds else ""
    seen = ", ".join(one.name for one in proven)
    return decided(problems, doubts, f"nothing that is denied was reached{since}; seen to be denied: {seen}")


def reached(one: Tried) -> str:
    """What could be reached that is not to be; empty where nothing was."""
    if one.expected in ALLOWING:
        return ""
    if one.outcome in REACHED:
        return f"{one.name} can be reached"
    return f"somebody answers at {one.name}" if one.expected is Expected.SILENT and one.outcome == "refused" else ""


def _proven(one: Tried, *, nowhere: bool) -> bool:
    """Whether it is seen to be denied. `nowhere`: whether all ways out end at an address that nobody has."""
    if one.expected in ALLOWING or reached(one):
        return False
    if one.outcome in PROVEN or is_nobody(one):
        return True
    if nowhere and one.expected is not Expected.SILENT and one.outcome in ("routed", "unreachable"):
        return True
    return one.outcome in NOT_MADE and one.answers is True


def _doubt(one: Tried) -> str:
    """Why this one leaves something in doubt; empty where it does not."""
    if one.expected is Expected.ALLOWED:
        return "" if one.outcome in REACHED else f"{one.name}, which is allowed, could not be reached: {_why(one)}"
    if reached(one) or one.expected is Expected.PERMITTED:
        return ""
    if one.outcome == "routed":
        return f"there is a way to {one.name}"
    if one.expected is Expected.DENIED_IF_THERE and one.outcome in NOT_MADE:
        return ""
    elsewhere = {True: "", False: ", nor elsewhere", None: ", and it was not tried elsewhere"}[one.answers]
    return f"{one.name} did not answer ({_why(one)}){elsewhere}"


def _said(one: KernelCall) -> str:
    return f"{one.outcome}, {one.error}" if one.error else one.outcome


def _why(one: Tried) -> str:
    return f"{one.outcome}, {one.error}" if one.error else one.outcome
