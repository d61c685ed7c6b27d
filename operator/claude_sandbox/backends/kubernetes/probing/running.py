"""One probe: its pod is made, waited for, and removed."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.probing.controls import Controls
from claude_sandbox.backends.kubernetes.probing.pod import (
    changed_on_admission,
    cut_short,
    document,
    is_left,
    termination,
    touched,
    unlike,
    waits_for,
)
from claude_sandbox.backends.kubernetes.probing.report import question, report_of
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.backends.probing.schedule import NothingFoundError
from claude_sandbox.backends.probing.wanted import Wanted
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.compliance.evidence.probes import ProbeReport
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import PODS
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, terminating

SECONDS = 3.0
"""For one attempt: of TCP, the first packet and one more (RFC 6298: after 1 s)."""
SETTLE = 15.0
"""Within so many seconds of a pod's start a network plug-in is to have its policies in force."""
LOOK = 0.5
"""Seconds between two looks at what the watch has told."""
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Questions:
    """What is to be tried, from beside the pod `sandbox`, as it is now. `profiles`: those that it is meant to be held
    to; `enough`: seconds until its end; `strict`: whether one of them is that filter."""

    identity: Identity
    sandbox: Object
    wanted: tuple[Wanted, ...]
    enough: float
    settle: float = SETTLE
    profiles: Object | None = None
    strict: bool = False


async def ask(api: Api, watches: Watches, image: Image, asked: Questions, controls: Controls) -> ProbeReport:
    """Try once. Raises NothingFoundError and MisunderstoodError; the pod is removed, whatever happens."""
    # First: what is left counts towards the namespace's quota as well.
    await _clear(api, watches, asked.identity)
    name = f"{meta.PROBE_PREFIX}{asked.identity.name}-{secrets.token_hex(5)}"
    line = question(asked.wanted, SECONDS, asked.settle, strict=asked.strict)
    body = document(asked.identity, asked.sandbox, image, name, line, asked.profiles)
    made = await _made(api, body)
    try:
        # Before it is waited for: a pod that a webhook changed is not where the sandbox is.
        if why := changed_on_admission(body, made, asked.sandbox):
            raise NothingFoundError(why)
        node = str(asked.sandbox["spec"].get("nodeName") or "")
        # At the same time as the probe: what answers now may not answer a minute later.
        answering = asyncio.ensure_future(controls.answers(node, asked.wanted, SECONDS))
        try:
            ended = await _ended(api, lambda: watches.get(PODS, asked.identity.namespace, name), made, asked.enough)
            answers = await answering
        finally:
            answering.cancel()
    finally:
        await _removed(api, made)
    # First, and in the same words each time: a node that is short of something refuses one probe and ends another.
    if reason := cut_short(ended):
        raise NothingFoundError(f"its pod did not run to its end: {reason}")
    # Whoever may change pods could have it run another image, and say anything.
    if why := touched(made, ended):
        raise NothingFoundError(f"its pod is not what was made: {why}")
    came = termination(ended)
    if came is None:
        raise NothingFoundError(f"its pod did not run to its end: {waits_for(ended) or 'its container never ran'}")
    code, message = came
    if not message:
        raise NothingFoundError(
            f"its pod ended without an answer (exit code {code}); if that lasts, see that --gateway-image names the"
            " operator's image of the operator's own version"
        )
    return report_of(code, message, asked.wanted, answers, unlike(made, asked.sandbox), strict=asked.strict)


async def _made(api: Api, body: Manifest) -> Object:
    """The new pod. Given up meanwhile, it is removed: the API server may make it all the same."""
    namespace = body["metadata"]["namespace"]
    making = asyncio.ensure_future(api.create(PODS, body, namespace))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        with contextlib.suppress(ApiError):
            await _removed(api, await making)
        raise
    except ApiError as error:
        # A quota, a LimitRange, Pod Security, a webhook: what they say is what a user has to know.
        raise NothingFoundError(f"its pod was refused: {_steady(error)}") from None


async def _ended(api: Api, seen: Callable[[], Object | None], made: Object, enough: float) -> Object:
    """The pod when it has ended, read whole. What the watch tells says when to read."""
    metadata = made["metadata"]
    try:
        async with asyncio.timeout(enough):
            while True:
                live = seen()
                if live is not None and (live.get("status") or {}).get("phase") in _ENDED:
                    return await api.get(PODS, metadata["name"], metadata["namespace"])
                if live is not None and terminating(live):
                    raise NothingFoundError("somebody deleted its pod")
                await asyncio.sleep(LOOK)
    except TimeoutError:
        why = waits_for(seen()) or "it was not begun, or is at work still"
        raise NothingFoundError(f"its pod did not end within {enough:.0f} s: {why}") from None
    except ApiError as error:
        raise NothingFoundError(f"its pod could not be read: {_steady(error)}") from None


async def _removed(api: Api, made: Object) -> None:
    """Gone at once. One that can't be removed ends by its deadline, and is removed by the sandbox's next probe."""
    metadata = made["metadata"]
    with contextlib.suppress(ApiError):
        await api.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_seconds=0)


async def _clear(api: Api, watches: Watches, identity: Identity) -> None:
    """Remove what an operator left that ended in the middle of a probe."""
    for live in watches.of(PODS, identity.namespace).store.by_namespace(identity.namespace):
        if is_left(live, identity):
            await _removed(api, live)


def _steady(error: ApiError) -> str:
    """What the API server said, without the name of this one pod, so that it is the same each time."""
    message = error.message
    for word in message.split():
        if meta.PROBE_PREFIX in word:
            message = message.replace(word, "the probe")
    return f"{error.reason}: {message}" if error.reason else message
