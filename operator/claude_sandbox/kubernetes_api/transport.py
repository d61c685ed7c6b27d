"""Requests to one API server: connections, credentials, time-outs, retries, and errors without secrets.

Theory of operation. It holds one session, which is made with the first request and never again after `close()`, and as
many slots as requests may be under way. A stream (`open`) takes no slot, since it lasts minutes.

- No write is begun without permission. It is asked for twice: for how long the request may take, and once more just
  before it is sent, since waiting for a slot or a credential takes time.
- What failed for a moment is tried again, until RETRY_BUDGET seconds after the call began. What may have been carried
  out already is sent again only where that does no harm (`repeatable`).
- A 401 renews the credentials once. Where they are still refused, that is the answer.
- An error keeps text only, never a request: aiohttp's own hold headers, and so the token.

Used from one event loop, by any number of tasks. A crash, or a call that is cancelled, leaves a write of which nobody
knows whether it was carried out: who looks next finds the object, and preconditions guard what is written then.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import orjson
import tenacity
from yarl import URL

from claude_sandbox.kubernetes_api.credentials import Credentials
from claude_sandbox.kubernetes_api.errors import (
    CLOSED,
    CONNECTION_FAILED,
    INVALID_RESPONSE,
    TIMED_OUT,
    TOO_LARGE,
    UNTRUSTED_SERVER,
    ApiError,
    from_status,
)

JSON = "application/json"

RequestObserver = Callable[[str, str, float], None]
"""Called once for each HTTP request with its method, its status code ("<error>" without an answer) and seconds."""

WritePermit = Callable[[], float]
"""Asked before each write: raises to refuse it, or returns for how many seconds at most the request may take."""

RETRY_BUDGET = 10.0
"""Seconds after the start of a call from which on nothing is tried again."""


class Request(NamedTuple):
    """One request. `sensitive`: the object's content must not come back in an error's message."""

    method: str
    path: str
    body: bytes | None = None
    accept: str = JSON
    content_type: str = JSON
    sensitive: bool = False
    at_most: int | None = None
    """Bytes that an answer may have; of more nothing is decoded, and the error's reason is TooLarge."""
    repeatable: bool = True
    """Whether it may be sent again although it may have been carried out."""


class Transport:
    """One aiohttp session to one API server."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        pool_size: int,
        timeout: float,
        attempts: int,
        observer: RequestObserver | None,
        write_permit: WritePermit | None,
        user_agent: str,
    ) -> None:
        self.credentials = credentials
        # Without user and password, should the URL have some: it is said in messages and in labels of metrics.
        self.host = urlsplit(credentials.server).netloc.rpartition("@")[2]
        self.timeout = timeout
        self._attempts = attempts
        self._observer = observer
        self._write_permit = write_permit
        self._user_agent = user_agent
        self._slots = asyncio.Semaphore(pool_size)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def close(self) -> None:
        """Close all connections; streams end with an error, and so does every later request."""
        # First: a request that waits for a credential at this moment would open a new session.
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, request: Request) -> dict[str, Any]:
        """The decoded answer. Retries what is transient, as long as the budget lasts. Raises `ApiError`."""
        started = time.monotonic()
        try:
            return await self._once(request)
        except ApiError as error:
            # The first try stays free of tenacity, which costs 20 µs a call.
            if self._attempts < 2 or not _may_retry(error, request):
                raise
            first = error
        delay = _pause(1, first)
        budget = RETRY_BUDGET - (time.monotonic() - started) - delay
        # The server may ask for a longer pause (Retry-After) than there is time.
        if budget < 0:
            raise first
        await asyncio.sleep(delay)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, ApiError) and _may_retry(e, request)),
            # One less: the first try is over.
            stop=tenacity.stop_any(tenacity.stop_after_attempt(self._attempts - 1), tenacity.stop_before_delay(budget)),
            wait=_wait,
            reraise=True,
        )
        return await retrying(self._once, request)

    async def open(self, request: Request, timeouts: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """The answer, its body still unread. Renews the credentials where needed. Raises what aiohttp raises."""
        authorization = self.credentials.authorization
        # Asked here without the lock, since it is true of nearly every request; `renew` asks once more, with it.
        if not authorization.fresh():
            await authorization.renew()
        # Kept: of many that are refused at a time the first gets a new one, the others see that it is another by now.
        value = authorization.value
        response = await self._send(request, timeouts)
        if response.status == 401 and await authorization.refused(value):
            # Closed, not released: the connection may be bound to a client certificate that has expired.
            response.close()
            response = await self._send(request, timeouts)
        return response

    async def websocket(self, path: str, protocols: Sequence[str]) -> aiohttp.ClientWebSocketResponse:
        """A connection by WebSocket, which speaks the first of the protocols that the server knows. Not retried.

        Raises `ApiError`, and what aiohttp raises for a server that is not reached.
        """
        authorization = self.credentials.authorization
        if not authorization.fresh():
            await authorization.renew()
        value = authorization.value
        try:
            return await self._connect(path, protocols)
        except aiohttp.WSServerHandshakeError as error:
            status = error.status
        if status == 401 and await authorization.refused(value):
            try:
                return await self._connect(path, protocols)
            except aiohttp.WSServerHandshakeError as error:
                status = error.status
        # A handshake that fails keeps nothing of the answer. Without an upgrade nothing is run, and the reason is told.
        async with await self.open(Request("GET", path), aiohttp.ClientTimeout(total=self.timeout)) as response:
            told = refusal(response, await _read(response, None), sensitive=False)
        raise told if told.status == status else ApiError(status, f"HTTP{status}", "the connection was not upgraded")

    async def websocket_beside(self, url: str, protocols: Sequence[str]) -> aiohttp.ClientWebSocketResponse:
        """A connection by WebSocket to another server, whose certificate is of the API server's authority.

        The user's token is not sent to it. A client certificate is shown where the server asks for one: it proves who
        connects for this connection alone, and nobody can use it for another. Raises as `websocket`.
        """
        if self.credentials.ssl_context is None:
            raise ApiError(0, UNTRUSTED_SERVER, "no authority is known that could vouch for it")
        try:
            async with asyncio.timeout(self.timeout):
                return await self._open_session().ws_connect(URL(url), protocols=protocols, autoclose=False)
        except aiohttp.WSServerHandshakeError as error:
            status = error.status
        raise ApiError(status, f"HTTP{status}", "the connection was not upgraded")

    async def _connect(self, path: str, protocols: Sequence[str]) -> aiohttp.ClientWebSocketResponse:
        value = self.credentials.authorization.value
        async with asyncio.timeout(self.timeout):
            return await self._open_session().ws_connect(
                URL(self.credentials.server + path, encoded=True),
                protocols=protocols,
                headers={} if value is None else {"Authorization": value},
                proxy=self.credentials.proxy,
                server_hostname=self.credentials.server_name,
                autoclose=False,
            )

    async def _once(self, request: Request) -> dict[str, Any]:
        try:
            async with self._slots:
                seconds = self.timeout
                if self._write_permit is not None and request.method != "GET":
                    seconds = min(seconds, self._write_permit())
                async with await self.open(request, aiohttp.ClientTimeout(total=seconds)) as response:
                    data = await _read(response, request.at_most)
        except (aiohttp.ClientError, OSError) as error:
            raise no_answer(error) from None
        if response.status >= 300:
            raise refusal(response, data, sensitive=request.sensitive)
        try:
            decoded = orjson.loads(data)
        except ValueError:
            decoded = None
        if not isinstance(decoded, dict):
            raise ApiError(response.status, INVALID_RESPONSE, "the answer is not a JSON object")
        return decoded

    async def _send(self, request: Request, timeouts: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        headers = {"Accept": request.accept}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if (value := self.credentials.authorization.value) is not None:
            headers["Authorization"] = value
        if self._write_permit is not None and request.method != "GET":
            self._write_permit()  # as late as can be: time may have passed in waiting for a slot or a credential
        started = time.perf_counter()
        code = "<error>"
        try:
            response = await self._open_session().request(
                request.method,
                URL(self.credentials.server + request.path, encoded=True),
                data=request.body,
                headers=headers,
                timeout=timeouts,
                # No API server sends one; whoever did would be given the request, a Secret's data included.
                allow_redirects=False,
                proxy=self.credentials.proxy,
                server_hostname=self.credentials.server_name,
            )
            code = str(response.status)
            return response
        finally:
            if self._observer is not None:
                self._observer(request.method, code, time.perf_counter() - started)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ApiError(0, CLOSED, "the connections to the API server were closed here")
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self.credentials.ssl_context or True,
                limit=0,  # watches hold their connections for minutes; all else is bounded by the slots
                keepalive_timeout=60,
                socket_factory=_socket,
            )
            # The session is made late, since it belongs to the event loop that runs then.
            # No compression: the server's CPU is worth more than the bandwidth to it.
            headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity"}
            self._session = aiohttp.ClientSession(connector=connector, headers=headers, read_bufsize=2**18)
        return self._session


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices within half a minute that the other end's machine or the network is gone."""
    family, kind, protocol, _, _ = address
    result = socket.socket(family=family, type=kind, proto=protocol)
    options = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
    for option, value in options.items():
        if hasattr(socket, option):
            result.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return result


async def _read(response: aiohttp.ClientResponse, at_most: int | None) -> bytes:
    if at_most is None or response.status >= 300:
        return await response.read()
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > at_most:
            response.close()
            raise ApiError(response.status, TOO_LARGE, f"the answer has more than {at_most} bytes")
        parts.append(part)
    return b"".join(parts)


def _may_retry(error: ApiError, request: Request) -> bool:
    # A second POST under a generated name would make a second object; all else that is repeated finds its own work.
    return error.is_transient and (request.repeatable or not error.is_ambiguous)


def _pause(attempt: int, error: ApiError) -> float:
    """Seconds before the try after `attempt`: 0.2, 0.4, 0.8 on average, and at least what the server asked for."""
    backoff: float = 0.2 * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 (no secret)
    # Spread all the same: many may have been told the same number of seconds.
    return backoff if error.retry_after is None else error.retry_after + backoff / 2


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, ApiError)  # noqa: S101 (nothing else is retried)
    # tenacity has not seen the first try.
    return _pause(state.attempt_number + 1, error)


def refusal(response: aiohttp.ClientResponse, data: bytes, *, sensitive: bool) -> ApiError:
    """The error of an answer that is no success."""
    try:
        body = orjson.loads(data)
    except ValueError:
        body = None
    return from_status(response.status, body, response.headers.get("Retry-After"), sensitive=sensitive)


def no_answer(error: Exception) -> ApiError:
    """The error of a request without an answer. Keeps only the text: aiohttp's errors hold the request's headers."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ApiError(0, UNTRUSTED_SERVER, f"the API server's certificate is not accepted: {error}")
    if isinstance(error, TimeoutError):
        return ApiError(0, TIMED_OUT, "no answer from the API server in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        # Its own text has the types of this program in it. The cause is a list where a name has several addresses.
        cause = error.os_error
        number = cause.errno or 0
        why = os.strerror(number) if number > 0 else cause.strerror or str(cause)
        return ApiError(0, CONNECTION_FAILED, f"no connection to {error.host}:{error.port}: {why}")
    return ApiError(0, CONNECTION_FAILED, f"{type(error).__name__}: {error}")
