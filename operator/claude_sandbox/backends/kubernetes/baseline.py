"""The removal of a namespace's baseline policy, kept apart from the making of pods that rely on it.

Theory of operation. The policy belongs to no single sandbox, so that no garbage collector removes it: the operator
does, with the last sandbox of the namespace. It holds, of each namespace, how many passes rely on the policy now, and
whether it is being removed. Never both: a pass waits for the end of a removal, and a removal isn't begun while a pass
relies on the policy or a pod is there. Between looking and counting nothing awaits, which makes that true on one event
loop; between two replicas the election does.

A removal that is not begun is asked for again: the pass that stood in its way was for a sandbox that is gone, which is
looked at once more. What was removed is unlearnt at once, so that the next pass finds it missing and makes it first. A
crash leaves the policy, or removes it: without pods both are safe.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.ownership import is_baseline
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import NETWORK_POLICIES, PODS
from claude_sandbox.kubernetes_api.unstructured import terminating


class BaselinePolicies:
    """Those of all namespaces.

    A pass that saw the policy in place while its removal was on the way would make a pod without it; so would one
    that goes on after its sandbox, the last one, was deleted.
    """

    def __init__(self, api: Api, watches: Watches) -> None:
        self._api = api
        self._watches = watches
        self._relying: Counter[str] = Counter()
        self._removals: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def relied_upon(self, namespace: str) -> AsyncIterator[None]:
        """The policy is not removed meanwhile; where it is being removed, that is waited for."""
        while (removal := self._removals.get(namespace)) is not None:
            await removal.wait()
        self._relying[namespace] += 1
        try:
            yield
        finally:
            self._relying[namespace] -= 1
            if not self._relying[namespace]:
                del self._relying[namespace]

    async def remove(self, namespace: str) -> None:
        """Remove the policy, unless there is a pod, or a pass that may make one. Raises ApiError.

        Such a pass can only be for a sandbox that was deleted meanwhile: it is looked at again, and this is called.
        """
        baseline = self._watches.get(NETWORK_POLICIES, namespace, meta.BASELINE_POLICY)
        pods = self._watches.of(PODS, namespace).store.by_namespace(namespace)
        # Every pod with a sandbox's label counts, whoever made it: it is what the policy selects.
        if baseline is None or not is_baseline(baseline) or terminating(baseline) or pods:
            return
        if namespace in self._relying or namespace in self._removals:
            return
        done = self._removals[namespace] = asyncio.Event()
        try:
            await self._delete(baseline, namespace)
        finally:
            del self._removals[namespace]
            done.set()

    async def _delete(self, baseline: Obj, namespace: str) -> None:
        try:
            uid = baseline["metadata"]["uid"]
            await self._api.delete(NETWORK_POLICIES, meta.BASELINE_POLICY, namespace, uid=uid)
        except ApiError as error:
            if not error.is_not_found:
                raise
        # Also where it was gone already: the watch may tell of that later than the next pass looks.
        self._watches.of(NETWORK_POLICIES, namespace).unlearn(baseline)
