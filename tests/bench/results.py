"""What came out of one run, and what of it was promised."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.figures import Spread
from tests.bench.scenarios import AtRest, Created, Healed, Restarted

SLOW, FASTEST = "20/s", "saturation"


@dataclass(frozen=True)
class Pair:
    """Raw pods and sandboxes at the same rate, one right after the other."""

    floor: Created
    sandboxes: Created

    def ratio(self, percentile: str) -> float:
        """How many times longer a sandbox takes than a raw pod; `percentile` as in `Latency`."""
        return float(getattr(self.sandboxes.latency, percentile) / getattr(self.floor.latency, percentile))


@dataclass(frozen=True)
class Results:
    """Everything of one run."""

    machine: Mapping[str, Any]
    pairs: Mapping[str, Sequence[Pair]]
    """By rate, one for each repeat."""
    filled: Created
    conditions: Mapping[str, int]
    healed: Healed
    at_rest: AtRest
    restarted: Restarted

    def document(self) -> dict[str, Any]:
        """As JSON. Seconds and bytes."""
        return {"goals": [dataclasses.asdict(goal) for goal in goals(self)], **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Goal:
    """One thing that was promised."""

    what: str
    goal: str
    measured: str
    met: bool


def goals(results: Results) -> list[Goal]:
    """What was promised and what came of it, by the medians of the repeats."""
    p50 = _over(results.pairs[SLOW], lambda pair: pair.ratio("p50"))
    p99 = _over(results.pairs[SLOW], lambda pair: pair.ratio("p99"))
    top = _over(results.pairs[FASTEST], lambda pair: pair.sandboxes.per_second)
    rest, again = results.at_rest.account.writes, results.restarted.account.writes
    return [
        Goal(f"create to Ready at {SLOW}, p50", "at most 3 x a raw pod's", f"{p50:.1f} x", p50.median <= 3),
        Goal(f"create to Ready at {SLOW}, p99", "at most 4 x a raw pod's", f"{p99:.1f} x", p99.median <= 4),
        Goal("sandboxes Ready at saturation", "at least 60/s", f"{top:.0f} /s", top.median >= 60),
        Goal(f"writes in {results.at_rest.seconds:.0f} s at rest", "0", str(rest), rest == 0),
        Goal("writes after a restart", "0", str(again), again == 0),
    ]


def _over(pairs: Sequence[Pair], figure: Callable[[Pair], float]) -> Spread:
    return Spread.of([figure(pair) for pair in pairs])
