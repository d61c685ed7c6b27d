"""The page of the attacks: a table for each kind, from what was found of each proxy. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import broker_attacks
import egress_attacks

PAGE = Path(__file__).parents[3] / "docs/reference/gateway-attacks.md"

_HEAD = Path(__file__).with_name("attacks.md")
"""What stands before the tables."""


@dataclass(frozen=True)
class Column:
    """What was found of one proxy: by `kind/name`, whether it got through. `works`: what is allowed passes, so that it
    is not closed to everything. `why_not`: why it was not tried."""

    name: str
    version: str
    found: dict[str, bool]
    works: bool = True
    why_not: str | None = None


def page(columns: Sequence[Column]) -> str:
    """The whole page."""
    lines = [_HEAD.read_text(encoding="utf-8"), "## In numbers", *_numbers(columns), ""]
    for title, attacks in (
        ("The proxy", egress_attacks.attacks()),
        ("The broker", broker_attacks.attacks()),
    ):
        lines += [f"## {title}", ""]
        those = [one for one in columns if any(f"{attack.kind}/{attack.name}" in one.found for attack in attacks)]
        for kind, members in groupby(attacks, key=lambda attack: attack.kind):
            lines += [f"### {kind}", *_table(those, kind, [(one.name, _reason(one)) for one in members]), ""]
    return "\n".join(lines)


def _numbers(columns: Sequence[Column]) -> Iterator[str]:
    yield "| | attacks on the proxy that got through | on the broker |"
    yield "|---|---|---|"
    for one in columns:
        title = f"{one.name} {one.version}".strip()
        if one.why_not is not None:
            yield f"| {title} | not tried: {one.why_not} | |"
            continue
        cells = []
        for attacks in (egress_attacks.attacks(), broker_attacks.attacks()):
            found = [one.found[key] for attack in attacks if (key := f"{attack.kind}/{attack.name}") in one.found]
            cells.append(f"{sum(found)} of {len(found)}" if found else "it is none")
        yield f"| {title} | {cells[0]} | {cells[1]} |"


def _reason(attack: egress_attacks.Attack | broker_attacks.Attack) -> str:
    if isinstance(attack, egress_attacks.Attack):
        return "first part only" if attack.refused == egress_attacks.LET_THROUGH else attack.refused
    return "first part only" if attack.status < 400 else f"{attack.status} {attack.rule}"


def _table(columns: Sequence[Column], kind: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f"| | {' | '.join(one.name for one in columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, reason in rows:
        cells = []
        for one in columns:
            cell = "through" if one.found[f"{kind}/{name}"] else "closed"
            cells.append(f"{cell} ({reason})" if one.name == "the gateway" and cell == "closed" else cell)
        yield f"| {name.replace('|', chr(92) + '|')} | {' | '.join(cells)} |"
