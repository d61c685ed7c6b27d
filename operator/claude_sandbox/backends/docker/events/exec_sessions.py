"""Whose exec sessions are in a container: the engine's own health checks, or somebody else's, and with which rights."""

import asyncio
from collections.abc import Iterable, Mapping

from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.evidence.containers import ExecSession

# Sessions of one container that the engine is asked about; whose the others are is then not known.
_MOST = 32
_DEFAULT_SHELL = ["/bin/sh", "-c"]


async def sessions_in(engine: Engine, container: Object) -> tuple[ExecSession, ...]:
    """The sessions that are in a container now, but for health checks and what has ended.

    One that the engine can't be asked about is one of which nothing is known.
    """
    identifiers = list(Document(container).strings("ExecIDs") or ())
    found = await asyncio.gather(*(_session(engine, one, container) for one in identifiers[:_MOST]))
    left = (ExecSession(),) if len(identifiers) > _MOST else ()
    return (*(one for one in found if one is not None), *left)


async def left_behind(engine: Engine, container: Object) -> bool | None:
    """Whether processes are in a container that are another user's than its first one's.

    The container itself can't have started them where it has no capability and gains none. None: it can't be told.
    """
    try:
        users = await engine.users_in(str(container["Id"]))
    except EngineError:
        return None
    first = users.get(int(Document(container).number("State.Pid") or 0))
    return None if first is None else any(user != first for user in users.values())


def session_of(document: object, container: Object) -> ExecSession | None:
    """Whose an exec session is by its own document; None for one that does not run, or is the health check."""
    if not isinstance(document, Mapping):
        return ExecSession()
    if document.get("Running") is False or is_health_check(document, container):
        return None
    process = document.get("ProcessConfig")
    if not isinstance(process, Mapping):
        return ExecSession()
    privileged, user = process.get("privileged"), process.get("user", "")
    return ExecSession(
        # Left out where nobody asked for it.
        privileged=privileged if isinstance(privileged, bool) else False if privileged is None else None,
        user=user if isinstance(user, str) else None,
    )


def is_health_check(document: Object, container: Object) -> bool:
    """Whether a session runs the container's health check, as its user and with no more rights."""
    told, asked = Document(container), Document(document)
    test = list(told.strings("Config.Healthcheck.Test") or ())
    if test[:1] == ["CMD-SHELL"]:
        test = [*test[:1], *(told.strings("Config.Shell") or _DEFAULT_SHELL), *test[1:]]
    command = [asked.text("ProcessConfig.entrypoint"), *(asked.strings("ProcessConfig.arguments") or ())]
    process = asked.mapping("ProcessConfig") or {}
    plain = not process.get("privileged") and process.get("user", "") in ("", None, told.text("Config.User"))
    return bool(test) and command == test[1:] and plain


def has_more(sessions: Iterable[ExecSession], container: Object) -> bool:
    """Whether one of them may have more rights than the container."""
    own = Document(container).text("Config.User")
    return any(one.privileged is not False or one.user not in ("", own) for one in sessions)


async def _session(engine: Engine, identifier: str, container: Object) -> ExecSession | None:
    try:
        document = await engine.session(identifier)
    except EngineError:
        return ExecSession()
    # One that is not known has ended.
    return None if document is None else session_of(document, container)
