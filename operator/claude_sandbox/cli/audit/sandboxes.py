"""Where a sandbox's gateway runs, as its ClaudeSandbox and its DockerHost say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.spec import BackendType
from claude_sandbox.cli.unreadable import UnreadableError, unread
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS, SANDBOXES


@dataclass(frozen=True)
class Audited:
    """A sandbox. `workload`: the UID of its pod, the identifier of its container; `host`: its DockerHost's name."""

    namespace: str
    name: str
    uid: str
    backend: BackendType
    workload: str = ""
    host: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


async def find(api: Api, namespace: str, name: str) -> Audited:
    """The sandbox. Raises UnreadableError where it is none, or has no gateway."""
    try:
        live = await api.get(SANDBOXES, name, namespace)
    except ApiError as error:
        raise unread(
            error, f"ClaudeSandbox {namespace}/{name}", f"get {meta.PLURAL} in namespace {namespace}"
        ) from None
    spec, status = _fields(live, "spec"), _fields(live, "status")
    if _fields(spec, "credentials").get("delivery") == "Mounted":
        raise UnreadableError(
            f"ClaudeSandbox {namespace}/{name} holds its key itself and has no gateway, so there is no audit.",
            "Set spec.credentials.delivery to Brokered.",
        )
    workload, placement = _fields(status, "workload"), _fields(status, "placement")
    return Audited(
        namespace,
        name,
        str(live["metadata"]["uid"]),
        BackendType(str(_fields(spec, "backend").get("type", BackendType.KUBERNETES))),
        str(workload.get("uid", "")),
        str(workload.get("host") or placement.get("host") or ""),
    )


async def endpoint_of(api: Api, sandbox: Audited) -> str:
    """Where the engine that runs it listens, as its DockerHost says. Raises UnreadableError."""
    if not sandbox.host:
        raise UnreadableError(
            f"ClaudeSandbox {sandbox} has no Docker host yet.",
            f"kubectl describe {meta.SINGULAR} {sandbox.name} --namespace {sandbox.namespace} says why.",
        )
    try:
        live = await api.get(DOCKER_HOSTS, sandbox.host)
    except ApiError as error:
        raise unread(
            error,
            f"DockerHost {sandbox.host}, on which ClaudeSandbox {sandbox} runs,",
            f"get {meta.HOST_PLURAL}, or name the engine with --host",
        ) from None
    return str(_fields(live, "spec").get("endpoint", ""))


def _fields(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}
