"""Where the demo runs programs, as a person would: in a container, and the command itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from claude_sandbox.install.kubectl import Kubectl

_PATIENCE = 600.0
"""Seconds for a program in a pod; what may take long is bounded there."""


@dataclass(frozen=True)
class Place:
    """A container.

    `run`: a program in it, as its own user; its exit code, and what it printed to both streams. `command`: how a person
    does that.
    """

    run: Callable[..., tuple[int, str]]
    command: str


@dataclass(frozen=True)
class Cluster:
    """By which options and variables the command finds the cluster."""

    options: tuple[str, ...] = ()
    kubeconfig: str | None = None

    def run(self, *arguments: str) -> str:
        """What `claude-sandbox` prints to both streams."""
        # Without the directory that this happens to be started in.
        program = (sys.executable, "-P", "-m", "claude_sandbox.cli.main")
        environment = {**os.environ, **({"KUBECONFIG": self.kubeconfig} if self.kubeconfig else {})}
        done = subprocess.run(
            (*program, *arguments, *self.options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            env=environment,
        )
        return done.stdout.rstrip()


def in_pod(kubectl: Kubectl, namespace: str, workload: str, container: str) -> Place:
    """The container of `pod/NAME` or `deployment/NAME`."""
    there = ("exec", "--namespace", namespace, workload)

    def run(*argv: str) -> tuple[int, str]:
        script = '"$@" 2>&1; printf "\\n%d" $?'
        command = (*there, "--container", container, "--", "sh", "-c", script, "sh", *argv)
        said, _, code = kubectl.run(*command, timeout=_PATIENCE).rpartition("\n")
        return int(code), said

    return Place(run, f"kubectl {' '.join(there)} --")
