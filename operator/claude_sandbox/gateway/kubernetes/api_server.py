"""What the gateway asks the API server: documents, and watches of them.

It writes only what `accounts` and `reports` keep there.

Theory of operation: holds one session, made anew when the CA changes. The pod's token and the CA are read for each
request, since the kubelet replaces them in place; a token that was refused may be another one the next time. Answers
and lines of watches are bounded; what is longer ends the request, and whoever asked begins again. Used from the event
loop; a crash leaves nothing.
"""

import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

MAX_DOCUMENT = 64 << 20
"""Bytes of a page of a list; etcd takes objects of 1.5 MiB at most, and a page has few."""
MAX_LINE = 8 << 20
"""Bytes of an event: one object, escaped."""
IDLE = 90.0
"""Seconds without a byte after which a watch is given up; the server sends a bookmark a minute."""
_CONNECT = 5.0
"""Seconds until there is a connection."""
_ANSWER = 15.0
"""Seconds for a whole answer."""

_ACCEPT = "application/json, application/jwk-set+json"

Obj = dict[str, Any]


class ApiServerError(Exception):
    """The API server refused, or gave no good answer. `status`: of HTTP; 0 where there was none."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiServer:
    """Asks as the ServiceAccount whose token, CA and namespace are in `directory`. `server`: its URL; None goes by the
    environment that the kubelet gives a pod."""

    def __init__(self, directory: Path, server: str | None = None) -> None:
        self._directory = directory
        self._server = server or _from_environment()
        self._session: aiohttp.ClientSession | None = None
        self._ca = b""

    def namespace(self) -> str:
        """The pod's own. Raises ApiServerError."""
        found = self._read("namespace").decode("ascii", "replace").strip()
        if not found:
            raise ApiServerError(0, f"{self._directory}/namespace is empty: mount the ServiceAccount's token whole")
        return found

    async def close(self) -> None:
        """End every request."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None, seconds: float = _ANSWER) -> Obj:
        """One document, within so many seconds. Raises ApiServerError."""
        times = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT)
        async with self._request("GET", path, query or {}, times) as answer:
            return await _document(answer)

    async def write(self, method: str, path: str, document: Obj, seconds: float) -> Obj:
        """Have this document written (`POST`, `PUT`); as it is then. Raises ApiServerError: where there was no answer
        (`status` 0), it may have been written all the same."""
        times = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT)
        async with self._request(method, path, {}, times, document) as answer:
            return await _document(answer)

    async def watch(self, path: str, query: Mapping[str, str], seconds: int) -> AsyncGenerator[Obj, None]:
        """Events, until the server ends the watch, after so many seconds at the latest. Raises ApiServerError."""
        asked = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        times = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=IDLE)
        async with self._request("GET", path, asked, times) as answer:
            # The server has taken the watch: from here on what is known is what is, though nothing happens for minutes.
            yield {"type": "OPEN"}
            rest = bytearray()
            async for part in answer.content.iter_any():
                rest += part
                # Split only where a line has ended: a large event comes in many parts, and each split would copy all of
                # them.
                if b"\n" not in part:
                    if len(rest) > MAX_LINE:
                        raise ApiServerError(answer.status, f"an event has more than {MAX_LINE} bytes")
                    continue
                *lines, last = rest.split(b"\n")
                rest = last
                for line in lines:
                    yield _event(_decode(line))

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        times: aiohttp.ClientTimeout,
        document: Obj | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        token = self._read("token").decode("ascii", "replace").strip()
        session = await self._current()
        url = URL(self._server + path, encoded=True).with_query(query)
        try:
            async with session.request(
                method, url, headers={"Authorization": f"Bearer {token}"}, json=document, timeout=times,
                allow_redirects=False,
            ) as answer:  # fmt: skip
                if answer.status not in (200, 201):
                    raise ApiServerError(answer.status, f"{method} {path}: {answer.status} {answer.reason}")
                yield answer
        except TimeoutError:
            raise ApiServerError(0, f"{method} {path}: no answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not its text: it may have the request's headers in it.
            raise ApiServerError(0, f"{method} {path}: {type(error).__name__}") from None

    async def _current(self) -> aiohttp.ClientSession:
        ca = self._read("ca.crt")
        if self._session is None or ca != self._ca:
            try:
                context = ssl.create_default_context(cadata=ca.decode("ascii"))
            except (ssl.SSLError, ValueError):
                raise ApiServerError(0, f"{self._directory}/ca.crt has no certificate that can be read") from None
            # The new one is in place before the old one is closed: who asks meanwhile finds one that can be used.
            before, self._ca = self._session, ca
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "claude-sandbox-gateway", "Accept": _ACCEPT},
                trust_env=False,
            )
            if before is not None:
                await before.close()
        return self._session

    def _read(self, name: str) -> bytes:
        try:
            return (self._directory / name).read_bytes()
        except OSError as error:
            raise ApiServerError(0, f"{self._directory}/{name} can't be read ({type(error).__name__})") from None


def _from_environment() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return "https://kubernetes.default.svc"
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


async def _document(answer: aiohttp.ClientResponse) -> Obj:
    data = bytearray()
    async for part in answer.content.iter_any():
        data += part
        if len(data) > MAX_DOCUMENT:
            raise ApiServerError(answer.status, f"the answer has more than {MAX_DOCUMENT} bytes")
    return _decode(data)


def _decode(data: bytes | bytearray) -> Obj:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ApiServerError(200, "the answer is no JSON") from None
    if not isinstance(found, dict):
        raise ApiServerError(200, "the answer is no JSON object")
    return found


def _event(event: Obj) -> Obj:
    obj = event.get("object")
    if not isinstance(obj, dict) or not isinstance(event.get("type"), str):
        raise ApiServerError(200, "an event without an object")
    if event["type"] == "ERROR":
        code = obj.get("code")
        raise ApiServerError(code if isinstance(code, int) else 500, "the watch ended with an error")
    return event


def version_of(obj: Obj) -> str:
    """The resourceVersion of an object or a list. Raises ApiServerError."""
    metadata = obj.get("metadata")
    found = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(found, str) or not found:
        raise ApiServerError(200, "an object without a resourceVersion")
    return found
