"""Which sandbox is meant, and what runs of it now."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.api.fields.incident import IncidentState
from claude_sandbox.api.spec import BackendType
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import PODS, SANDBOXES

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
SANDBOX = re.compile(f"(?:({_LABEL})/)?({_LABEL})")


@dataclass(frozen=True)
class Target:
    """A sandbox whose workload runs. `workload`: its pod's name, or its container's identifier.

    `container`: the agent's in the pod. `directory`: where a command of it begins, which is its workspace.
    """

    namespace: str
    name: str
    uid: str
    backend: BackendType
    workload: str
    host: str = ""
    sessions: str = ""
    """On Docker, where the operator lets people in, as the status has it; empty where it does not."""
    container: str = "agent"
    directory: str = "/workspace"
    idles: bool = False
    """Whether it is suspended when nobody uses it (spec.lifecycle.idleTimeout)."""
    repositories: tuple[Mapping[str, Any], ...] = ()
    """What the operator says of those that were cloned, as in the status."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def named(text: str, namespace: str | None) -> tuple[str, str] | None:
    """Namespace (empty: not said) and name; None for what is no sandbox's name, or one in another `namespace`."""
    found = SANDBOX.fullmatch(text)
    if found is None or (namespace is not None and found[1] not in (None, namespace)):
        return None
    return namespace or found[1] or "", found[2]


async def find(api: Api, namespace: str, name: str) -> Target:
    """The sandbox, with what runs of it. Raises WorkError."""
    what = f"ClaudeSandbox {namespace}/{name}"
    try:
        live = await api.get(SANDBOXES, name, namespace)
    except ApiError as error:
        raise refused(error, what, f"get {meta.PLURAL}", namespace) from None
    target = target_of(live)
    if target.backend is BackendType.KUBERNETES:
        await _look_at_pod(api, target, str(_fields(_fields(live, "status"), "workload").get("uid")))
    return target


def target_of(live: Mapping[str, Any]) -> Target:
    """What a ClaudeSandbox says of itself. Raises WorkError where nothing of it runs."""
    metadata, spec, status = _fields(live, "metadata"), _fields(live, "spec"), _fields(live, "status")
    namespace, name = str(metadata.get("namespace")), str(metadata.get("name"))
    what = f"ClaudeSandbox {namespace}/{name}"
    not_in_quarantine(live)
    if spec.get("operatingMode") == "Suspended" or _fields(status, "lifecycle").get("ended"):
        raise WorkError(f"{what} is suspended: nothing of it runs.", f"claude-sandbox resume {namespace}/{name}")
    backend = BackendType(str(_fields(spec, "backend").get("type", BackendType.KUBERNETES)))
    workload, placement = _fields(status, "workload"), _fields(status, "placement")
    running = workload.get("name") if backend is BackendType.KUBERNETES else workload.get("uid")
    if not running:
        raise WorkError(f"Nothing of {what} runs yet{_why(status)}", f"kubectl describe {meta.SINGULAR} {name}"
                        f" -n {namespace} says more.")  # fmt: skip
    repositories = status.get("repositories")
    return Target(
        namespace,
        name,
        str(metadata.get("uid")),
        backend,
        str(running),
        idles=bool(_fields(spec, "lifecycle").get("idleTimeout")),
        host=str(workload.get("host") or placement.get("host") or ""),
        sessions=str(workload.get("sessions") or ""),
        repositories=tuple(one for one in repositories if isinstance(one, Mapping))
        if isinstance(repositories, list)
        else (),
    )


def not_in_quarantine(live: Mapping[str, Any]) -> None:
    """Raises WorkError where nothing of the sandbox may go on, whoever asks for it."""
    if _fields(_fields(live, "spec"), "incident").get("state") != IncidentState.QUARANTINED:
        return
    called = f"{live['metadata']['namespace']}/{live['metadata']['name']}"
    raise WorkError(
        f"ClaudeSandbox {called} is in quarantine: nothing goes in or out, and nothing of it goes on.",
        f"claude-sandbox incident status {called} says why; its logs are in the evidence (incident collect)."
        f" Who may lift it: claude-sandbox incident lift {called}",
    )


async def _look_at_pod(api: Api, target: Target, uid: str) -> None:
    """That the pod is the sandbox's, and runs. Raises WorkError."""
    where = f"pod {target.namespace}/{target.workload}"
    try:
        pod = await api.get(PODS, target.workload, target.namespace)
    except ApiError as error:
        if error.is_not_found:
            raise WorkError(
                f"The {where} of ClaudeSandbox {target} is gone.", "Try again: the operator makes it anew."
            ) from None
        raise refused(error, f"The {where}", "get pods", target.namespace) from None
    if pod["metadata"].get("uid") != uid:
        # Somebody else's under the sandbox's name, or one that was made a moment ago.
        raise WorkError(
            f"The {where} is not the one that the operator made for ClaudeSandbox {target}.",
            f"Try again in a moment; then see who made it: kubectl describe pod {target.workload}"
            f" -n {target.namespace}",
        )
    phase = str(_fields(pod, "status").get("phase"))
    if phase != "Running":
        raise WorkError(
            f"The {where} of ClaudeSandbox {target} does not run: it is {plain(phase)}.",
            f"kubectl describe {meta.SINGULAR} {target.name} -n {target.namespace} says why.",
        )


def _why(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or ():
        if isinstance(condition, Mapping) and condition.get("type") == "Ready":
            return f": {plain(str(condition.get('reason')))}. {plain(str(condition.get('message')))}"
    return "."


def _fields(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}
