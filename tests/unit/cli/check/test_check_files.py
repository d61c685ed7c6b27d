"""`claude-sandbox check files`: what it reads, what it prints, and what its exit code says."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from manifest_files import IMAGE, deployment, project, service

from claude_sandbox.cli.check.command import check

DECLARED = ("--workspace", "/workspace", "--image-without-volumes", IMAGE)


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(check, ["files", *arguments], input=text)


def write(path: Path, *documents: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(one if isinstance(one, str) else yaml.safe_dump(one) for one in documents))
    return path


def insecure() -> dict[str, Any]:
    one = project()
    service(one)["privileged"] = True
    return one


def test_exit_codes_are_those_of_the_other_targets() -> None:
    assert run("-", *DECLARED, text=yaml.safe_dump(project())).exit_code == 3
    assert run("-", *DECLARED, "--allow-unknown", text=yaml.safe_dump(project())).exit_code == 0
    assert run("-", *DECLARED, "--allow-unknown", text=yaml.safe_dump(insecure())).exit_code == 1


def test_a_part_that_is_broken_exits_4_and_a_failure_outweighs_it() -> None:
    good, broken = yaml.safe_dump(project()), "---\na: b: c\n"
    result = run("-", *DECLARED, "--allow-unknown", text=good + broken)
    assert result.exit_code == 4
    assert "ComposeService agent" in result.stdout
    assert f"Error: -:{good.count(chr(10)) + 2}: it is not YAML" in result.stderr
    assert run("-", *DECLARED, text=yaml.safe_dump(insecure()) + broken).exit_code == 1


def test_files_where_nothing_runs_exit_4_unless_that_is_allowed() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
    result = run("-", text=text)
    assert result.exit_code == 4
    assert "Nothing that runs is in the files" in result.stderr
    assert run("-", "--allow-empty", text=text).exit_code == 0
    unreadable = run("-", "--allow-empty", text="a: b: c")
    assert (unreadable.exit_code, "Nothing that runs" in unreadable.stderr) == (4, False)


def test_directories_are_read_whole_but_for_what_is_hidden_or_behind_links(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "one.yaml", deployment())
    write(tmp_path / "two.yml", deployment())
    (tmp_path / "three.json").write_text(json.dumps(deployment()))
    write(tmp_path / ".git" / "no.yaml", deployment())
    write(tmp_path / "values.txt", "a: b: c")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "two.yml")
    result = run(str(tmp_path), "-o", "sarif")
    uris = {
        one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for one in json.loads(result.stdout)["runs"][0]["results"]
    }
    assert uris == {str(tmp_path / one) for one in ("a/b/one.yaml", "two.yml", "three.json")}


def test_objects_of_several_files_are_judged_together(tmp_path: Path) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "agents"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    files = write(tmp_path / "a.yaml", deployment()), write(tmp_path / "b.yaml", policy)
    [report] = json.loads(run(*map(str, files), "-o", "json").stdout)
    assert {one["id"]: one["result"] for one in report["controls"]}["NET-01"] == "Pass"


def test_sarif_points_at_the_line(tmp_path: Path) -> None:
    file = write(tmp_path / "x.yaml", "# first\n", deployment())
    [result, *_] = json.loads(run(str(file), "-o", "sarif").stdout)["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": str(file)}, "region": {"startLine": 3}}


def test_evidence_is_said_to_be_a_manifest() -> None:
    [report] = json.loads(run("-", "-o", "json", text=yaml.safe_dump(project())).stdout)
    assert {one["evidence"]["source"] for one in report["controls"]} == {"Manifest"}
    assert report["target"] == {"kind": "ComposeService", "name": "agent"}


def test_a_dot_is_where_the_file_is(tmp_path: Path) -> None:
    one = project()
    service(one)["volumes"].append(".:/code:ro")
    file = write(tmp_path / "compose.yaml", one)
    [report] = json.loads(run(str(file), "-o", "json").stdout)
    told = next(each["message"] for each in report["controls"] if each["id"] == "FS-02")
    assert f"/code is to be the host's {tmp_path}" in told


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "say which: files PATH, or - for standard input"),
        (["-", "-"], "standard input can be read once only"),
        (["-", "--host", "unix:///x"], "--host is for container and host, not for files"),
        (["-", "--all"], "--all is for container, not for files"),
        (["-", "--inspect", "x"], "say what to measure"),
    ],
)
def test_a_wrong_command_line_exits_2(arguments: list[str], why: str) -> None:
    result = run(*arguments, text="")
    assert result.exit_code == 2
    assert why in result.output


def test_whole_is_for_files_only() -> None:
    result = CliRunner().invoke(check, ["pod", "a/b", "--whole"])
    assert result.exit_code == 2
    assert "--whole is for files, not for pod" in result.output


def test_what_can_not_be_read_exits_4(tmp_path: Path) -> None:
    assert run(str(tmp_path / "none.yaml")).exit_code == 4
    (tmp_path / "x.yaml").write_bytes(b"\x80\x81")
    result = run(str(tmp_path / "x.yaml"))
    assert result.exit_code == 4
    assert "is not text" in result.output
    assert run("/dev/null").exit_code == 4


def test_no_secret_of_a_file_is_printed() -> None:
    one = project()
    key = "sk-ant-api03-" + "x" * 40
    service(one).update(environment={"API_KEY": key}, command=f"run --token {key}", labels={"x": key})
    for how in ("table", "json", "sarif"):
        result = run("-", "-o", how, text=yaml.safe_dump(one) + f"---\na: '{key}\n")
        assert "sk-ant" not in result.output + result.stderr


OBEYED = "\x1b\x07\u202e"
"""What a terminal obeys, and shows nothing of."""
TRICK = OBEYED.replace("\x1b", "\x1b]0;x")


def tricky(fields: Any) -> str:
    return json.dumps({"services": {f"a{TRICK}": fields}})


@pytest.mark.parametrize(
    "text",
    [
        tricky(5),
        tricky({"extends": "b"}),
        json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": TRICK}}),
        json.dumps(
            {
                "apiVersion": "claudesandbox.dev/v1alpha1",
                "kind": "ClaudeSandbox",
                "metadata": {"name": "a"},
                "spec": {TRICK: 1},
            }
        ),
    ],
)
def test_what_is_wrong_in_a_file_can_not_move_the_terminal(text: str) -> None:
    result = run("-", text=text)
    assert "Error: -:1:" in result.stderr
    assert not set(OBEYED) & set(result.stderr)


def test_what_is_mended_and_left_of_a_file_can_not_move_the_terminal() -> None:
    result = run("-", "--fix", text=tricky({"image": f"x{TRICK}", "privileged": True, "volumes": [f"/{TRICK}:/a"]}))
    assert "PRIV-01" in result.stderr
    assert not set(OBEYED) & set(result.stderr)


def test_the_name_of_a_file_can_not_move_the_terminal(tmp_path: Path) -> None:
    (tmp_path / f"a{TRICK}.yaml").write_bytes(b"\xff")
    result = run(str(tmp_path))
    assert result.exit_code == 4
    assert not set(OBEYED) & set(result.stderr)


def test_what_is_nested_too_deep_is_told_when_it_is_to_be_mended_too() -> None:
    for arguments in ((), ("--fix",)):
        result = run("-", *arguments, text="[" * 100_000)
        assert result.exit_code == 4
        assert "Error: -:1:" in result.stderr


def test_fix_prints_the_mended_file_and_what_was_changed_and_is_left(tmp_path: Path) -> None:
    one = insecure()
    service(one)["volumes"].append("/var/run/docker.sock:/s")
    file = write(tmp_path / "compose.yaml", one)
    result = run(str(file), *DECLARED, "--fix")
    assert result.exit_code == 1
    assert "privileged" not in yaml.safe_load(result.stdout)["services"]["agent"]
    assert "ComposeService agent: PRIV-01 privileged removed" in result.stderr
    assert "ComposeService agent: FS-03 left: " in result.stderr
    assert file.read_text() == yaml.safe_dump(one)


def test_fix_exits_as_the_mended_file_would() -> None:
    result = run("-", *DECLARED, "--fix", "--allow-unknown", text=yaml.safe_dump(insecure()))
    assert result.exit_code == 0
    assert run("-", *DECLARED, "--allow-unknown", text=result.stdout).exit_code == 0


def test_fix_tells_what_is_broken_by_the_lines_of_the_file_as_it_was() -> None:
    text = yaml.safe_dump(insecure()) + "---\na: b: c\n"
    result = run("-", "--fix", text=text)
    assert result.stdout.endswith("---\na: b: c\n")
    assert f"-:{text.count(chr(10))}: it is not YAML" in result.stderr


@pytest.mark.parametrize("paths", [("a.yaml", "b.yaml"), (".",)])
def test_fix_mends_one_file_at_a_time(paths: tuple[str, ...]) -> None:
    result = run(*paths, "--fix")
    assert result.exit_code == 2
    assert "one file at a time" in result.output
