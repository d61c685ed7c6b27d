"""`claude-sandbox check --policy` and `--level`: what they change of the exit code and of what is printed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from compliant_container import changed
from manifest_files import IMAGE, project, service
from test_container_mutations import MUTATIONS

from claude_sandbox.cli.check.command import check

NOW = datetime.now(UTC).date()


def exception(control: str = "PRIV-01", days: int = 30, **fields: Any) -> dict[str, Any]:
    reason = {"reason": "it builds images", "owner": "alice@example.org"}
    return {"control": control, **reason, "expires": str(NOW + timedelta(days=days)), **fields}


def run(tmp_path: Path, policy: Any, *arguments: str, text: dict[str, Any] | None = None) -> Result:
    file = tmp_path / "policy.yaml"
    file.write_text(policy if isinstance(policy, str) else yaml.safe_dump(policy))
    one = project() if text is None else text
    declared = ("--workspace", "/workspace", "--image-without-volumes", IMAGE, "--allow-unknown")
    return CliRunner().invoke(
        check, ["files", "-", *declared, "--policy", str(file), *arguments], input=yaml.safe_dump(one)
    )


def without_limit() -> dict[str, Any]:
    one = project()
    del service(one)["mem_limit"]
    return one


def test_what_is_excepted_does_not_stop_the_pipeline_until_it_expires(tmp_path: Path) -> None:
    assert run(tmp_path, {}, text=without_limit()).exit_code == 1
    assert run(tmp_path, {"exceptions": [exception("RES-01")]}, text=without_limit()).exit_code == 0
    expired = run(tmp_path, {"exceptions": [exception("RES-01", -1)]}, text=without_limit())
    assert expired.exit_code == 1
    assert "its exception by alice@example.org expired on" in expired.stdout


def test_what_is_excepted_is_shown_with_its_result_reason_owner_and_end(tmp_path: Path) -> None:
    policy = {"exceptions": [exception("RES-01")]}
    table = run(tmp_path, policy, text=without_limit()).stdout
    [line] = [one for one in table.splitlines() if one.startswith("RES-01")]
    assert line.split()[1] == "Excepted"
    assert f"[Fail, until {NOW + timedelta(days=30)} by alice@example.org: it builds images]" in line
    assert "excepted: RES-01." in table
    [report] = json.loads(run(tmp_path, policy, "-o", "json", text=without_limit()).stdout)
    [told] = [one for one in report["controls"] if one["id"] == "RES-01"]
    assert (told["result"], told["exception"]["owner"]) == ("Fail", "alice@example.org")
    [result] = json.loads(run(tmp_path, policy, "-o", "sarif", text=without_limit()).stdout)["runs"][0]["results"]
    assert result["suppressions"][0]["justification"].startswith("it builds images (alice@example.org, until ")


def test_an_exception_that_nothing_needs_is_told(tmp_path: Path) -> None:
    result = run(tmp_path, {"exceptions": [exception("NS-01")]})
    assert result.exit_code == 0
    assert "Note: the exception of NS-01 by alice@example.org is not needed" in result.stderr


def test_a_level_of_the_policy_or_the_command_line_decides_what_counts(tmp_path: Path) -> None:
    assert run(tmp_path, {"level": "Restricted"}, text=without_limit()).exit_code == 0
    assert run(tmp_path, {"level": "Sandbox"}, "--level", "Baseline", text=without_limit()).exit_code == 1
    assert run(tmp_path, {}, "--level", "restricted", text=without_limit()).exit_code == 0


def test_what_is_required_and_optional_decides(tmp_path: Path) -> None:
    assert run(tmp_path, {"optional": ["RES-01"]}, text=without_limit()).exit_code == 0
    one = project()
    service(one)["restart"] = "always"
    assert run(tmp_path, {}, text=one).exit_code == 0
    assert run(tmp_path, {"required": ["RES-05"]}, text=one).exit_code == 1


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("a: b: c", "policy.yaml:1: it is not YAML"),
        ("", "must hold one document"),
        ("required: [PRIV-99]", "there is no control PRIV-99; did you mean PRIV-0"),
        ("required: [HOST-01]\nexceptions: [{control: HOST-01}]", "exceptions[0].expires is required"),
        ("level: Sandbox\nlevel: Baseline", "a key is there twice"),
    ],
)
def test_a_policy_that_can_not_be_used_exits_2(tmp_path: Path, policy: str, why: str) -> None:
    result = run(tmp_path, policy)
    assert result.exit_code == 2
    assert why in result.output.replace("\n", " ")


def test_a_policy_that_is_not_there_exits_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(check, ["files", "-", "--policy", str(tmp_path / "none")], input="")
    assert result.exit_code == 2
    assert "can't be read: No such file" in result.output


def test_a_policy_counts_for_a_saved_document_too(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump({"exceptions": [exception("RES-01", targets=["Container al*"])]}))
    world = changed(MUTATIONS["no memory limit"][0])
    text = json.dumps([world.container, *world.networks, *world.volumes])
    arguments = ["--inspect", "-", "--workspace", "/workspace"]
    assert CliRunner().invoke(check, arguments, input=text).exit_code == 1
    assert CliRunner().invoke(check, [*arguments, "--policy", str(file)], input=text).exit_code == 0
