"""Another image is tried beside a sandbox, in a pod of its own in the sandbox's namespace.

Theory of operation. It holds nothing: what there is, the API server says. A sandbox has one such pod at a time, by its
name, and of which image that is its spec tells. Its NetworkPolicy is there first and lets nothing in or out; it is no
sandbox's pod by its labels, so that no other policy of the operator's lets it do more. Both belong to the ClaudeSandbox
and go with it; the pod ends by itself before that. What a quota refuses, and what no node has room for, is told as
that. Called by the one pass at work on a sandbox.
"""

import asyncio
import logging

from claude_sandbox.backends.base import Trial
from claude_sandbox.backends.kubernetes.ownership import is_owned
from claude_sandbox.backends.kubernetes.trials.pod import image_of, name_of, network_policy, pod, trial_of
from claude_sandbox.blueprint.canary import SLACK
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import NETWORK_POLICIES, PODS, Resource
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, terminating

logger = logging.getLogger(__name__)

_LOOKS, _PAUSE = 10, 0.5
"""How often it is looked whether a pod is gone, and seconds between."""
_QUOTA = "exceeded quota"
"""In what the API server says then (k8s.io/apiserver, plugin resourcequota)."""


class KubernetesTrials:
    """In one cluster."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def look(self, identity: Identity) -> Trial:
        """What is seen of it."""
        try:
            live = await self._found(PODS, identity)
        except ApiError:
            return Trial(seen=False)
        if live is not None and not is_owned(live, identity):
            return Trial(message=f"a pod of others has the name {name_of(identity)}: remove it")
        return Trial() if live is None else trial_of(live)

    async def begin(self, canary: Blueprint, seconds: float, *, image_volumes: bool) -> Trial:
        """Have it run, of the canary's image, for so many seconds and a while more at most."""
        identity = canary.identity
        try:
            live = await self._found(PODS, identity)
            if live is not None and not is_owned(live, identity):
                return Trial(message=f"a pod of others has the name {name_of(identity)}: remove it")
            # Of another image, or ended in a way that says nothing of this one.
            if live is not None and (image_of(live) != canary.image.reference or not trial_of(live).uid):
                if not terminating(live):
                    await self._delete(PODS, live)
                return Trial(message="an earlier one is being removed")
            if live is not None:
                return trial_of(live)
            # The policy first: no moment of the pod is without it.
            await self._create(NETWORK_POLICIES, network_policy(identity), identity)
            body = pod(canary, int(seconds) + SLACK, image_volumes=image_volumes)
            await self._create(PODS, body, identity)
            live = await self._found(PODS, identity)
            return Trial() if live is None else trial_of(live)
        except ApiError as error:
            if error.is_forbidden and _QUOTA in error.message:
                return Trial(no_room=f"The namespace's quota has no room for it: {error.message}")
            if error.is_forbidden or error.is_invalid:
                return Trial(message=f"its pod can't be made: {error.message}")
            logger.debug("an image could not be tried beside %s: %s", identity.name, error)
            return Trial(seen=False)

    async def end(self, identity: Identity) -> bool:
        """Whether it is gone, or about to be."""
        try:
            live = await self._found(PODS, identity)
            if live is not None and is_owned(live, identity) and not terminating(live):
                await self._delete(PODS, live)
            if not await self._is_gone(identity):
                # The policy stays with it, for the next trial, or until the sandbox goes.
                return True
            policy = await self._found(NETWORK_POLICIES, identity)
            if policy is not None and is_owned(policy, identity):
                await self._delete(NETWORK_POLICIES, policy)
        except ApiError:
            return False
        return True

    async def _is_gone(self, identity: Identity) -> bool:
        """Whether its pod is, which may take a moment."""
        for _ in range(_LOOKS):
            live = await self._found(PODS, identity)
            if live is None or not is_owned(live, identity):
                return True
            await asyncio.sleep(_PAUSE)
        return False

    async def _found(self, resource: Resource, identity: Identity) -> Object | None:
        try:
            return await self._api.get(resource, name_of(identity), identity.namespace)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise

    async def _create(self, resource: Resource, body: Manifest, identity: Identity) -> None:
        try:
            await self._api.create(resource, body, identity.namespace)
        except ApiError as error:
            # Of an earlier try; what it is, is looked at.
            if not error.is_already_exists:
                raise

    async def _delete(self, resource: Resource, live: Object) -> None:
        metadata = live["metadata"]
        grace = 1 if resource is PODS else None
        try:
            await self._api.delete(
                resource, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_seconds=grace
            )
        except ApiError as error:
            if not (error.is_not_found or error.is_conflict):
                raise
