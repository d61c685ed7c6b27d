"""One client of an engine's API: leads nowhere else, takes no more than it asked for, and can be stopped at any moment.

An engine, or whoever answers in its place, may redirect, answer without end, or send a byte now and then. So no
redirection is followed, no cookie is kept, nothing compressed is asked for or taken, an answer is read up to a bound,
and what is under way can be ended from another thread, which closes its connection.

What it holds: nothing but what the SDK's client does. Each thread has at most one `Call`, set by `calling`; connections
tell it that they are in use. Whatever ends a call ends it at once, in every state but one: an address that is being
looked up or connected to, which ends by its own time-out.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar

import orjson
import requests
from docker import APIClient
from docker.auth import AuthConfig
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

T = TypeVar("T")

LARGEST_ANSWER = 16 << 20
"""Bytes of an answer that is read whole. A list of 2,000 containers is some 6 MiB."""
LARGEST_LINE = 1 << 20
"""Bytes of a line of an answer without end."""
MOST_VALUES = 1 << 20
"""Commas and brackets in an answer: what it takes in memory goes by them, not by its bytes."""
_CHUNK = 1 << 16
_NOT_MODIFIED = 304

_own = threading.local()


class UntrustedAnswerError(requests.RequestException):
    """The engine answered with what no Docker Engine answers with; the message says with what."""


class Call:
    """What one thread is doing with an engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: Callable[[], socket.socket | None] = lambda: None
        self._ended = False
        self.aborted = False

    def uses(self, find: Callable[[], socket.socket | None]) -> None:
        """What it waits for now is that socket. Raises ConnectionAbortedError where it was to end."""
        with self._lock:
            self._socket = find
            if self.aborted:
                raise ConnectionAbortedError

    def end(self) -> None:
        """It is done: its connection may serve another call."""
        with self._lock:
            self._ended = True

    def abort(self) -> None:
        """End it, wherever it is; its thread gets an OSError. From any thread."""
        with self._lock:
            # Under the lock, as `end`: a connection goes back to the pool when its call is done, and may by now be
            # another call's.
            if self._ended or self.aborted:
                return
            self.aborted = True
            if (found := self._socket()) is not None:
                with contextlib.suppress(OSError):
                    # Not as an ssl.SSLSocket does, which would say good-bye while the other thread reads.
                    socket.socket.shutdown(found, socket.SHUT_RDWR)


def calling(call: Call, what: Callable[[], T]) -> T:
    """Do it, in this thread, as that call."""
    _own.call = call
    try:
        return what()
    finally:
        _own.call = None
        call.end()


def uses(find: Callable[[], socket.socket | None]) -> None:
    """This thread's call, if any, waits for that socket from now on. Raises ConnectionAbortedError."""
    call: Call | None = getattr(_own, "call", None)
    if call is not None:
        call.uses(find)


class AbortableConnection(HTTPConnection):
    """A connection that tells the call that uses it."""

    def connect(self) -> None:
        uses(lambda: self.sock)
        super().connect()
        uses(lambda: self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        uses(lambda: self.sock)
        super().request(*args, **kwargs)


class _Unix(AbortableConnection, UnixHTTPConnection):
    pass


class _Tls(AbortableConnection, HTTPSConnection):
    pass


class _UnixPool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        seconds: Any = self.timeout
        return _Unix(self.base_url, self.socket_path, seconds)


class _TcpPool(HTTPConnectionPool):
    ConnectionCls = AbortableConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _Tls


class UnixAdapter(UnixHTTPAdapter):
    """By a socket of this machine."""

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        with self.pools.lock:
            if (pool := self.pools.get("")) is None:
                pool = _UnixPool("", self.socket_path, self.timeout, maxsize=self.max_pool_size)
                self.pools[""] = pool
            return pool


class TcpAdapter(HTTPAdapter):
    """By tcp, with TLS or without."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _TcpPool, "https": _TlsPool}


class Client(APIClient):
    """The SDK's client, for one address and with nothing of the environment: no proxy, no config.json, no netrc."""

    def __init__(self, url: str, adapter: HTTPAdapter, *, version: str, timeout: int, user_agent: str) -> None:
        super().__init__(url, version=version, timeout=timeout, user_agent=user_agent)
        # What the SDK found in the configuration of whoever runs the operator: registries' credentials, headers.
        self._general_configs: dict[str, Any] = {}
        self._auth_configs = AuthConfig({})
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers["Accept-Encoding"] = "identity"
        self.adapters.clear()
        self.mount(str(self.base_url), adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Nowhere, ever."""
        return None

    def send(self, request: Any, **kwargs: Any) -> requests.Response:
        """Send a request. Raises UntrustedAnswerError besides what the SDK raises."""
        streamed = kwargs.get("stream")
        response = super().send(request, **{**kwargs, "stream": True, "allow_redirects": False})
        try:
            _judge(response)
            if not streamed or response.status_code >= 400:
                response._content = _whole(response)
                response._content_consumed = True  # type: ignore[attr-defined]
        except BaseException:
            response.close()
            raise
        return response


def document(content: bytes) -> Any:
    """An answer's JSON; an empty one is an object without fields. Raises UntrustedAnswerError, ValueError."""
    if sum(map(content.count, (b",", b"{", b"["))) > MOST_VALUES:
        raise UntrustedAnswerError(f"the answer has more than {MOST_VALUES} values")
    try:
        return orjson.loads(content) if content else {}
    except orjson.JSONDecodeError:
        # Of bytes that are no UTF-8 the rest is still told, as by every other reader of JSON that an engine has.
        return json.loads(content.decode(errors="replace"))


def lines(response: requests.Response) -> Iterator[bytes]:
    """The lines of an answer without end, as they come. Raises UntrustedAnswerError for one that is too long."""
    line = bytearray()
    # Not `iter_content`: that keeps whatever comes as one chunk, however large, and a chunk's length of any length.
    while part := response.raw.read1(_CHUNK, decode_content=False):
        begun, *others = part.split(b"\n")
        line += begun
        for other in others:
            if line.strip():
                yield bytes(line)
            line = bytearray(other)
        if len(line) > LARGEST_LINE:
            raise UntrustedAnswerError(f"a line of the answer is longer than {LARGEST_LINE >> 20} MiB")
    if line.strip():
        yield bytes(line)


def _judge(response: requests.Response) -> None:
    status = response.status_code
    if 300 <= status < 400 and status != _NOT_MODIFIED:
        raise UntrustedAnswerError(f"it answers with a redirection (HTTP {status}), which is not followed")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UntrustedAnswerError("it answers with something compressed, which nobody asked for")


def _whole(response: requests.Response) -> bytes:
    parts, size = [], 0
    while part := response.raw.read(_CHUNK, decode_content=False):
        size += len(part)
        if size > LARGEST_ANSWER:
            raise UntrustedAnswerError(f"its answer is larger than {LARGEST_ANSWER >> 20} MiB")
        parts.append(part)
    return b"".join(parts)
