"""`claude-sandbox check` as its page and the repository's hook have it run, and how long many containers take."""

import json
import re
import resource
import shlex
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from compliant_container import compliant
from manifest_files import deployment, pod_spec, project, service
from repository import ROOT

from claude_sandbox.cli.check.command import check

[HOOK] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
_BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/check.md").read_text(), re.DOTALL)


def block(begins: str) -> str:
    """The example of the page that begins with this comment."""
    return next(one for one in _BLOCKS if one.startswith(f"# {begins}"))


def run(*arguments: str, text: str | None = None) -> Result:
    """What is behind `claude-sandbox check`."""
    return CliRunner().invoke(check, arguments, input=text)


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a directory of manifests that are as they should be."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "deploy"
    directory.mkdir()
    (directory / "app.yaml").write_text(yaml.safe_dump(deployment()))
    return directory


def loosened(deploy: Path) -> None:
    loose = deployment()
    pod_spec(loose)["hostPID"] = True
    (deploy / "app.yaml").write_text(yaml.safe_dump(loose))


def test_the_hook_stops_a_commit_as_the_page_has_it(deploy: Path) -> None:
    wanted = yaml.safe_load(block(".pre-commit-config.yaml"))["repos"][0]["hooks"][0]
    assert wanted["id"] == HOOK["id"]
    assert re.match(wanted["files"], "deploy/app.yaml")
    program, command, *arguments = [*shlex.split(HOOK["entry"]), *wanted["args"], "deploy/app.yaml"]
    assert (program, command) == ("claude-sandbox", "check")
    found = run(*arguments)
    assert (found.exit_code, "NS-01" in found.output) == (0, False), found.output
    loosened(deploy)
    found = run(*arguments)
    assert (found.exit_code, "NS-01" in found.output) == (1, True), found.output


def test_the_lines_of_the_workflow_do_what_they_are_there_for(deploy: Path) -> None:
    steps = yaml.safe_load(block(".github/workflows/sandbox.yaml"))["jobs"]["check"]["steps"]
    lines = [one["run"] for one in steps if "claude-sandbox check" in one.get("run", "")]
    of_compose, of_manifests = (shlex.split(line.rpartition("claude-sandbox check ")[2]) for line in lines)
    privileged = project()
    assert run(*of_compose, text=yaml.safe_dump(privileged)).exit_code == 0
    service(privileged)["privileged"] = True
    assert run(*of_compose, text=yaml.safe_dump(privileged)).exit_code == 1
    # What is behind `>` is the shell's. Findings end it with 1, which the line lets be, so that they are uploaded.
    arguments = of_manifests[: of_manifests.index(">")]
    assert of_manifests[of_manifests.index("||") :] == ["||", "test", "$?", "=", "1"]
    loosened(deploy)
    found = run(*arguments)
    assert found.exit_code == 1
    rules = {one["ruleId"] for one in json.loads(found.stdout)["runs"][0]["results"]}
    assert "NS-01" in rules


def test_what_helm_prints_is_read_from_standard_input() -> None:
    """With its comments, and an object that no chart's author left out: an empty one."""
    rendered = "".join(
        f"---\n# Source: chart/templates/{name}.yaml\n{text}"
        for name, text in (("app", yaml.safe_dump(deployment())), ("empty", ""), ("notes", "# nothing\n"))
    )
    found = run("files", "-", "--allow-unknown", "-o", "json", text=rendered)
    assert found.exit_code == 0, found.output
    assert len(json.loads(found.stdout)) == 1


@pytest.mark.slow
def test_500_containers_take_less_than_five_seconds(tmp_path: Path) -> None:
    """Of a CPU, whatever else the machine does."""
    document = compliant().container
    many = [{**deepcopy(document), "Id": f"{number:064x}", "Name": f"/c{number}"} for number in range(500)]
    file = tmp_path / "inspected.json"
    file.write_text(json.dumps(many))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "claude_sandbox.cli.main", "check", "--inspect", str(file), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(json.loads(done.stdout)) == 500
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert took < 5, took
