"""What every container of the operator's making is kept from, a sandbox's or its gateway's; and what has no way but
those that are named. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from claude_sandbox.kubernetes_api.unstructured import Manifest, Object

RUNTIME_DEFAULT: Manifest = {"type": "RuntimeDefault"}
_NOT_MADE = frozenset({"CreateContainerError", "RunContainerError"})


def localhost(path: str) -> Manifest:
    """A profile of the node's own."""
    return {"type": "Localhost", "localhostProfile": path}


def missing_profile(pod: Object) -> str:
    """What a profile that the pod's node lacks makes of the pod, with the remedy; empty where it lacks none.

    Of a filter, and of a profile of AppArmor, the runtime says so of the container, which the kubelet then tries to
    make again and again (containerd: "cannot load seccomp profile", "apparmor profile not found"; pkg/kubelet/
    kuberuntime: ErrCreateContainer). Without AppArmor the kubelet itself does not take the pod, and says so of it:
    pkg/kubelet/lifecycle, AppArmorNotAdmittedReason.
    """
    return next(filter(None, (_missing_filter(pod), _missing_app_armor(pod))), "")


def _missing_filter(pod: Object) -> str:
    profile = _asked(pod, "seccompProfile")
    if profile.get("type") != "Localhost":
        return ""
    path = str(profile.get("localhostProfile"))
    why = next((why for why in _not_made(pod) if path in why and "seccomp" in why.lower()), "")
    if not why:
        return ""
    return (
        f"{_node_and_pod(pod)} its filter of system calls: it has no file {path} in its kubelet's directory of seccomp"
        " profiles, or can't use it. Have an administrator put manifests/seccomp/strict.json there, or set"
        f" spec.security.seccompProfile.type to RuntimeDefault. The node says: {why}"
    )


def _missing_app_armor(pod: Object) -> str:
    profile, status = _asked(pod, "appArmorProfile"), pod.get("status") or {}
    if not profile:
        return ""
    refused = status.get("message") if status.get("reason") == "AppArmor" else ""
    why = refused or next((why for why in _not_made(pod) if "apparmor" in why.lower()), "")
    if not why:
        return ""
    name = profile.get("localhostProfile")
    lacks = f"it has not loaded the profile {name}, or has no AppArmor" if name else "it has no AppArmor"
    return (
        f"{_node_and_pod(pod)} its AppArmor profile: {lacks}. Have an administrator see to that, or remove"
        f" spec.security.appArmorProfile. The node says: {why}"
    )


def _asked(pod: Object, kind: str) -> Object:
    return ((pod.get("spec") or {}).get("securityContext") or {}).get(kind) or {}


def _node_and_pod(pod: Object) -> str:
    return f"Node {(pod.get('spec') or {}).get('nodeName')} can't give pod {pod['metadata']['name']}"


def _not_made(pod: Object) -> Iterator[str]:
    """What the kubelet says of the containers that it can't make."""
    status = pod.get("status") or {}
    told: list[Any] = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for one in told:
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _NOT_MADE:
            yield str(waiting.get("message") or "")


def hardened_container() -> Manifest:
    """The security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def network_policy(
    metadata: Manifest, selected: Manifest, ingress: Sequence[Manifest] = (), egress: Sequence[Manifest] = ()
) -> Manifest:
    """A NetworkPolicy of both directions: what it selects has these ways in and out, and no others."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {
            "podSelector": selected,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": list(ingress),
            "egress": list(egress),
        },
    }
