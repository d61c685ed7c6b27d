"""How a control is decided for a container. What is demanded is the catalogue's; how it is found out is Docker's."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import Severity
from claude_sandbox.compliance import catalogue
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.control import ALWAYS, Control, Level, Mapping, Verdict, failed, passed, unknown

Judge = Callable[[Container], Verdict]

_BY_ID = {control.id: control for control in catalogue.CONTROLS}


@dataclass(frozen=True)
class Measure:
    """One control on Docker. Without `judge` a container's document can't decide it."""

    control: Control
    remedy: str
    judge: Judge | None = None
    on_kubernetes: bool = True
    """Whether the catalogue has the control for pods too."""


def shared(id: str, judge: Judge, remedy: str, *, required: frozenset[Profile] | None = None) -> Measure:
    """A control that pods have too. `required` where it is measured here and not there."""
    control = _BY_ID[id]
    return Measure(control if required is None else replace(control, required=required), remedy, judge)


def unmeasured(id: str, how: str) -> Measure:
    """A control that pods have too, and that takes a probe to decide on either: `how` completes "it would take …"."""
    return Measure(replace(_BY_ID[id], unproven=how), _BY_ID[id].remedy)


def docker_only(
    id: str,
    title: str,
    severity: Severity,
    level: Level,
    remedy: str,
    judge: Judge,
    *,
    required: frozenset[Profile] = ALWAYS,
    mappings: tuple[Mapping, ...] = (),
) -> Measure:
    """A control that is about something that pods don't have, or that no API object of theirs tells."""
    control = Control(
        id,
        title,
        severity,
        level,
        remedy,
        needs=(),
        required=required,
        mappings=mappings,
        unproven="the document of a container",
    )
    return Measure(control, remedy, judge, on_kubernetes=False)


def decided(problems: Iterable[str], doubts: Iterable[str] = (), value: str = "") -> Verdict:
    """Fails with all `problems`; without any, `doubts` make it Unknown; without either it passes."""
    problems, doubts = list(dict.fromkeys(problems)), list(dict.fromkeys(doubts))
    if problems:
        return failed("; ".join(problems), value)
    return unknown("; ".join(doubts), value) if doubts else passed(value)
