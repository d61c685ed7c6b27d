"""What the demo on Docker ends with, as the API server, the engine and the sandbox say it."""

import os
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from docker import APIClient

from claude_sandbox.api import meta
from claude_sandbox.demo import report, sandbox
from claude_sandbox.demo.docker import engines, operator
from claude_sandbox.demo.docker.provider import DENIED, Provider
from claude_sandbox.demo.narrator import Narrator
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.inside import run_inside
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.waiting import wait
from claude_sandbox.localcluster.cluster import Cluster

# Seconds; a host is looked at every ten.
_HOST_PATIENCE = 15.0
_ASKED = "Answer with one word: pong"
_PATIENCE = 30
"""Seconds for the answer."""
_AUDIT_PATIENCE = 5.0
"""Seconds until a line is written, at most."""
_NAME = f"{sandbox.NAMESPACE}/{sandbox.NAME}"
_UNREACHED = (
    "The stand-in could not be reached. A firewall of the host may keep containers from the host's own address: see the"
    "\naudit below."
)
_NO_ANSWER = "That takes the Internet, and for Claude a key that the Claude API takes: see the audit below."


def host_trouble(kubectl: Kubectl, name: str) -> str:
    """Why the Docker host can't be used; empty where it can."""
    found = kubectl.get(meta.HOST_PLURAL, name)
    conditions = (found or {}).get("status", {}).get("conditions") or ()
    ready = next((one for one in conditions if one["type"] == "Ready"), None)
    if ready is None or ready["status"] == "True":
        return ""
    return f"  DockerHost {name}: {ready['reason']}: {ready['message']}"


def result(
    running: Cluster, kubectl: Kubectl, host: str, api: APIClient, provider: Provider, narrator: Narrator
) -> None:
    """How everything is now. Raises SetupError."""
    narrator.step("What there is now")
    # It counts its sandboxes when it is looked at next; a listing that says 0 would mislead.
    wait(lambda: _uncounted(kubectl, host), narrator.say, _HOST_PATIENCE)
    listing = ("get", "claudesandboxes,dockerhosts", "--namespace", sandbox.NAMESPACE)
    narrator.show(f"$ kubectl {' '.join(listing)}")
    narrator.show(kubectl.run(*listing))
    found = kubectl.get(meta.PLURAL, sandbox.NAME, sandbox.NAMESPACE)
    assert found is not None  # noqa: S101 - it was Ready a moment ago
    container = _container(found["status"])
    # By the engine's API, which is what `docker exec` uses: not every machine has Docker's client.
    narrator.show(f"$ docker exec {container} claude --version")
    narrator.show(_run_in(api, container, "claude", "--version"))
    for line in report.controls(found):
        narrator.show(line)
    (ready,) = (one for one in found["status"]["conditions"] if one["type"] == "Ready")
    narrator.show(textwrap.fill(f"Its status says: {ready['message']}", 118))
    _at_work(running, api, container, provider, narrator)


def further(running: Cluster, program: Path, endpoint: str, narrator: Narrator) -> None:
    """How to look further, and how to remove it."""
    container = Kubectl(program, str(running.kubeconfig)).get(meta.PLURAL, sandbox.NAME, sandbox.NAMESPACE)
    assert container is not None  # noqa: S101 - it was Ready a moment ago
    narrator.step("To look further")
    for line in _commands(running, program, endpoint, _container(container["status"])):
        narrator.show(line)
    narrator.show("\nTo remove all of it: make demo-down")


def _at_work(running: Cluster, api: APIClient, container: str, provider: Provider, narrator: Narrator) -> None:
    """The agent working without a key, by its gateway; what does not go as it should is told, and ends nothing."""
    narrator.step("At work, by the gateway: the sandbox holds no key and has no other way out")
    if provider.stand_in:
        narrator.show("There is no key, so what answers is a stand-in for the Claude API, on this engine.")
    began = datetime.now(UTC)
    curl = ("curl", "--silent", "--show-error", "--max-time", "20")
    denied = f"https://{DENIED}/"
    for argv, shown in (
        # Without an answer it tries again and again.
        (("timeout", str(_PATIENCE), "claude", "-p", _ASKED), f"claude -p '{_ASKED}'"),
        ((*curl, "--output", "/dev/null", "--write-out", "%{http_code}", provider.url), f"curl {provider.url}"),
        ((*curl, denied), f"curl {denied}"),
    ):
        narrator.show(f"$ docker exec {container} {shown}")
        code, said = run_inside(api, container, *argv)
        narrator.show(textwrap.shorten(said, 400) or f"(nothing, exit code {code})")
        if code != 0 and argv[-1] != denied:
            narrator.show(_UNREACHED if provider.stand_in else _NO_ANSWER)
    narrator.show(f"$ claude-sandbox audit {_NAME}     # what the gateway let through, and what not")
    narrator.show(_audit(running, began))


def _audit(running: Cluster, began: datetime) -> str:
    """What the gateway has written since, once the last that was asked for is in it."""
    command = (sys.executable, "-P", "-m", "claude_sandbox.cli.main", "audit", _NAME, "--since", began.isoformat())
    environment = {**os.environ, "KUBECONFIG": str(running.kubeconfig)}
    end = time.monotonic() + _AUDIT_PATIENCE
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if DENIED in done.stdout or time.monotonic() > end:
            return done.stdout.rstrip() or done.stderr.rstrip()


def _uncounted(kubectl: Kubectl, host: str) -> str | None:
    found = kubectl.get(meta.HOST_PLURAL, host)
    return None if found and found.get("status", {}).get("sandboxes") else "The Docker host counts its sandboxes."


def _container(status: dict[str, dict[str, str]]) -> str:
    return status["workload"]["name"]


def _commands(running: Cluster, program: Path, endpoint: str, container: str) -> Iterator[str]:
    if not shutil.which("kubectl"):
        yield f"alias kubectl={shlex.quote(str(program))}"
    yield f"export KUBECONFIG={shlex.quote(str(running.kubeconfig))}"
    if endpoint != f"unix://{engines.SOCKET}":
        yield f"export DOCKER_HOST={endpoint}"
    if not shutil.which("docker"):
        yield "# docker is Docker's client, which is not installed here."
    yield (
        f"kubectl describe claudesandbox {sandbox.NAME} --namespace {sandbox.NAMESPACE}"
        "     # conditions, every control, Events"
    )
    yield "kubectl describe dockerhosts     # the engine, and what it offers"
    yield f"docker exec -it {container} claude     # Claude Code in the sandbox"
    yield f"{_own_program()} audit {_NAME} --follow     # what it asks its gateway for"
    yield f"docker rm --force {container}     # comes back by itself"
    yield f"tail -f {operator.log(running.layout)}     # what the operator does"


def _own_program() -> str:
    """`claude-sandbox`, where the shell finds it; else by its path."""
    beside = Path(sys.executable).with_name("claude-sandbox")
    return "claude-sandbox" if shutil.which("claude-sandbox") or not beside.exists() else shlex.quote(str(beside))


def _run_in(api: APIClient, container: str, *argv: str) -> str:
    """What a program prints in a container, as the container's own user. Raises SetupError where it fails."""
    code, said = run_inside(api, container, *argv)
    if code != 0:
        raise SetupError(
            f"{' '.join(argv)} failed in the sandbox with exit code {code}:\n{said}", "See the sandbox's Events."
        )
    return said
