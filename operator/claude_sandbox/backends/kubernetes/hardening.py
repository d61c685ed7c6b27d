"""What every container of the operator's making is kept from, a sandbox's or its gateway's. Pure."""

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
