"""The command on saved documents: what it prints, and what its exit code says."""

import copy
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from compliant_container import DIGEST, World, changed, compliant
from test_container_guides import guide, hardened, plain
from test_container_mutations import MUTATIONS

from claude_sandbox.api.status import Compliance
from claude_sandbox.cli.check.command import check
from claude_sandbox.cli.main import COMMANDS
from claude_sandbox.compliance.catalogue import CONTAINER_CONTROLS

PRODUCTION = (
    "--profile",
    "Production",
    "--workspace",
    "/workspace",
    "--allowed-registry",
    "registry.example/sandboxes",
)


def documents(*worlds: World) -> str:
    """As `docker inspect` prints them, networks and volumes after the containers."""
    networks = {network["Id"]: network for world in worlds for network in world.networks}
    volumes = {volume["Name"]: volume for world in worlds for volume in world.volumes}
    return json.dumps([*(world.container for world in worlds), *networks.values(), *volumes.values()], indent=4)


def run(text: str, *arguments: str) -> Result:
    return CliRunner().invoke(check, ["--inspect", "-", *arguments], input=text)


def reported(text: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(text, "-o", "json", *arguments).stdout)
    return found


def test_a_compliant_container_exits_0_in_production() -> None:
    result = run(documents(compliant()), *PRODUCTION)
    assert result.exit_code == 0, result.output
    assert re.search(r"Compliant: (\d+)/\1 required controls pass\.", result.output)


def test_a_required_control_that_fails_exits_1() -> None:
    result = run(documents(changed(MUTATIONS["no memory limit"][0])), *PRODUCTION)
    assert result.exit_code == 1
    assert "Not compliant: RES-01 fails." in result.output


@pytest.mark.parametrize("name", ["runc", "--restart=always"])
def test_an_optional_control_that_fails_exits_0(name: str) -> None:
    assert run(documents(changed(MUTATIONS[name][0])), *PRODUCTION).exit_code == 0


def test_a_required_control_that_can_not_be_verified_exits_3_unless_that_is_allowed() -> None:
    text = json.dumps(compliant().container)
    result = run(text, *PRODUCTION)
    assert result.exit_code == 3
    assert "Not verified: FS-02, FS-03, FS-05, NET-08, SEC-03 can't be verified." in result.output
    assert run(text, *PRODUCTION, "--allow-unknown").exit_code == 0


def test_a_failure_outweighs_what_can_not_be_verified_and_is_never_allowed() -> None:
    world = changed(MUTATIONS["no memory limit"][0])
    assert run(json.dumps(world.container), *PRODUCTION, "--allow-unknown").exit_code == 1


def test_the_profile_decides_what_is_required() -> None:
    text = documents(changed(MUTATIONS["an image by its tag"][0]))
    assert run(text, "--workspace", "/workspace").exit_code == 0
    assert run(text, "--workspace", "/workspace", "--profile", "production").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "say what to measure"),
        (["pod"], "say which"),
        (["pod", "alice"], "'alice' is not NAMESPACE/NAME"),
        (["pod", "/alice"], "is not NAMESPACE/NAME"),
        (["pod", "a/b", "--inspect", "-"], "say what to measure"),
        (["pod", "a/b", "--mount", "/x"], "--mount is for --inspect, container and files, not for pod"),
        (["image", "alice"], "'image' is not one of"),
        ([__file__], f"files are checked by `claude-sandbox check files {__file__}`"),
        (["-"], "files are checked by `claude-sandbox check files -`"),
        (["container"], "say which: container NAME, or --all"),
        (["container", "alice", "--all"], "say which: container NAME, or --all"),
        (["container", "agents/alice"], "neither the name nor the ID"),
        (["container", "alice", "--host", "http://x"], "neither unix:///path nor tcp://host:port"),
        (["container", "alice", "--host", "unix:///x", "--tlsverify"], "not for unix://"),
        (["container", "alice", "--host", "tcp://x:1", "--tlsverify", "--tlscacert", "/no"], "/no can't be read"),
        (["host", "alice"], "name the engine with --host"),
        (["host", "--workspace", "/x"], "--workspace is for"),
        (["pod", "a/b", "--host", "unix:///x"], "--host is for container and host, not for pod"),
        (["--inspect", "-", "--all"], "--all is for container, not for --inspect"),
        (["--inspect", "-", "--secret", "x"], "--mount PATH declares where a secret is meant to be"),
        (["--inspect", "-", "-o", "yaml"], "'yaml' is not one of"),
        (["--inspect", "-", "--profile", "Staging"], "'Staging' is not one of"),
        (["sandbox", "a/b", "--open-private-network", "ten"], "write a network such as"),
    ],
)
def test_a_wrong_command_line_exits_2_and_says_what_is_right(arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(check, arguments, input=documents(compliant()))
    assert result.exit_code == 2
    assert why in result.output


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "standard input: there is no document of a container"),
        ("[]", "docker inspect found none"),
        ("services: {}", "not JSON"),
        (json.dumps([compliant().networks[0]]), "there is no container, only a network"),
    ],
)
def test_what_is_no_container_exits_4(text: str, why: str) -> None:
    result = run(text)
    assert result.exit_code == 4
    assert why in result.output
    assert result.stdout == ""


def test_a_file_that_is_not_there_exits_4_with_a_remedy(tmp_path: Path) -> None:
    result = CliRunner().invoke(check, ["--inspect", str(tmp_path / "none.json")])
    assert result.exit_code == 4
    assert "No such file" in result.output
    assert "Remedy: Write it with: docker inspect NAME > FILE" in result.output


@pytest.mark.parametrize("arguments", [["container", "alice"], ["container", "--all"], ["host"]])
def test_an_engine_that_is_not_there_exits_4_and_says_what_to_do(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(check, [*arguments, "--host", f"unix://{tmp_path}/none.sock"])
    assert result.exit_code == 4
    assert result.stdout == ""
    assert "there is no socket at that path" in result.output
    assert "Remedy: Start the engine, or name another with --host." in result.output


def test_a_file_that_is_not_text_exits_4(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x80\x81")
    assert CliRunner().invoke(check, ["--inspect", str(tmp_path / "x")]).exit_code == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_as_shells_write_it_and_is_as_old_as_it_is(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "container.json"
    file.write_text(documents(compliant()), encoding=encoding)
    os.utime(file, (0, 1_700_000_000))
    result = CliRunner().invoke(check, ["--inspect", str(file), "-o", "json", *PRODUCTION])
    assert result.exit_code == 0, result.output
    [report] = json.loads(result.stdout)
    observed = {control["evidence"]["observedAt"] for control in report["controls"] if "evidence" in control}
    assert observed == {"2023-11-14T22:13:20Z"}
    assert report["evaluatedAt"] > "2023-11-14T22:13:20Z"


def test_the_json_is_the_shape_of_the_status_with_the_target() -> None:
    [report] = reported(documents(changed(MUTATIONS["no memory limit"][0])), *PRODUCTION)
    assert report.pop("target") == {"kind": "Container", "name": "alice", "id": "1" * 64}
    status = Compliance.model_validate(report)
    assert [control.id for control in status.controls] == [control.id for control in CONTAINER_CONTROLS]
    assert status.summary.fail == 1
    memory = next(control for control in status.controls if control.id == "RES-01")
    assert (memory.result, memory.severity, memory.required) == ("Fail", "High", True)
    assert (memory.message, memory.remedy) == (
        "it has no memory limit",
        "Run it with --memory, for example --memory 2g.",
    )
    assert memory.evidence is not None
    assert memory.evidence.source == "Inspect"
    assert abs((memory.evidence.observed_at - datetime.now(UTC)).total_seconds()) < 600


def test_what_is_said_is_said_whole() -> None:
    world = compliant()
    for number in range(40):
        world.config["Env"].append(f"DB_PASSWORD_{number}=hunter22")
    [report] = reported(documents(world))
    [control] = [one for one in report["controls"] if one["id"] == "SEC-01"]
    assert "DB_PASSWORD_39" in control["message"]


def test_several_containers_are_reported_one_by_one_and_the_worst_decides() -> None:
    other = changed(MUTATIONS["no memory limit"][0])
    other.container |= {"Name": "/bob", "Id": "9" * 64}
    text = documents(compliant(), other)
    assert [report["target"]["name"] for report in reported(text)] == ["alice", "bob"]
    result = run(text, *PRODUCTION)
    assert result.exit_code == 1
    assert result.output.index("Container alice") < result.output.index("Container bob")


def test_only_failures_leaves_out_the_rest_and_keeps_the_counts() -> None:
    text = documents(changed(MUTATIONS["no memory limit"][0]))
    [report] = reported(text, *PRODUCTION, "--only-failures")
    assert [control["id"] for control in report["controls"]] == ["RES-01"]
    assert report["summary"]["pass"] > 30
    table = run(text, *PRODUCTION, "--only-failures").output
    assert "PRIV-01" not in table
    assert "RES-01" in table


def test_the_table_says_for_each_control_what_it_rests_on_and_then_what_to_do() -> None:
    world = changed(MUTATIONS["no memory limit"][0])
    lines = run(documents(world), *PRODUCTION).output.splitlines()
    heading = next(line for line in lines if line.startswith("ID"))
    assert heading.split() == ["ID", "RESULT", "SEVERITY", "TITLE", "EVIDENCE"]
    assert sum(line[:8].rstrip() in {control.id for control in CONTAINER_CONTROLS} for line in lines) == len(
        CONTAINER_CONTROLS
    )
    assert any(line.startswith("RES-01   Fail") and line.endswith("it has no memory limit") for line in lines)
    assert any(line.startswith("RES-03   Pass") and line.endswith("512") for line in lines)
    assert any(line.startswith("KERN-06  Pass") and "Low, optional" in line for line in lines)
    todo = lines.index("What to do:")
    assert lines[todo + 1] == "  RES-01   Run it with --memory, for example --memory 2g."


def test_a_document_can_not_play_tricks_with_the_terminal() -> None:
    world = compliant()
    world.container["Name"] = "/alice\x1b[2J\u202e"
    world.config["Env"].append("\x1b]0;PASSWORD=hunter22")
    output = run(documents(world)).output
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert r"alice\x1b[2J" in output


def test_no_secret_of_the_document_is_printed() -> None:
    for text in (json.dumps(guide()), documents(changed(MUTATIONS["the key in the command"][0]))):
        for how in ("table", "json", "sarif"):
            assert "sk-ant-api03" not in run(text, "-o", how).output


def test_sarif_holds_the_failures_and_nothing_else() -> None:
    log = json.loads(run(json.dumps(guide()), "-o", "sarif").stdout)
    assert log["version"] == "2.1.0"
    [one_run] = log["runs"]
    rules, results = one_run["tool"]["driver"]["rules"], one_run["results"]
    [report] = reported(json.dumps(guide()), "--only-failures")
    assert [result["ruleId"] for result in results] == [control["id"] for control in report["controls"]]
    for result in results:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert (result["kind"], result["level"]) in {("fail", "error"), ("fail", "warning"), ("fail", "note")}
        assert result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "Container alice"
    assert len({result["partialFingerprints"]["targetAndControl/v1"] for result in results}) == len(results)


def test_sarif_names_the_file_and_each_rule_once(tmp_path: Path) -> None:
    file = tmp_path / "two.json"
    second = copy.deepcopy(guide()) | {"Name": "/second"}
    file.write_text(json.dumps([guide(), second]))
    log = json.loads(CliRunner().invoke(check, ["--inspect", str(file), "-o", "sarif"]).stdout)
    [one_run] = log["runs"]
    ids = [rule["id"] for rule in one_run["tool"]["driver"]["rules"]]
    assert len(ids) == len(set(ids))
    assert len(one_run["results"]) == 2 * len(ids)
    uris = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in one_run["results"]}
    assert uris == {str(file)}


def test_sarif_of_a_compliant_container_is_empty() -> None:
    log = json.loads(run(documents(compliant()), "-o", "sarif", *PRODUCTION).stdout)
    assert log["runs"][0]["results"] == []


@pytest.mark.parametrize("make", [guide, plain])
def test_set_ups_that_are_not_hardened_exit_1(make: Callable[[], dict[str, Any]]) -> None:
    assert run(json.dumps(make())).exit_code == 1


def test_the_hardened_run_with_a_health_check_passes_a_pipeline() -> None:
    container = hardened()
    container["Config"]["Healthcheck"] = {"Test": ["CMD", "claude", "--version"]}
    arguments = ("--workspace", "/workspace", "--mount", "/var/run/proxy.sock")
    assert run(json.dumps(container), *arguments).exit_code == 0
    container["Config"]["Image"] = f"registry.example/agent@{DIGEST}"
    container["HostConfig"]["Ulimits"] = [{"Name": "nofile", "Hard": 8192, "Soft": 4096}]
    assert run(json.dumps(container), *arguments, "--profile", "Production").exit_code == 0


def test_paths_are_declared_however_they_end() -> None:
    assert run(documents(compliant()), "--workspace", "/workspace/").exit_code == 0


def test_the_command_is_there() -> None:
    assert COMMANDS["check"].load() is check
