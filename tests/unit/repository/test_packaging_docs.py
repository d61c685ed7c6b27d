"""The pages for who changes the code name files that are there, and their links lead somewhere."""

import re
from pathlib import Path

import pytest
from repository import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACES = (ROOT, ROOT / "operator/claude_sandbox")


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/contributing.md"])
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    path = r"`((?:[\w.-]+/)+(?:[\w-]+\.(?:py|md|yaml|json|toml))?|tests/[\w/]+)`"
    named = {one for one in re.findall(path, (ROOT / page).read_text()) if not re.search(r"[A-Z]{3}", one)}
    assert len(named) > 10
    assert sorted(one for one in named if not any((place / one).exists() for place in PLACES)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text())
    lost = [link for link in links if not _leads(page, *link.partition("#")[::2])]
    assert lost == []


def _leads(page: Path, path: str, anchor: str) -> bool:
    target = (page.parent / path) if path else page
    return target.exists() and (not anchor or target.suffix != ".md" or anchor in _anchors(target.read_text()))


def _anchors(text: str) -> set[str]:
    """As GitHub makes them: lower case, without punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
