"""Bringing the kinds of the project's own into a cluster, so that what is there already stays as it is.

The API server fills in a default where it reads what it has stored, too. A default that another version has not is so
a change of every object that says nothing; what such an object meant until now is written into it before.
"""

import contextlib
import copy
import json
from collections.abc import Iterable, Iterator

from claude_sandbox.api import meta
from claude_sandbox.api.crds.definitions import KINDS, SANDBOX
from claude_sandbox.api.fields.credentials import Delivery
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import Manifest
from claude_sandbox.install.waiting import Say, wait

CRD = SANDBOX.crd_name
CRDS = tuple(kind.crd_name for kind in KINDS)
_KIND = "CustomResourceDefinition"
_PATIENCE = 180.0
_KEPT_PATIENCE = 20.0


def bring(kubectl: Kubectl, manifests: Iterable[Manifest], say: Say, *, force: bool) -> None:
    """Apply CRDs and what has to be there beside them, and wait until their kinds are served. Raises SetupError."""
    wanted = list(manifests)
    before = kubectl.get("crd", CRD)
    if before is not None and not any(_deliveries(before, "default")):
        kubectl.apply([_without_default(one) for one in wanted], force=force)
        await_served(kubectl, say)
        _keep_deliveries(kubectl, say)
    kubectl.apply(wanted, force=force)
    await_served(kubectl, say)


def await_served(kubectl: Kubectl, say: Say) -> None:
    """Wait until the API server serves the kinds of the project's own. Raises SetupError where it does not."""
    if not wait(lambda: _unserved(kubectl), say, _PATIENCE):
        raise SetupError(
            f"After {_PATIENCE:.0f} s: {_unserved(kubectl)}",
            f"See why: kubectl describe crd {' '.join(CRDS)}",
        )


def _unserved(kubectl: Kubectl) -> str | None:
    for name in CRDS:
        # `kubectl wait` fails on an object that has no conditions yet.
        found = kubectl.get("crd", name)
        conditions = found.get("status", {}).get("conditions") or () if found else ()
        if not any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            return f"The API server does not serve {name} yet."
    return None


def _keep_deliveries(kubectl: Kubectl, say: Say) -> None:
    """Until now a sandbox that says nothing had its key mounted. In Production none can: there it gets a gateway."""

    def look() -> str | None:
        for one in _silent(kubectl):
            _keep(kubectl, one)
        # An API server that does not know the field yet says yes, and stores nothing.
        left = ", ".join(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in _silent(kubectl))
        return f"To go on as they are (spec.credentials.delivery: Mounted): {left}" if left else None

    if not wait(look, say, _KEPT_PATIENCE):
        say("These can't be changed, so they get a gateway (spec.credentials.delivery: Brokered).")


def _silent(kubectl: Kubectl) -> list[Manifest]:
    """The sandboxes that say nothing of it and are to stay as they are."""
    return [one for one in kubectl.list(meta.PLURAL) if _is_silent(one.get("spec") or {}, one["metadata"])]


def _is_silent(spec: Manifest, metadata: Manifest) -> bool:
    ends = "deletionTimestamp" in metadata or spec.get("profile") == "Production"
    credentials = spec.get("credentials") or {}
    return bool(credentials) and "delivery" not in credentials and not ends


def _keep(kubectl: Kubectl, sandbox: Manifest) -> None:
    metadata = sandbox["metadata"]
    patch = [
        # Who chooses something meanwhile is not overruled.
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        {"op": "add", "path": "/spec/credentials/delivery", "value": Delivery.MOUNTED.value},
    ]
    which = (meta.PLURAL, metadata["name"], "--namespace", metadata["namespace"])
    with contextlib.suppress(SetupError):
        kubectl.run("patch", *which, "--type=json", f"--patch={json.dumps(patch)}")


def _without_default(manifest: Manifest) -> Manifest:
    if manifest["kind"] != _KIND or manifest["metadata"]["name"] != CRD:
        return manifest
    silent = copy.deepcopy(manifest)
    for delivery in _deliveries(silent):
        delivery.pop("default", None)
    return silent


def _deliveries(crd: Manifest, having: str | None = None) -> Iterator[Manifest]:
    """The schema of `spec.credentials.delivery` in each version; those with the word `having` in it."""
    for version in crd["spec"]["versions"]:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        found = spec.get("credentials", {}).get("properties", {}).get("delivery")
        if found is not None and (having is None or having in found):
            yield found
