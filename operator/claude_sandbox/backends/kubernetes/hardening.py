"""What every container of the operator's making is kept from, a sandbox's or its gateway's; and what has no way but
those that are named. Pure."""

from collections.abc import Sequence

from claude_sandbox.kubernetes_api.unstructured import Manifest


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
