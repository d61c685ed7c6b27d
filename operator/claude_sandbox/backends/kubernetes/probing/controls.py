"""What answers from a sandbox's node where nothing is denied: the control of an attempt that fails.

Theory of operation. The operator's own policy lets it reach little, and whether a kubelet or a metadata service answers
can be told on their node alone. So what did not answer the operator is asked of a pod of the operator's image, in a
namespace in which are no other pods and from which every connection is allowed. It lives for some seconds, has no token
and mounts nothing; nobody but administrators can touch it, so its message is believed. It is asked for addresses of the
cluster's own and of administrators' alone, never for one that a tenant chose: who may not connect somewhere must not
learn what answers there.

Holds for each node what answered, for FRESH seconds, so that sandboxes of one node that are probed at about the same
time share a pod; one is under way on a node at a time. Of a node that nobody asks about any more nothing is held. A
crash leaves at most a pod that ends by its deadline, and is removed before the next one on that node. Used from one
event loop.
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import orjson

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.probing.pod import confined_spec, termination
from claude_sandbox.backends.kubernetes.probing.report import question
from claude_sandbox.backends.probing.here import tried_here
from claude_sandbox.backends.probing.wanted import Wanted
from claude_sandbox.blueprint.model import Image
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import PODS
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object
from claude_sandbox.probe import VERSION
from claude_sandbox.probe.outcomes import REACHED

FRESH = 60.0
"""For so many seconds what answered counts as answering at that time."""
ENOUGH = 60.0
"""Seconds until a pod's end; its image is on the node as soon as one probe was."""
LOOK = 0.5
LABEL_NODE = f"{meta.GROUP}/control-of"
COMPONENT = "probe-control"
_ENDED = ("Succeeded", "Failed")

Address = tuple[str, int, str, str]
"""Host, port, protocol and query."""


@dataclass
class _Node:
    """`asking`: how many wait for its answers, for it must not be forgotten and be there twice meanwhile."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    answered: dict[Address, tuple[float, bool]] = field(default_factory=dict)
    asking: int = 0


class Controls:
    """Of one cluster. `namespace`: where its pods are, None for none: then the operator alone is the control."""

    def __init__(
        self, api: Api, image: Image, namespace: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._image = image
        self._namespace = namespace
        self._clock = clock
        self._nodes: dict[str, _Node] = {}

    async def answers(self, node: str, wanted: Sequence[Wanted], seconds: float) -> dict[str, bool]:
        """Which of the targets that have a control answer, by their names. What a cluster refuses answers nothing."""
        known = {one.name: one.answers for one in wanted if one.answers is not None}
        found = known | await tried_here(wanted, seconds)
        # What answers the operator is there; a pod costs seconds.
        left = [one for one in wanted if one.by_node and not found.get(one.name)]
        if self._namespace is None or not left:
            return found
        self._forget()
        of = self._nodes.setdefault(node, _Node())
        of.asking += 1
        try:
            with contextlib.suppress(ApiError, TimeoutError):
                async with asyncio.timeout(ENOUGH):
                    found |= await self._by_node(of, node, left, seconds)
        finally:
            of.asking -= 1
        return found

    def _forget(self) -> None:
        """Nodes come and go, and their names may never come again."""
        since = self._clock() - FRESH
        self._nodes = {
            name: of
            for name, of in self._nodes.items()
            if of.asking or any(when > since for when, _ in of.answered.values())
        }

    async def _by_node(self, of: _Node, node: str, left: Sequence[Wanted], seconds: float) -> dict[str, bool]:
        async with of.turn:
            now = self._clock()
            # What is old goes here, so no more is held of a node than was asked lately.
            of.answered = {key: one for key, one in of.answered.items() if now - one[0] < FRESH}
            unknown = [one for one in left if _address(one) not in of.answered]
            if unknown:
                came = await self._asked(node, unknown, seconds)
                of.answered |= {_address(one): (now, came[one.name]) for one in unknown if one.name in came}
            # A pod that its node has refused says nothing, so that the next one is asked again.
            return {one.name: known[1] for one in left if (known := of.answered.get(_address(one))) is not None}

    async def _asked(self, node: str, wanted: Sequence[Wanted], seconds: float) -> dict[str, bool]:
        assert self._namespace is not None  # noqa: S101 - `answers` has looked
        label = _label(node)
        await self._clear(label)
        body = document(self._namespace, node, label, self._image, question(wanted, seconds, 0))
        # Shielded: a request that is given up may be carried out all the same, and nobody would remove the pod.
        making = asyncio.ensure_future(self._api.create(PODS, body, self._namespace))
        try:
            made = await asyncio.shield(making)
        except asyncio.CancelledError:
            with contextlib.suppress(ApiError):
                await self._removed(await making)
            raise
        try:
            return answered(await self._ended(made), wanted)
        finally:
            await self._removed(made)

    async def _ended(self, made: Object) -> Object:
        metadata = made["metadata"]
        while True:
            live = await self._api.get(PODS, metadata["name"], metadata["namespace"])
            if (live.get("status") or {}).get("phase") in _ENDED:
                return live
            await asyncio.sleep(LOOK)

    async def _clear(self, label: str) -> None:
        """Remove what an operator left that ended meanwhile."""
        assert self._namespace is not None  # noqa: S101
        listed = await self._api.list(PODS, self._namespace, label_selector=f"{LABEL_NODE}={label}")
        for left in listed.items:
            await self._removed(left)

    async def _removed(self, pod: Object) -> None:
        metadata = pod["metadata"]
        with contextlib.suppress(ApiError):
            await self._api.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_seconds=0)


def document(namespace: str, node: str, label: str, image: Image, asked: str) -> Manifest:
    """The pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"control-{label}-{secrets.token_hex(5)}",
            "namespace": namespace,
            "labels": {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, meta.LABEL_COMPONENT: COMPONENT, LABEL_NODE: label},
        },
        "spec": {"nodeName": node, **confined_spec(image, asked)},
    }


def answered(ended: Object, wanted: Iterable[Wanted]) -> dict[str, bool]:
    """Which of the targets its message says to answer; none where there is none."""
    came = termination(ended)
    try:
        told = orjson.loads(came[1] if came is not None else "")
        # An image of another version may mean something else by the same words.
        if told["version"] != VERSION:
            return {}
        outcomes = {str(name): str(outcome) for name, outcome, *_ in told["attempts"]}
    except (ValueError, KeyError, TypeError):
        return {}
    return {one.name: outcomes.get(str(number)) in REACHED for number, one in enumerate(wanted)}


def _address(one: Wanted) -> Address:
    return one.host, one.port, one.protocol, one.query


def _label(node: str) -> str:
    """A node's name may be longer than a label's value."""
    return hashlib.sha256(node.encode()).hexdigest()[:16]
