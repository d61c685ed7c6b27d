"""The reference page follows the catalogue."""

from pathlib import Path

import pytest

from claude_sandbox.compliance.catalogue import CONTROLS, FAMILIES
from claude_sandbox.compliance.control import ContainerCheck
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


def test_every_control_has_its_paragraph_with_remedy_and_mappings() -> None:
    page = to_markdown()
    for control in CONTROLS:
        assert f"### {control.id} {control.title}\n" in page
        if control.pod is not None:
            assert f"- Remedy: {control.pod.remedy}\n" in page
        if isinstance(control.container, ContainerCheck):
            assert f" Remedy: {control.container.remedy}\n" in page
        assert all(f"`{mapping.id}`" in page for mapping in control.mappings)
    assert {control.id.partition("-")[0] for control in CONTROLS} == FAMILIES.keys()


def test_mappings_that_differ_between_editions_name_theirs() -> None:
    for control in CONTROLS:
        for mapping in control.mappings:
            assert mapping.version or mapping.framework in ("Kubescape", "Trivy"), mapping
