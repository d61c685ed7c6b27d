"""Requests to one engine: in a thread, for a bounded time, with one type of error.

Theory of operation. The SDK's client blocks, so each request runs in one of the engine's threads (`threads`). What it
raises becomes an EngineError there, before anything can hold on to the request, whose body may be a key. Two clocks
run: the connection's own time-out, which begins anew with each byte, and the bound of the whole call with LEEWAY, which
does not. When the second ends first the call is ended in its thread, by its connection (`client`).

It holds no connection: `connected` is asked for each request, so that the newest one is used. What a call that is
awaited says of the engine (`failed`, `timely`) is told on the event loop. A crash, or a call that is given up,
leaves a request of which nobody knows whether it was carried out.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import docker
from docker.errors import DockerException
from requests import Response
from requests.exceptions import RequestException, Timeout
from urllib3.exceptions import HTTPError

from claude_sandbox.api.mishap import mishap
from claude_sandbox.backends.docker.engine.client import UntrustedAnswerError, document
from claude_sandbox.backends.docker.engine.connection.errors import UNREADABLE
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError
from claude_sandbox.backends.docker.engine.threads import ThreadPools

T = TypeVar("T")

CALL_TIMEOUT = 30.0
"""Seconds that the engine may take over an ordinary call."""
LEEWAY = 5.0
"""Seconds for a thread to be free, and for the connection's own time-out to come first."""
LONGEST_MESSAGE = 1000
"""Characters of what an engine says went wrong."""
LATE = "the Docker Engine did not answer in time"
_UNCHANGED = 304


class InThread(Protocol):
    """Runs what blocks in a thread, for so many seconds at most; raises TimeoutError, and RuntimeError when closed."""

    def __call__(self, what: Callable[[], T], seconds: float, /) -> Awaitable[T]: ...


class Transport:
    """The way to one engine. `connected` gives the present connection, in a thread, and raises EngineError without one.

    `failed` is told of each call that the engine did not answer, with 0, or answered with a fault of its own (5xx);
    `timely` of each "read" and each "change" whether the engine answered it, whatever it said, or was too late. Calls
    that take as long as what a sandbox has is large are neither: their being late says nothing of the engine.
    """

    def __init__(
        self,
        connected: Callable[[], docker.APIClient],
        pools: ThreadPools,
        timeout: float,
        failed: Callable[[int], None],
        timely: Callable[[str, bool], None],
    ) -> None:
        self.connected = connected
        self.timeout = timeout
        """Seconds that an ordinary call may take."""
        self._pools = pools
        self._failed = failed
        self._timely = timely

    def close(self) -> None:
        """Give the threads back; calls under way end by their time-outs."""
        self._pools.close()

    async def found(self, method: str, path: str) -> Object | None:
        """As `json`; None where there is no such object."""
        try:
            found: Object = await self.json(method, path)
        except EngineError as error:
            if error.is_not_found:
                return None
            raise
        return found

    async def gone(self, method: str, path: str, params: dict[str, str] | None = None) -> None:
        """As `json`, of a removal: what is not there is removed."""
        try:
            await self.json(method, path, params=params, sized=True)
        except EngineError as error:
            if not error.is_not_found:
                raise

    async def json(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Object | None = None,
        within: float | None = None,
        sized: bool = False,
    ) -> Any:
        """The JSON that the engine answers a request with, in a thread, `within` so many seconds. Raises EngineError.

        `sized`: it takes as long as what a sandbox has is large.
        """
        bound = within or self.timeout

        def call() -> Any:
            return document(self.call(method, path, params=params, json=body, timeout=bound).content)

        kind = "" if sized else "read" if method == "GET" else "change"
        return await self.run(call, bound, kind=kind)

    async def run(self, call: Callable[[], T], bound: float, where: InThread | None = None, kind: str = "") -> T:
        """Run what blocks in a thread, and no longer than it may take altogether, however often something comes."""
        try:
            found = await (where or self._pools.call)(lambda: _mapped(call), bound + LEEWAY)
        except RuntimeError:
            # The host was taken out of the operator's care while something was still being done on it.
            raise EngineError(UNREACHABLE, "the connection to the Docker Engine was given up") from None
        except TimeoutError:
            self._failed(UNREACHABLE)
            self._tell(kind, False)
            raise EngineError(UNREACHABLE, LATE) from None
        except EngineError as error:
            if error.is_unreachable or error.status >= 500:
                self._failed(error.status)
            # What refuses at once is not slow, and `failed` has told of it already.
            if not error.is_unreachable or error.message == LATE:
                self._tell(kind, not error.is_unreachable)
            raise
        self._tell(kind, True)
        return found

    def _tell(self, kind: str, answered: bool) -> None:
        if kind:
            self._timely(kind, answered)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        json: Object | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> Response:
        """One request, in this thread; what is answered is read by the caller where it is a `stream`.

        Raises EngineError for an answer that is a refusal, and what the SDK and `Client.send` raise.
        """
        client = self.connected()
        # No redirect is followed: the body, which may be a key, would go where the answer says.
        response = client.request(
            method,
            f"{client.base_url}/v{client.api_version}{path}",
            params=params,
            json=json,
            data=data,
            headers=headers,
            timeout=timeout or self.timeout,
            stream=stream,
            allow_redirects=False,
        )
        # A container that is to be started or stopped may be so already.
        if response.status_code >= 300 and response.status_code != _UNCHANGED:
            raise EngineError(response.status_code, _message(response))
        return response


def _mapped(call: Callable[[], T]) -> T:
    """What was asked for, or an EngineError: never with a request in it, whose body may be a key."""
    try:
        return call()
    except EngineError:
        raise
    except Timeout:
        raise EngineError(UNREACHABLE, LATE) from None
    except UntrustedAnswerError as error:
        raise EngineError(UNREACHABLE, f"what answers is no Docker Engine: {error}") from None
    except UNREADABLE as error:
        raise EngineError(UNREACHABLE, f"the Docker Engine's answer can't be used: {mishap(error)}") from None
    except (DockerException, RequestException, HTTPError, OSError, EOFError, ValueError) as error:
        status = getattr(getattr(error, "response", None), "status_code", UNREACHABLE)
        if status:
            why = str(getattr(error, "explanation", "") or "no reason given")
            raise EngineError(status, why[:LONGEST_MESSAGE]) from None
        raise EngineError(UNREACHABLE, f"the Docker Engine can't be reached ({type(error).__name__})") from None


def _message(response: Response) -> str:
    try:
        body = document(response.content)
    except (ValueError, RecursionError, UntrustedAnswerError):
        return f"the Docker Engine answered HTTP {response.status_code} without a reason"
    message = body.get("message") if isinstance(body, dict) else None
    said = str(message or f"the Docker Engine answered HTTP {response.status_code} without a reason").strip()
    return said[:LONGEST_MESSAGE]
