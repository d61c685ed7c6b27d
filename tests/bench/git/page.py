"""What was measured of clones as text, and what of it was promised. Pure."""

import dataclasses
from collections.abc import Sequence
from statistics import median
from typing import Any

from tests.bench.git.speed import DIRECT, PLAIN, TLS, Cloned
from tests.bench.results import Goal

LEAST = 0.8


WAYS = {PLAIN: "by the gateway", TLS: "by the gateway, which is reached by TLS"}


def goals(found: Sequence[Cloned]) -> list[Goal]:
    """What was promised and what came of it, by the medians of the clones."""
    return [
        Goal(
            f"a clone of {one.megabytes} MiB {what}",
            f"at least {LEAST:g} of the speed of a direct one",
            f"{ratio(one, way):.2f}",
            ratio(one, way) >= LEAST,
        )
        for one in found
        for way, what in WAYS.items()
    ]


def ratio(one: Cloned, way: str) -> float:
    """The speed by the gateway, of that directly."""
    return median(one.seconds[DIRECT]) / median(one.seconds[way])


def page(found: Sequence[Cloned], machine: str) -> str:
    """The figures as a table, and the goals."""
    head = "| a clone of | | s | ratio of the speeds | the gateway's CPU, s | its memory at most, MB |"
    lines = [machine, "", head, "|---|---|---|---|---|---|"]
    for one in found:
        lines.append(f"| {one.megabytes} MiB | direct | {_spread(one.seconds[DIRECT])} | | | |")
        lines += [
            f"| | {what} | {_spread(one.seconds[way])} | {ratio(one, way):.2f} | {one.cpu[way]:.2f} "
            f"| {one.memory[way] / 1e6:.0f} |"
            for way, what in WAYS.items()
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
