"""What the statuses of all resources have in common: conditions are stamped."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from claude_sandbox.api.conditions import ConditionStatus

K = TypeVar("K", bound=StrEnum)
C = TypeVar("C")


class State(Protocol):
    """A condition without its times."""

    @property
    def status(self) -> ConditionStatus: ...

    @property
    def reason(self) -> StrEnum: ...

    @property
    def message(self) -> str: ...


def stamped(
    make: Callable[..., C],
    previous: Iterable[Mapping[str, Any]],
    states: Mapping[K, State],
    generation: int,
    now: datetime,
) -> list[C]:
    """The conditions as `make` makes them; the time of the last transition moves only when the status does."""
    before = {condition["type"]: condition for condition in previous}
    made = []
    for kind, state in states.items():
        old = before.get(kind)
        # As the convention of the Kubernetes API says: another reason or message is no transition.
        same = old is not None and old["status"] == state.status
        made.append(
            make(
                type=kind,
                status=state.status,
                observed_generation=generation,
                last_transition_time=old["lastTransitionTime"] if old is not None and same else now,
                reason=state.reason,
                message=state.message,
            )
        )
    return made
