"""`kubectl claude`, found and completed by kubectl itself; and what shells read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import repository
from answering_server import serving, with_sandbox
from click.testing import CliRunner

from claude_sandbox.cli.main import cli
from claude_sandbox.cli.plugin import suggestions
from claude_sandbox.localcluster.programs import toolchain

PROGRAMS = {"kubectl-claude": "main", "kubectl_complete-claude": "complete"}


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    """kubectl, where the plugin is installed."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, function in PROGRAMS.items():
        (programs / name).write_text(
            f"#!{sys.executable}\nfrom claude_sandbox.cli.plugin import {function}\n{function}()\n"
        )
        (programs / name).chmod(0o755)
    (programs / "kubectl").symlink_to(toolchain.kubectl(lambda _: None))
    return programs / "kubectl"


def run(kubectl: Path, *arguments: str, kubeconfig: str = "/nonexistent") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{kubectl.parent}:{os.environ['PATH']}", "KUBECONFIG": kubeconfig}
    return subprocess.run([kubectl, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_the_package_installs_what_kubectl_looks_for() -> None:
    text = (repository.ROOT / "pyproject.toml").read_text()
    assert all(
        f"{name}" in text and f"claude_sandbox.cli.plugin:{function}" in text for name, function in PROGRAMS.items()
    )


def test_kubectl_passes_a_command_line_on(kubectl: Path) -> None:
    found = run(kubectl, "claude", "shell", "--help")
    assert found.returncode == 0
    assert found.stdout.startswith("Usage: kubectl claude shell")
    assert run(kubectl, "claude", "logs", "alice").returncode == 4


def test_kubectl_completes_commands_options_and_sandboxes(kubectl: Path, tmp_path: Path) -> None:
    cluster = with_sandbox()
    cluster.sandboxes["bob"] = {**cluster.sandboxes["alice"], "metadata": {"name": "bob"}}
    with serving(cluster, tmp_path) as kubeconfig:

        def completed(*words: str) -> list[str]:
            found = run(kubectl, "__complete", "claude", *words, kubeconfig=kubeconfig)
            assert found.returncode == 0, found.stderr
            return [line.split("\t")[0] for line in found.stdout.splitlines()]

        assert completed("sh") == ["shell", ":4"]
        assert completed("shell", "agents/") == ["agents/alice", "agents/bob", ":4"]
        here = ("--kubeconfig", kubeconfig)
        assert values("logs", "--fol") == ["--follow"]
        assert values("logs", *here, "-n", "agents", "a") == ["alice"]
        assert [one.type for one in suggestions(["cp", "x"])] in ([], ["file"])
        cluster.refused = ("claudesandboxes",)
        assert values("shell", *here, "agents/") == []


def values(*words: str) -> list[str]:
    return [one.value for one in suggestions(list(words))]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_told_how_to_complete(shell: str) -> None:
    found = CliRunner().invoke(cli, ["completion", shell])
    assert (found.exit_code, "_CLAUDE_SANDBOX_COMPLETE" in found.output) == (0, True)
