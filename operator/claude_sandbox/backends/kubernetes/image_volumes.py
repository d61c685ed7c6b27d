"""Whether Claude Code can come into a pod by an image volume, found out by trying.

Theory of operation. A version tells little: the field is there from 1.31, off by default for long, and needs a kubelet
and a runtime that know it too. So the API server is asked with a dry run of the pod itself whether it keeps the field;
one that does not know it drops it, and then refuses a volume without a source. That answer is held for LASTS seconds.
What a node makes of it shows the first pod: where its container can't be made, the way is given up for its namespace,
for as long, and the pod is made again with an init container. A pod that is there keeps the way in which it was made.

It holds these answers, used by passes on the event loop. A crash forgets them; they are found out again. No tenant
decides for another namespace: whose containers can't be made for other reasons only has its own made the slower way.
"""

import time
from collections.abc import Callable

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.tools import has_image_volume, has_tools, lacks_image_volumes
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import PODS
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, terminating

LASTS = 3600.0
_MOST = 4096
"""Namespaces of which it is remembered that the way was given up."""


class ImageVolumes:
    """Of one cluster. `clock` gives seconds."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._kept: tuple[bool, float] | None = None
        self._given_up: dict[str, float] = {}

    async def usable(self, pod: Manifest, live: Object | None) -> bool:
        """Whether the pod, which asks for one, is to be made so. `live`: the one of the sandbox's that there is."""
        namespace = str(pod["metadata"]["namespace"])
        if live is not None and has_tools(live) and not terminating(live):
            if not lacks_image_volumes(live):
                return has_image_volume(live)
            self._give_up(namespace)
        if self._given_up.get(namespace, 0.0) > self._clock():
            return False
        if self._kept is None or self._kept[1] <= self._clock():
            self._kept = await self._ask(pod, namespace)
        return self._kept is not None and self._kept[0]

    async def _ask(self, pod: Manifest, namespace: str) -> tuple[bool, float] | None:
        """None where another reason than the field kept the API server from an answer."""
        metadata = {key: value for key, value in pod["metadata"].items() if key != "name"}
        metadata["generateName"] = f"{meta.child_name('image-volumes')}-"
        # The sandbox's own account is made in the pass that makes the pod: there is none yet.
        spec = {key: value for key, value in pod["spec"].items() if key != "serviceAccountName"}
        until = self._clock() + LASTS
        try:
            answer = await self._api.create(PODS, {**pod, "metadata": metadata, "spec": spec}, namespace, dry_run=True)
        except ApiError as error:
            # A quota or a webhook that refuses it says nothing of the field.
            return (False, until) if error.is_invalid else None
        return has_image_volume(answer), until

    def _give_up(self, namespace: str) -> None:
        now = self._clock()
        self._given_up = {one: until for one, until in self._given_up.items() if until > now}
        # Beyond that the next pod of the namespace is tried anew, at the cost of a moment: better than to forget
        # another's.
        if len(self._given_up) < _MOST:
            self._given_up[namespace] = now + LASTS
