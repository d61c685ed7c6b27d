"""The reference page follows the catalogue."""

from pathlib import Path

import pytest
from tests.conformance import mutations

from claude_sandbox.compliance import pages
from claude_sandbox.compliance.catalogue import CONTROLS, FAMILIES
from claude_sandbox.compliance.control import Control
from claude_sandbox.compliance.docs import to_markdown
from claude_sandbox.compliance.generate import PATH, main

PROJECT = Path(__file__).parents[3]


def test_the_page_in_the_repository_is_up_to_date() -> None:
    assert main(["--check", str(PROJECT)]) == 0


def test_a_page_that_differs_is_noticed_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert "differs from the catalogue" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / PATH).write_text("something else", encoding="utf-8")
    assert main(["--check", str(tmp_path)]) == 1


def test_every_control_is_in_the_overview_with_its_meaning_and_leads_to_its_page() -> None:
    page = to_markdown()
    for control in pages.ALL:
        assert f"| [{control.id}](controls/{control.id}.md) {control.title} | {control.meaning} |" in page
    assert {control.id.partition("-")[0] for control in CONTROLS} == FAMILIES.keys()


def test_the_pages_of_the_controls_are_up_to_date_and_of_no_others() -> None:
    assert mutations.main(["--check", str(PROJECT)]) == 0
    assert mutations.strangers(PROJECT) == []


def test_a_page_of_a_control_that_is_gone_is_noticed_and_removed(tmp_path: Path) -> None:
    assert mutations.main([str(tmp_path)]) == 0
    stranger = tmp_path / "docs/reference/controls/OLD-01.md"
    stranger.write_text("# OLD-01")
    assert mutations.main(["--check", str(tmp_path)]) == 1
    assert mutations.main([str(tmp_path)]) == 0
    assert not stranger.exists()
    assert mutations.main(["--check", str(tmp_path)]) == 0


@pytest.mark.parametrize("control", pages.ALL, ids=lambda control: control.id)
def test_a_page_says_what_why_how_measured_how_seen_to_fail_how_mended_and_who_else(control: Control) -> None:
    lines = mutations.seen()[control.id]
    page = pages.to_markdown(control, lines)
    for text in (control.meaning, control.why):
        assert text.endswith(".")
        assert f"{text}\n" in page
    assert lines
    assert all(line in page for line in lines)
    for name, check in (("Kubernetes", control.pod), ("Docker", control.container), ("Docker hosts", control.host)):
        assert (check is not None and bool(check.remedy)) == (
            f"- **{name}:** {check.remedy}\n" in page if check else False
        )
        assert check is None or f"- **{name}:** " in page.partition("## How it is measured")[2]
    assert all(f"`{mapping.id}`" in page for mapping in control.mappings)
    second = any(getattr(check, "kernel", None) for check in (control.pod, control.container))
    assert second == ("kernel says" in page or "/proc` says" in page)


def test_mappings_that_differ_between_editions_name_theirs() -> None:
    for control in CONTROLS:
        for mapping in control.mappings:
            assert mapping.version or mapping.framework in ("Kubescape", "Trivy"), mapping
