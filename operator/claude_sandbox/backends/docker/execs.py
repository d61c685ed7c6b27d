"""Whose exec sessions are in a container: the engine's own health checks, or somebody else's."""

import asyncio

from claude_sandbox.backends.docker import evidence
from claude_sandbox.backends.docker.engine import Engine
from claude_sandbox.backends.docker.errors import EngineError
from claude_sandbox.backends.docker.raw import Object
from claude_sandbox.compliance.docker.document import Document


async def without_health_checks(engine: Engine, container: Object) -> Object:
    """The container's document without the sessions that are health checks or have ended; as it is where that can't be
    told.
    """
    sessions = Document(container).strings("ExecIDs")
    if not sessions:
        return container
    try:
        found = await asyncio.gather(*(engine.session(one) for one in sessions))
    except EngineError:
        return container
    # One that has ended meanwhile is in the container no more.
    ended = {one for one, document in zip(sessions, found, strict=True) if document is None}
    left = {**container, "ExecIDs": [one for one in sessions if one not in ended] or None}
    return evidence.without_health_checks(left, [one for one in found if one is not None])
