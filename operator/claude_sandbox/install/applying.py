"""Bringing the operator into a cluster, and out of it."""

from dataclasses import replace
from typing import Any

from claude_sandbox.install import crds
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import NAMESPACE, NODES, OPERATOR, Installation, Manifest, render
from claude_sandbox.install.waiting import Say, wait

_OURS = f"app.kubernetes.io/name={OPERATOR}"
_RIGHTS = "clusterroles,clusterrolebindings,roles,rolebindings"
_PATIENCE = 180.0


def install(
    kubectl: Kubectl, wanted: Installation, say: Say, *, labels: dict[str, str] | None = None, force: bool = False
) -> None:
    """Apply the objects, take back rights that this installation doesn't have, and wait until the operator is ready.

    `labels` go onto the operator's namespace. Raises SetupError.
    """
    manifests = render(replace(wanted, api_server_ports=wanted.api_server_ports | api_server_ports(kubectl)))
    for manifest in manifests:
        if manifest["kind"] == "Namespace":
            manifest["metadata"]["labels"] |= labels or {}
    say(f"Applying the CRDs, the rights and the Deployment: {len(manifests)} objects.")
    first = [m for m in manifests if m["kind"] in ("CustomResourceDefinition", "Namespace")]
    crds.bring(kubectl, first, say, force=force)
    kubectl.apply((m for m in manifests if m not in first), force=force)
    for stale in superfluous(kubectl, manifests):
        say(f"Taking back rights of an earlier installation: {stale['kind']} {stale['metadata']['name']}")
        kubectl.delete([stale])
    if not wanted.node_agent:
        _without_node_agent(kubectl, say)
    if not wait(lambda: _rollout(kubectl), say, _PATIENCE):
        raise SetupError(
            f"The operator is not ready after {_PATIENCE:.0f} s: {_rollout(kubectl)}\n{troubles(kubectl, NAMESPACE)}",
            "Mend what is said above, and run the command again.",
            (
                f"kubectl describe pods --namespace {NAMESPACE}",
                f"kubectl logs --namespace {NAMESPACE} deployment/{OPERATOR}",
            ),
        )


def uninstall(kubectl: Kubectl, say: Say) -> None:
    """Remove the operator, its rights and the CRD, and with that all sandboxes. Raises SetupError."""
    manifests = render(Installation(node_agent=True))
    last = [m for m in manifests if m["kind"] in ("CustomResourceDefinition", "Namespace")]
    kubectl.delete(reversed([m for m in manifests if m not in last]))
    for stale in superfluous(kubectl, []):
        kubectl.delete([stale])
    say("Waiting for its namespace to be gone.")
    kubectl.delete(reversed(last))


def _without_node_agent(kubectl: Kubectl, say: Say) -> None:
    """Remove the agents on the nodes that an earlier installation had."""
    found = kubectl.get("namespace", NODES)
    if found is not None and found["metadata"].get("labels", {}).get("app.kubernetes.io/name") == OPERATOR:
        say(f"Removing the agents on the nodes of an earlier installation (namespace {NODES}).")
        kubectl.delete([found])
        policies = kubectl.list("networkpolicies", NAMESPACE, _OURS)
        kubectl.delete(one for one in policies if one["metadata"]["name"] == f"{OPERATOR}-node-agent")


def api_server_ports(kubectl: Kubectl) -> frozenset[int]:
    """The ports behind the Service `kubernetes`: those that a policy for the operator has to allow."""
    slices = kubectl.list("endpointslices", "default", "kubernetes.io/service-name=kubernetes")
    return frozenset(int(port["port"]) for one in slices for port in one.get("ports") or ())


def superfluous(kubectl: Kubectl, manifests: list[Manifest]) -> list[Manifest]:
    """Roles and bindings that the operator once got and that are not among the manifests."""
    wanted = {_key(manifest) for manifest in manifests}
    return [one for one in kubectl.list(_RIGHTS, selector=_OURS) if _key(one) not in wanted]


def troubles(kubectl: Kubectl, namespace: str) -> str:
    """What keeps the namespace's pods from running, a line each."""
    lines = []
    for pod in kubectl.list("pods", namespace):
        name, status = pod["metadata"]["name"], pod.get("status", {})
        unscheduled = [
            c for c in status.get("conditions") or () if c["type"] == "PodScheduled" and c["status"] != "True"
        ]
        lines += [f"  pod {name}: {condition.get('message', 'not scheduled')}" for condition in unscheduled]
        for container in status.get("containerStatuses") or ():
            lines += [f"  pod {name}: {said}" for said in _container_trouble(container)]
    return "\n".join(lines)


def rollout(kubectl: Kubectl, name: str, namespace: str) -> str | None:
    """What a Deployment waits for; None where all its pods are as it says, and ready."""
    found = kubectl.get("deployment", name, namespace)
    if found is None:
        return f"Deployment {name} is not there."
    wanted, status = found["spec"]["replicas"], found.get("status", {})
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return f"Deployment {name} was not looked at yet."
    counts = [status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")]
    if counts == [wanted] * 3:
        return None
    return f"Deployment {name}: {counts[1]} of {wanted} pods were made, {counts[2]} of {counts[0]} are ready."


def _rollout(kubectl: Kubectl) -> str | None:
    return rollout(kubectl, OPERATOR, NAMESPACE)


def _container_trouble(container: dict[str, Any]) -> list[str]:
    waiting = container["state"].get("waiting")
    ended = (container.get("lastState") or {}).get("terminated")
    said = []
    if waiting:
        said.append(f"{waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip())
    if ended:
        said.append(
            f"its container ended with exit code {ended['exitCode']} ({ended.get('reason', 'no reason given')})"
        )
    return said


def _key(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]
