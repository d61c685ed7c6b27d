"""The conformance suite's breakages: each scenario has one on each kind of backend, and each can still be made."""

import pytest
from tests.conformance.breakages import ROOT, ROUNDS, broken, edits
from tests.conformance.scenarios import DOCKER, KUBERNETES, SCENARIOS


@pytest.mark.parametrize("kind", [KUBERNETES, DOCKER])
def test_each_scenario_can_be_made_to_fail(kind: str) -> None:
    covered = {name for kinds in ROUNDS.values() for breakage in kinds[kind] for name in breakage.scenarios}
    assert covered == {scenario.id for scenario in SCENARIOS}


@pytest.mark.parametrize("kind", [KUBERNETES, DOCKER])
@pytest.mark.parametrize("name", ROUNDS)
def test_what_is_broken_is_there_to_be_broken(name: str, kind: str) -> None:
    texts: dict[str, str] = {}
    for edit in edits(name, kind):
        before = texts.setdefault(edit.file, (ROOT / edit.file).read_text(encoding="utf-8"))
        texts[edit.file] = broken(before, edit)
        if edit.file.endswith(".py"):
            compile(texts[edit.file], edit.file, "exec")
