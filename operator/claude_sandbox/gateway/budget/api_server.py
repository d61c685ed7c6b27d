"""Requests to the cluster's API server as this pod's own ServiceAccount.

Holds one pool of connections for each CA bundle that it was given, which is one, or two while it is replaced. Token
and bundle are read from their files for each request: the kubelet renews them, and they are small.
"""

import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

SECONDS = 3.0
"""Seconds that a request may take."""
MAX_ANSWER = 4 << 20
"""Bytes of an answer that are read: an object is at most 1.5 MiB by etcd's own limit, in JSON a little more."""


class APIServerError(Exception):
    """The API server did not answer, or not as one. What was asked for may have been done all the same."""


class APIServer:
    """Sends requests as the ServiceAccount whose token, CA and namespace are in `directory`.

    `server`: its URL; None goes by the environment that the kubelet gives a pod.
    """

    def __init__(self, directory: Path, server: str | None = None, environ: Mapping[str, str] = os.environ) -> None:
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
        here = f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else "https://kubernetes.default.svc"
        self._url = server or here
        self._directory = directory
        self._sessions: dict[bytes, aiohttp.ClientSession] = {}

    def namespace(self) -> str:
        """The pod's own. Raises APIServerError."""
        try:
            return (self._directory / "namespace").read_text().strip()
        except (OSError, ValueError):
            raise APIServerError(
                f"{self._directory}/namespace can't be read: mount the ServiceAccount's token whole"
            ) from None

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """The status, and the object that was answered with. Raises APIServerError."""
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        try:
            token = (self._directory / "token").read_text().strip()
            session = self._session()
            async with session.request(
                method, self._url + path, data=data, allow_redirects=False,
                headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=SECONDS),
            ) as answer:  # fmt: skip
                content = await answer.content.read(MAX_ANSWER + 1)
                while len(content) <= MAX_ANSWER and (part := await answer.content.read(MAX_ANSWER)):
                    content += part
        except TimeoutError:
            raise APIServerError(f"the API server does not answer within {SECONDS:g} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            # Its text can have headers in it, and so the token.
            raise APIServerError(f"the API server can't be asked ({type(error).__name__})") from None
        except OSError as error:
            raise APIServerError(f"the API server can't be asked: {error.strerror or 'no way to it'}") from None
        return answer.status, _object(content)

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def _session(self) -> aiohttp.ClientSession:
        bundle = (self._directory / "ca.crt").read_bytes() if self._url.startswith("https:") else b""
        if bundle not in self._sessions:
            context = ssl.create_default_context(cadata=bundle.decode("ascii")) if bundle else True
            self._sessions[bundle] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._sessions[bundle]


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content) if len(content) <= MAX_ANSWER else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise APIServerError("the API server's answer is no object")
    return found
