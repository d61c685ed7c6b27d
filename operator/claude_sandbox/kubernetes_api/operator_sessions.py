"""A session in a sandbox on Docker, which the operator carries: the client's side.

Theory of operation. A `ClaudeSandboxSession` is made with the digest of a fresh secret; then the operator's port is
connected to, and the secret is said in the first message. What follows is the protocol of `pods/exec`, so that a
session is a `PodExec`. The port is reached by the API server's proxy of a Service; or, where there are no pods, by
itself, with a certificate of the authority that signed the API server's, and without the user's own credential. The
proxy picks one of the operator's replicas for each connection, and only the leader opens sessions, so a connection that
is answered with 503 is tried again, for some seconds. A crash leaves a session that the operator deletes two minutes
later.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiohttp

from claude_sandbox.api.kinds.sessions import LARGEST_OPENING, Answer, Command, Log, Opening
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import CONNECTION_FAILED, INVALID_RESPONSE, TOO_LARGE, ApiError
from claude_sandbox.kubernetes_api.pod_exec import CLOSES_INPUT, ExecError, PodExec
from claude_sandbox.kubernetes_api.resources import SERVICES, SESSIONS
from claude_sandbox.kubernetes_api.transport import no_answer

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_PORT = "(?P<port>[0-9]{1,5})"
_SERVICE = re.compile(f"(?P<namespace>{_LABEL})/(?P<name>{_LABEL}):{_PORT}")
_ADDRESS = re.compile(f"https://(?P<host>[a-z0-9][-.a-z0-9]*|\\[[0-9a-f:]+\\]):{_PORT}")
_TRIES, _PAUSE = 40, 0.1
"""How often a replica is looked for that leads, and seconds between: of two, each is met half of the time."""
_ANSWERS = 30.0
"""Seconds in which the operator says whether a session is opened."""
_UNAVAILABLE = 503


class SessionRefused(Exception):  # noqa: N818 - it is an answer
    """The operator does not open the session: why, and what may help."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class OperatorSession(PodExec):
    """One command that runs, or a log that is read. `close()` it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, answer: Answer) -> None:
        super().__init__(socket)
        self._answer = answer

    @property
    def can_end_input(self) -> bool:
        """Whether the operator's way to the engine can."""
        return self._answer.can_end_input


def is_place(text: str) -> bool:
    """Whether it says where an operator serves sessions: NAMESPACE/NAME:PORT of a Service, or https://HOST:PORT."""
    found = _SERVICE.fullmatch(text) or _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found["port"]) < 1 << 16


def is_address(text: str) -> bool:
    """Whether that is an address of its own."""
    return _ADDRESS.fullmatch(text) is not None


def proxied(service: str) -> str:
    """The path of the proxy of a Service that is written so. Raises ValueError."""
    found = _SERVICE.fullmatch(service)
    if found is None:
        raise ValueError(f"{service!r} is no NAMESPACE/NAME:PORT")
    return f"{SERVICES.collection(found['namespace'])}/https:{found['name']}:{found['port']}/proxy/session"


async def open_session(
    api: Api, at: str, namespace: str, sandbox: str, uid: str, what: Command | Log
) -> OperatorSession:
    """Open a session in the sandbox with this UID, where its status says. Raises ApiError, SessionRefused."""
    where = f"{at}/session" if is_address(at) else proxied(at)
    # The object has its digest alone: who may read sessions can't take one over.
    key = secrets.token_urlsafe(32)
    # The name is made here, so that a create that is tried again makes no second one.
    name = f"{sandbox}-{secrets.token_hex(6)}"
    opening = Opening(
        namespace=namespace, session=name, key=key,
        **({"run": what} if isinstance(what, Command) else {"log": what}),
    )  # fmt: skip
    said = opening.model_dump_json(by_alias=True, exclude_none=True)
    # The operator would hang up on it, and say nothing.
    if len(said.encode()) > LARGEST_OPENING:
        raise ApiError(0, TOO_LARGE, f"the command is longer than {LARGEST_OPENING} bytes")
    spec = {"sandbox": sandbox, "sandboxUid": uid, "keyDigest": hashlib.sha256(key.encode()).hexdigest()}
    await api.create(SESSIONS, _object(name, spec), namespace)
    try:
        return await _opened(api, where, said)
    # Also where whoever waits gives up: nobody else has the secret, and the object would wait for its two minutes.
    except BaseException:
        with suppress(ApiError):
            await api.delete(SESSIONS, name, namespace)
        raise


async def _opened(api: Api, where: str, said: str) -> OperatorSession:
    socket = await _connected(api, where)
    try:
        async with asyncio.timeout(_ANSWERS):
            await socket.send_str(said)
            message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ExecError(0, CONNECTION_FAILED, "the operator ended the connection before it opened the session")
        try:
            answer = Answer.model_validate_json(message.data)
        except ValueError:
            raise ExecError(0, INVALID_RESPONSE, "what answers is no operator's port for sessions") from None
        if answer.refused is not None:
            raise SessionRefused(answer.refused, answer.remedy or "See the operator's log.")
        return OperatorSession(socket, answer)
    except (aiohttp.ClientError, OSError) as error:
        await socket.close()
        raise no_answer(error) from None
    except BaseException:
        await socket.close()
        raise


async def _connected(api: Api, where: str) -> aiohttp.ClientWebSocketResponse:
    connect = api.websocket_beside if is_address(where.removesuffix("/session")) else api.websocket
    for left in reversed(range(_TRIES)):
        try:
            # The newest protocol alone: the other end is of our own making.
            return await connect(where, (CLOSES_INPUT,))
        except ApiError as error:
            if error.status != _UNAVAILABLE or not left:
                raise
        await asyncio.sleep(_PAUSE)
    raise AssertionError("unreachable")


def _object(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": SESSIONS.api_version,
        "kind": SESSIONS.kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }
