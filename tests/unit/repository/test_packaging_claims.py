"""Each claim of the security model names the tests that would fail without it."""

import re

from repository import ROOT


def test_every_test_that_the_security_model_names_is_there() -> None:
    text = (ROOT / "docs/security-model.md").read_text()
    named = re.findall(r"`(tests/[\w/.-]+)(?:::(\w+))?`", text)
    assert len(named) > 20
    missing = [
        f"{file}::{test}" if test else file
        for file, test in named
        if not (ROOT / file).exists() or (test and f"def {test}(" not in (ROOT / file).read_text())
    ]
    assert missing == []


def test_every_module_of_attacks_is_named() -> None:
    text = (ROOT / "docs/security-model.md").read_text()
    modules = [str(one.relative_to(ROOT)) for one in (ROOT / "tests/attacks").rglob("test_*.py")]
    assert len(modules) > 50
    assert [one for one in modules if one not in text] == []
