"""Writes docs/reference/backends.md from the suite's results, or with --check compares it.

`python -m tests.conformance.table`. The results themselves are written by `make conformance`.
"""

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.conformance import results
from tests.conformance.scenarios import BACKENDS, SCENARIOS, Scenario, kind_of

from claude_sandbox import generated

PATH = Path("docs/reference/backends.md")

_INTRODUCTION = """\
# What each backend enforces and proves

<!-- Written by `python -m tests.conformance.table` from the results of `make conformance`. Change those instead. -->

The same scenarios, run on each backend through the same ClaudeSandbox, with a real API server, the operator as a
process, and a real node or engine. What runs is read from the host's own `/proc`, cgroups and API, and by trying.

- **enforced**: it was tried, or read from the kernel, and held. Each denied connection has a control that shows that
  its target answers.
- **proven by**: what tells a user the same of each sandbox at any time: the [controls](controls.md) that pass in
  `status.compliance`, or the part of its status. Where there is nothing, only this suite shows it.
- **not available**: the backend can't; that was tried as well.

Times, and what happens under faults of the engine or the API server, are not in this table.
"""


def to_markdown(found: dict[str, Any]) -> str:
    """The page. Raises KeyError where a scenario was not run on a backend."""
    return "\n".join(_lines(found)) + "\n"


def missing(found: dict[str, Any]) -> list[str]:
    """What the results lack, or have too much of: they are of another state of the suite."""
    wanted = {scenario.id for scenario in SCENARIOS}
    return [
        f"{backend}: {', '.join(sorted(wanted ^ ran)) or 'nothing was run'}"
        for backend in BACKENDS
        if (ran := set(found.get(backend, {}).get("scenarios", {}))) != wanted
    ]


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield _INTRODUCTION
    titles = [found[backend]["title"] for backend in BACKENDS]
    for group, scenarios in groupby(SCENARIOS, key=lambda scenario: scenario.group):
        yield f"## {group}\n"
        yield f"| | {' | '.join(titles)} |"
        yield f"|---|{'---|' * len(titles)}"
        for scenario in scenarios:
            yield f"| {scenario.title} | {' | '.join(_cell(scenario, backend, found) for backend in BACKENDS)} |"
        yield ""
    yield "Controls that pass for a sandbox of the suite:\n"
    for backend, title in zip(BACKENDS, titles, strict=True):
        yield f"- {title}: {', '.join(found[backend]['passed'])}."


def _cell(scenario: Scenario, backend: str, found: dict[str, Any]) -> str:
    result = found[backend]["scenarios"][scenario.id]
    kind = kind_of(backend)
    if result == results.UNAVAILABLE:
        return f"not available: {scenario.unavailable[kind]}"
    proofs = ", ".join(scenario.proofs.get(kind, ()))
    return f"**{result}**, proven by {proofs}" if proofs else f"**{result}**"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where --check finds a difference, or the results are not of these scenarios."""
    found = results.read()
    if lacking := missing(found):
        print(f"tests/conformance/results.json is not of these scenarios: {'; '.join(lacking)}", file=sys.stderr)
        print("Run `make conformance` as root and commit the results.", file=sys.stderr)
        return 1
    return generated.run(
        {PATH: to_markdown(found)},
        "tests.conformance.table",
        "the results of the conformance suite",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
