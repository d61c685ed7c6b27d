"""Whether a Deployment's pods are being replaced. Pure."""

from claude_sandbox.kubernetes_api.unstructured import Object


def is_rolling(deployment: Object | None) -> bool:
    """Whether pods of it are being replaced: some are of another revision than it asks for now."""
    if deployment is None:
        return False
    status, wanted = deployment.get("status") or {}, (deployment.get("spec") or {}).get("replicas", 1)
    behind = (status.get("observedGeneration") or 0) < (deployment["metadata"].get("generation") or 0)
    return behind or (status.get("updatedReplicas") or 0) < wanted or (status.get("replicas") or 0) > wanted
