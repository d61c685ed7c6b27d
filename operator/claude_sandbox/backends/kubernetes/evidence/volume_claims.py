"""Why a workspace's claim has no volume: what the scheduler does not say is whether there is such a StorageClass.

Asked only while no node takes a pod whose claim is unbound. Nothing follows StorageClasses: the claim itself changes
when one came. Holds the last answers, by the names of classes, for some seconds each; where there are too many they go
all at once, since names are a tenant's to choose. Used by the passes, on the event loop. A crash forgets them.
"""

import time
from collections.abc import Callable

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import STORAGE_CLASSES
from claude_sandbox.kubernetes_api.unstructured import Object

AGAIN = 60.0
"""Seconds for which an answer is good."""
_REMEMBERED = 256
_OTHERWISE = "or make the sandbox again with another spec.workspace.storageClassName (`kubectl get storageclasses`)"


class StorageClasses:
    """What is known of StorageClasses, by their names."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[str, tuple[float, bool]] = {}

    async def why_unbound(self, claim: Object | None) -> str:
        """Why the claim gets no volume, with the remedy; empty where it has one, or that can't be told."""
        if claim is None or (claim.get("status") or {}).get("phase") not in (None, "Pending"):
            return ""
        name, storage = claim["metadata"]["name"], (claim.get("spec") or {}).get("storageClassName")
        if (claim.get("spec") or {}).get("volumeName"):
            return ""
        if not storage:
            # Where there is a default one, its name is filled in, later too.
            return (
                f"Claim {name} gets no volume: no StorageClass is the cluster's default. Have an administrator mark "
                f"one, {_OTHERWISE}."
            )
        if await self._exists(str(storage)):
            return ""
        return (
            f"Claim {name} gets no volume: there is no StorageClass {storage}. Have an administrator make it, "
            f"{_OTHERWISE}."
        )

    async def _exists(self, name: str) -> bool:
        """Also where that is not known: nothing is said then that may be wrong."""
        known = self._known.get(name)
        if known is not None and self._clock() < known[0]:
            return known[1]
        try:
            await self._api.get(STORAGE_CLASSES, name, metadata_only=True)
            exists = True
        except ApiError as error:
            exists = not error.is_not_found
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[name] = (self._clock() + AGAIN, exists)
        return exists
