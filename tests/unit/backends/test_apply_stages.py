"""How the stages of a plan are applied, whatever the steps are."""

import asyncio
from dataclasses import dataclass, field
from enum import Enum

import pytest

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.apply import (
    FOREIGN_AGAIN,
    STALE_AGAIN,
    ForeignObjectError,
    Progress,
    StaleError,
    apply_stages,
)
from claude_sandbox.backends.base import Cause, Failure, Healed


class Verb(Enum):
    MAKE = "make"
    MEND = "mend"


@dataclass(frozen=True)
class Step:
    name: str
    verb: Verb = Verb.MAKE
    cause: Cause = Cause.PROVISION
    kind: str = "Thing"
    paths: tuple[str, ...] = ()


@dataclass
class Made(Progress[Step]):
    def failed(self, step: Step, error: Exception) -> None:
        if not isinstance(error, OSError):
            raise error
        self.failure = self.failure or Failure(Reason.RETRYING, f"{step.name}: {error}", permanent=False)


@dataclass
class Place:
    """Does steps; `faults`: what some raise, `waits`: how long the stages with some have to wait."""

    faults: dict[str, BaseException] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    @property
    def begun(self) -> list[str]:
        return [line.removeprefix("begin ") for line in self.log if line.startswith("begin ")]

    async def do(self, step: Step) -> Step | None:
        self.log.append(f"begin {step.name}")
        await asyncio.sleep(0)
        if step.name in self.faults:
            raise self.faults[step.name]
        self.log.append(f"end {step.name}")
        return None if step.name == "there already" else step

    async def apply(self, *stages: tuple[Step, ...]) -> Made:
        progress = Made()
        longest = lambda stage: max(self.waits.get(step.name, 0.0) for step in stage)  # noqa: E731
        await apply_stages(stages, progress, longest, self.do)
        return progress


ONE, TWO, THREE = Step("one"), Step("two"), Step("three")


async def test_the_steps_of_a_stage_are_begun_together_and_a_stage_after_the_one_before_it() -> None:
    place = Place()
    assert (await place.apply((ONE, TWO), (THREE,))).done == [ONE, TWO, THREE]
    assert place.log == ["begin one", "begin two", "end one", "end two", "begin three", "end three"]


@pytest.mark.parametrize(
    ("fault", "foreign", "stale", "paced"),
    [
        (OSError("no"), [], False, None),
        (ForeignObjectError("Thing one"), ["Thing one"], False, FOREIGN_AGAIN),
        (StaleError(), [], True, STALE_AGAIN),
    ],
)
async def test_what_was_in_a_stage_that_failed_is_finished_and_told_and_nothing_comes_after_it(
    fault: Exception, foreign: list[str], stale: bool, paced: float | None
) -> None:
    place = Place(faults={"one": fault})
    found = await place.apply((ONE, TWO), (THREE,))
    assert (found.done, place.begun) == ([TWO], ["one", "two"])
    assert (found.foreign, found.stale, found.paced) == (foreign, stale, paced)
    assert (found.failure is not None) is isinstance(fault, OSError)


async def test_an_object_in_the_way_is_waited_for_longer_than_a_picture_that_is_behind() -> None:
    place = Place(faults={"one": ForeignObjectError("Thing one"), "two": StaleError()})
    assert (await place.apply((ONE, TWO))).paced == FOREIGN_AGAIN


async def test_a_stage_that_has_to_wait_is_not_begun_and_is_the_last() -> None:
    place = Place(waits={"two": 5.0})
    found = await place.apply((ONE,), (TWO,), (THREE,))
    assert (place.begun, found.paced, found.failure) == (["one"], 5.0, None)


async def test_a_step_that_was_done_already_is_told_of_by_nobody() -> None:
    assert (await Place().apply((Step("there already"), ONE))).done == [ONE]


@pytest.mark.parametrize("fault", [KeyError("a mistake"), asyncio.CancelledError()])
async def test_what_the_backend_did_not_foresee_is_raised(fault: BaseException) -> None:
    with pytest.raises(type(fault)):
        await Place(faults={"one": fault}).apply((ONE,), (TWO,))


async def test_what_was_done_is_named_by_verb_and_cause_and_repairs_apart() -> None:
    mended = Step("two", Verb.MEND, Cause.HEAL, paths=("spec",))
    found = await Place().apply((ONE, mended, Step("three", Verb.MEND, Cause.UPDATE)))
    assert found.named((Verb.MAKE,), Cause.PROVISION, Cause.UPDATE) == ("Thing one",)
    assert found.named((Verb.MAKE, Verb.MEND), Cause.UPDATE) == ("Thing three",)
    assert found.healed(lambda step: step.verb.value) == (Healed("Thing", "two", "mend", ("spec",)),)
