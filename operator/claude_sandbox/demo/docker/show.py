"""What the demo on Docker ends with, as the API server, the engine and the sandbox say it."""

import shlex
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

from docker import APIClient

from claude_sandbox.api import meta
from claude_sandbox.demo import report, sandbox
from claude_sandbox.demo.docker import engines, operator
from claude_sandbox.demo.narrator import Narrator
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.inside import run_inside
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.waiting import wait
from claude_sandbox.localcluster.cluster import Cluster

# Seconds; a host is looked at every ten.
_HOST_PATIENCE = 15.0


def host_trouble(kubectl: Kubectl, name: str) -> str:
    """Why the Docker host can't be used; empty where it can."""
    found = kubectl.get(meta.HOST_PLURAL, name)
    conditions = (found or {}).get("status", {}).get("conditions") or ()
    ready = next((one for one in conditions if one["type"] == "Ready"), None)
    if ready is None or ready["status"] == "True":
        return ""
    return f"  DockerHost {name}: {ready['reason']}: {ready['message']}"


def result(kubectl: Kubectl, host: str, api: APIClient, narrator: Narrator) -> str:
    """How everything is now; the name of the sandbox's container. Raises SetupError."""
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
    return container


def further(running: Cluster, program: Path, endpoint: str, narrator: Narrator) -> None:
    """How to look further, and how to remove it."""
    container = Kubectl(program, str(running.kubeconfig)).get(meta.PLURAL, sandbox.NAME, sandbox.NAMESPACE)
    assert container is not None  # noqa: S101 - it was Ready a moment ago
    narrator.step("To look further")
    for line in _commands(running, program, endpoint, _container(container["status"])):
        narrator.show(line)
    narrator.show("\nTo remove all of it: make demo-down")


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
    yield f"{report.own_program()} audit {sandbox.NAMESPACE}/{sandbox.NAME} --follow     # what it asks its gateway for"
    yield f"docker rm --force {container}     # comes back by itself"
    yield f"tail -f {operator.log(running.layout)}     # what the operator does"


def _run_in(api: APIClient, container: str, *argv: str) -> str:
    """What a program prints in a container, as the container's own user. Raises SetupError where it fails."""
    code, said = run_inside(api, container, *argv)
    if code != 0:
        raise SetupError(
            f"{' '.join(argv)} failed in the sandbox with exit code {code}:\n{said}", "See the sandbox's Events."
        )
    return said
