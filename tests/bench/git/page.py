"""What was measured of clones as text, and what of it was promised. Pure."""

import dataclasses
from collections.abc import Sequence
from statistics import median
from typing import Any

from tests.bench.git.speed import DIRECT, OURS, Cloned
from tests.bench.results import Goal

LEAST = 0.8


def goals(found: Sequence[Cloned]) -> list[Goal]:
    """What was promised and what came of it, by the medians of the clones."""
    return [
        Goal(
            f"a clone of {one.megabytes} MiB by the gateway",
            f"at least {LEAST:g} of the speed of a direct one",
            f"{ratio(one):.2f}",
            ratio(one) >= LEAST,
        )
        for one in found
    ]


def ratio(one: Cloned) -> float:
    """The speed by the gateway, of that directly."""
    return median(one.seconds[DIRECT]) / median(one.seconds[OURS])


def page(found: Sequence[Cloned], machine: str) -> str:
    """The figures as a table, and the goals."""
    head = "| a clone of | direct, s | by the gateway, s | the gateway's CPU, s | its memory at most, MB |"
    lines = [machine, "", head, "|---|---|---|---|---|"]
    lines += [
        f"| {one.megabytes} MiB | {_spread(one.seconds[DIRECT])} | {_spread(one.seconds[OURS])} | {one.cpu:.2f} "
        f"| {one.memory / 1e6:.0f} |"
        for one in found
    ]
    lines += ["", "| goal | | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {one.what} | {one.goal} | {one.measured} | {'met' if one.met else '**missed**'} |" for one in goals(found)
    ]
    return "\n".join(lines)


def document(found: Sequence[Cloned], machine: str) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "machine": machine,
        "goals": [dataclasses.asdict(one) for one in goals(found)],
        "clones": [dataclasses.asdict(one) for one in found],
    }


def _spread(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
