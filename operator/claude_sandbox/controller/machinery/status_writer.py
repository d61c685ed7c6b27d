"""The one way in which a status is written; and read once more, where what was seen may be behind."""

from collections.abc import Mapping
from typing import Any

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import Resource

Raw = Mapping[str, Any]


async def write_status(
    api: Api, resource: Resource, raw: Raw, patch: Mapping[str, Any], *, as_seen: bool = False
) -> Raw | None:
    """Merge the patch into the status of this very object, not of a later one of the same name.

    `as_seen`: only where nothing of the object changed since it was seen. The object as it is then, or None where it is
    gone. Raises ApiError, a conflict where it did change.
    """
    metadata = raw["metadata"]
    version = metadata["resourceVersion"] if as_seen else None
    name, namespace = metadata["name"], metadata.get("namespace")
    try:
        # Mostly by UID alone: whoever changes the spec meanwhile must not make the status fail.
        return await api.patch_status(resource, name, namespace, patch, uid=metadata["uid"], resource_version=version)
    except ApiError as error:
        # A server under load answers a conflict for a patch as well: that the object is gone has to be certain.
        # For another one of its name it may find the patched status invalid before it looks at the UID.
        unsure = error.is_conflict or error.is_invalid
        if error.is_not_found or (unsure and await _is_gone(api, resource, metadata)):
            return None
        raise


async def as_stored(api: Api, resource: Resource, raw: Raw) -> Raw | None:
    """This very object as the server has it now; None where it is gone, or about to go. Raises ApiError."""
    metadata = raw["metadata"]
    try:
        live = await api.get(resource, metadata["name"], metadata.get("namespace"))
    except ApiError as error:
        if error.is_not_found:
            return None
        raise
    is_same = live["metadata"]["uid"] == metadata["uid"] and not live["metadata"].get("deletionTimestamp")
    return live if is_same else None


async def _is_gone(api: Api, resource: Resource, metadata: Mapping[str, Any]) -> bool:
    try:
        live = await api.get(resource, metadata["name"], metadata.get("namespace"), metadata_only=True)
    except ApiError as error:
        return error.is_not_found
    return bool(live["metadata"]["uid"] != metadata["uid"])
