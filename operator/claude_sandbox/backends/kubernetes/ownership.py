"""Whether an object with one of our names is ours. Labels only find; the owner's UID decides. Pure."""

from claude_sandbox.api import meta
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, annotations, labels


def owner_reference(owner: Identity, kind: str = meta.KIND) -> Manifest:
    """The ClaudeSandbox, or another object of ours, as what belongs to it names it, so that it goes with it."""
    found = {
        "apiVersion": meta.API_VERSION,
        "kind": kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
    }
    # This needs the right to the owner's finalizers, which the operator has of ClaudeSandboxes alone.
    return found | ({"blockOwnerDeletion": True} if kind == meta.KIND else {})


def is_owned(live: Object, owner: Identity, kind: str = meta.KIND) -> bool:
    """Whether the object's controller is this very one, and not an earlier one of the same name."""
    owners = live["metadata"].get("ownerReferences") or ()
    return any(one.get("uid") == owner.uid and one.get("kind") == kind and one.get("controller") for one in owners)


def is_leftover(live: Object, identity: Identity) -> bool:
    """Whether an earlier sandbox of this name had the object, so that the garbage collector is to remove it.

    Only where its label is still there: the removal of anything else is told by no watch.
    """
    metadata = live["metadata"]
    return labels(live).get(meta.LABEL_SANDBOX) == identity.name and any(
        owner.get("kind") == meta.KIND
        and owner.get("controller")
        and owner.get("name") == identity.name
        and owner.get("uid") != identity.uid
        for owner in metadata.get("ownerReferences") or ()
    )


def is_retained_claim(live: Object, identity: Identity) -> bool:
    """Whether the claim was kept for a sandbox of this name: ours by label, and owned by nobody else."""
    found = labels(live)
    return (
        found.get(meta.LABEL_MANAGED_BY) == meta.MANAGED_BY
        and found.get(meta.LABEL_SANDBOX) == identity.name
        and not live["metadata"].get("ownerReferences")
    )


def is_gateways(live: Object) -> bool:
    """Whether the object under the gateway's name was made by the operator: by its labels, or, where somebody took
    these away, by the annotation that it writes beside them."""
    found = labels(live)
    labelled = found.get(meta.LABEL_MANAGED_BY) == meta.MANAGED_BY
    return (labelled and found.get(meta.LABEL_COMPONENT) == meta.COMPONENT_GATEWAY) or (
        meta.ANNOTATION_SPEC_HASH in annotations(live)
    )


def is_baseline(live: Object) -> bool:
    """Whether the policy with the baseline's name was made by the operator."""
    return labels(live).get(meta.LABEL_MANAGED_BY) == meta.MANAGED_BY
