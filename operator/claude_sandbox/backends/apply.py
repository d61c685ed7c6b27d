"""Applies the stages of a plan: what both backends do alike, whatever their steps are.

Theory of operation. A plan is made from one look, and others change things meanwhile. So every step may turn out to be
impossible, done already, or decided upon what is not so any more, and what became of each is noted rather than raised.

- The steps of a stage are done at the same time; each stage needs the one before it. A stage with a failed step is
  therefore the last: nothing runs before what protects it is there. Its other steps are finished all the same, so that
  what they did is told too.
- A stage that has to wait for its pace is the last as well. It is asked only once all before it has succeeded, since to
  ask is to use it up.
- What is raised and was not foreseen, or a cancellation, goes to the caller; `Progress` is lost with it.

A `Progress` belongs to one pass over one sandbox and is touched by the event loop alone. Nothing is kept between
passes: a crash at any write leaves the objects as they are, and the next pass makes its plan from them.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar

from claude_sandbox.backends.base import Cause, Failure, Healed

FOREIGN_AGAIN = 10.0
"""Seconds until an object in the way is looked at again, of which no watch and no event may tell."""
STALE_AGAIN = 1.0
"""Seconds until a pass whose picture was behind is made again; a watch or an event mostly has it sooner."""

Pace = Callable[[], float]
"""Seconds until a paced step may be done; 0 for now, which then counts as done."""


class ForeignObjectError(Exception):
    """An object under one of our names is not ours. The message names it as "Kind name"."""


class StaleError(Exception):
    """What was seen is not so any more, or was not all; the next look is to judge it."""


class Step(Protocol):
    """One thing to do to one object."""

    @property
    def verb(self) -> Enum: ...

    @property
    def cause(self) -> Cause: ...

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def paths(self) -> tuple[str, ...]: ...


S = TypeVar("S", bound=Step)


@dataclass
class Progress(ABC, Generic[S]):
    """What became of a plan's steps so far."""

    done: list[S] = field(default_factory=list)
    """Each as what it turned out to be: an object that was to be created may only have had to be changed."""
    foreign: list[str] = field(default_factory=list)
    """Objects in the way that the plan did not know of, as "Kind name"."""
    failure: Failure | None = None
    paced: float | None = None
    """Seconds until what has to wait is due."""
    stale: bool = False

    @abstractmethod
    def failed(self, step: S, error: Exception) -> None:
        """Take in what else a step raised. Raises it where the backend did not foresee it."""

    @property
    def over(self) -> bool:
        """Whether no further stage may be begun."""
        return self.failure is not None or self.paced is not None

    def note(self, step: S, result: S | BaseException | None) -> None:
        """Take in one step's result: the step that was done, None where there was nothing left to do, or an error."""
        if isinstance(result, ForeignObjectError):
            self.foreign.append(str(result))
        elif isinstance(result, StaleError):
            self.stale = True
        elif isinstance(result, Exception):
            self.failed(step, result)
        elif isinstance(result, BaseException):
            raise result
        elif result is not None:
            self.done.append(result)

    def named(self, verbs: Collection[Enum], *causes: Cause) -> tuple[str, ...]:
        """What was done with one of these verbs for one of these causes, as "Kind name"."""
        return tuple(f"{step.kind} {step.name}" for step in self.done if step.verb in verbs and step.cause in causes)

    def healed(self, reason: Callable[[S], str]) -> tuple[Healed, ...]:
        """What was repaired. `reason`: one of `Healed`'s."""
        repairs = (step for step in self.done if step.cause is Cause.HEAL)
        return tuple(Healed(step.kind, step.name, reason(step), step.paths) for step in repairs)


async def apply_stages(
    stages: tuple[tuple[S, ...], ...],
    progress: Progress[S],
    wait: Callable[[tuple[S, ...]], float],
    do: Callable[[S], Awaitable[S | None]],
) -> None:
    """Do the steps, and note in `progress` what became of each.

    `wait` tells in how many seconds a stage may be done, 0 for now; `do` does a step and gives what is to be noted.
    """
    for stage in stages:
        if (seconds := wait(stage)) > 0:
            progress.paced = seconds
            return
        # Not ended by the first error: a step that is cut off in the middle of a write would leave nobody knowing what
        # it did.
        results = await asyncio.gather(*(do(step) for step in stage), return_exceptions=True)
        for step, result in zip(stage, results, strict=True):
            progress.note(step, result)
        if progress.foreign or progress.stale:
            # Neither is a failure, but what comes next was planned upon what is not so: it waits for the next pass.
            progress.paced = FOREIGN_AGAIN if progress.foreign else STALE_AGAIN
        if progress.over:
            return
