"""The page of the attacks: it is of the attacks that there are, and says what was found."""

import broker_attacks
import egress_attacks
from tests.bench.gateway.attacks_page import PAGE, Column, page

ALL = [*egress_attacks.attacks(), *broker_attacks.attacks()]
KEYS = [f"{attack.kind}/{attack.name}" for attack in ALL]


def test_the_page_in_the_docs_is_of_these_attacks_and_none_gets_through_the_gateway() -> None:
    text = PAGE.read_text(encoding="utf-8")
    ours = page(
        [Column("a plain proxy", "", dict.fromkeys(KEYS, True)), Column("the gateway", "", dict.fromkeys(KEYS, False))]
    )
    rows = [line for line in ours.splitlines() if " | through | closed (" in line]
    assert len(rows) == len(ALL) == len(set(KEYS))
    assert [row for row in rows if row.removesuffix("|") not in text] == []
    assert f"{len(ALL)} of them" in (PAGE.parents[1] / "gateway.md").read_text(encoding="utf-8")


def test_what_was_not_tried_is_said_and_has_no_column() -> None:
    found = dict.fromkeys(KEYS, True)
    text = page([Column("one", "1", found), Column("other", "2", {}, why_not="it is not to be had")])
    assert "| other 2 | not tried: it is not to be had | |" in text
    assert "| one | other |" not in text
    assert f"| one 1 | {len(egress_attacks.attacks())} of {len(egress_attacks.attacks())} |" in text
