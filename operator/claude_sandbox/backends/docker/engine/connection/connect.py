"""From an endpoint to a connected client of the engine's API. Blocking: to be run in a thread."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import docker.constants
import docker.errors
import requests
from requests.adapters import HTTPAdapter

from claude_sandbox.api.docker_hosts.endpoints import Address, bracketed
from claude_sandbox.backends.docker.engine.client import Client, TcpAdapter, UnixAdapter
from claude_sandbox.backends.docker.engine.connection.client_credentials import (
    ClientCredentials,
    SshCredentials,
    TlsCredentials,
)
from claude_sandbox.backends.docker.engine.connection.errors import (
    UNREADABLE,
    ConnectError,
    ConnectErrorReason,
    connect_error_of,
)
from claude_sandbox.backends.docker.engine.connection.ssh import SshAdapter
from claude_sandbox.backends.docker.engine.connection.tls import TlsAdapter, context_of, handshake
from claude_sandbox.compliance.docker_hosts.host import numbers
from claude_sandbox.compliance.evidence.docker_hosts import EngineDocuments

T = TypeVar("T")

OLDEST_API = "1.41"
"""Of Docker 20.10, the oldest engine that sandboxes run on."""
TIMEOUT = 5
"""Seconds that the engine has to connect, and to say the next byte."""
POOL_SIZE = 16
"""Connections that are kept for the requests that follow."""

_USER_AGENT = "claude-sandbox-operator"
# What the way to an engine raises, and what reading an answer does that is not an engine's.
_FAILURES = (docker.errors.DockerException, requests.RequestException, OSError, ValueError, *UNREADABLE)


class Connection:
    """A connection to an engine. `api` is docker's low-level client; of its errors ConnectErrors are made."""

    def __init__(self, api: Client, version: dict[str, Any], adapter: SshAdapter | None = None) -> None:
        self.api = api
        self.version = version
        self._adapter = adapter

    def ping(self) -> None:
        """Whether it answers. Raises ConnectError."""
        self._asked(self.api.ping)

    def documents(self) -> EngineDocuments:
        """What it says of itself now. Raises ConnectError."""
        return self._asked(self._documents)

    def _documents(self) -> EngineDocuments:
        info = self.api.info()
        try:
            bridge = self.api.inspect_network("bridge")
        except docker.errors.NotFound:
            bridge = None
        if not all(isinstance(one, dict) for one in (info, self.version, bridge or {})):
            raise TypeError("an answer that is no document")
        return EngineDocuments(info, self.version, bridge)

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except _FAILURES as error:
            raise _explained(error, self.api.timeout, self._adapter) from None

    def close(self) -> None:
        """End all connections that are not in use; those that are end when they are done."""
        self.api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    address: Address,
    credentials: ClientCredentials | None = None,
    *,
    timeout: int = TIMEOUT,
    pool_size: int = POOL_SIZE,
) -> Connection:
    """Connect, see that it is a Docker Engine, and agree on a version of the API. Raises ConnectError.

    By tcp without credentials there is no TLS: whether that is wanted is for the caller to know.
    """
    adapter: SshAdapter | TlsAdapter | None = None
    match address.scheme, credentials:
        case "tcp", TlsCredentials():
            adapter = TlsAdapter(context_of(credentials), pool_size)
        case "ssh", SshCredentials() | None:
            adapter = SshAdapter(address, credentials, timeout, pool_size)
        case (("tcp" | "unix"), None):
            pass
        case _:
            raise ConnectError(
                ConnectErrorReason.BAD_CREDENTIALS, f"what it is to connect with is not for {address.scheme}://"
            )
    ssh = adapter if isinstance(adapter, SshAdapter) else None
    api = _client(address, adapter, timeout, pool_size, OLDEST_API)
    try:
        version = api.version(api_version=False)
        api._version = _agreed(version)  # type: ignore[attr-defined]  # the only way to tell a client that exists
    except (*_FAILURES, ConnectError) as error:
        found = _explained(error, timeout, ssh)
        api.close()
    else:
        return Connection(api, version, ssh)
    # Out of the handler, lest what is raised next is taken to come from what was raised before.
    if found.passes and isinstance(credentials, TlsCredentials):
        found = _judged(address, credentials, timeout) or found
    raise found


def _judged(address: Address, credentials: TlsCredentials, timeout: int) -> ConnectError | None:
    """Whether the engine refuses the certificate, where a connection merely broke."""
    try:
        handshake(address, credentials, timeout)
    except OSError as error:
        found = connect_error_of(error, timeout)
        return None if found.passes else found
    return None


def _client(
    address: Address, adapter: SshAdapter | TlsAdapter | None, timeout: int, pool_size: int, version: str
) -> Client:
    way: HTTPAdapter
    match address.scheme:
        case "unix":
            url = f"unix://{address.path}"
            way = UnixAdapter(f"http+unix://{address.path}", timeout, max_pool_size=pool_size)
        case "ssh":
            assert adapter is not None  # noqa: S101 - the caller made one
            url, way = "unix:///unused", adapter
        case _:
            url = f"{'https' if adapter else 'http'}://{bracketed(address.host)}:{address.port}"
            way = adapter or TcpAdapter(pool_maxsize=pool_size)
    return Client(url, way, version=version, timeout=timeout, user_agent=_USER_AGENT)


def _agreed(version: dict[str, Any]) -> str:
    """The version of the API to speak: the newest that both know. Raises ConnectError."""
    parts = {part.get("Name") for part in version.get("Components") or () if isinstance(part, dict)}
    newest = numbers(str(version.get("ApiVersion", "")))
    if newest is None or "Podman Engine" in parts:
        raise ConnectError(ConnectErrorReason.UNSUPPORTED, "what answers is no Docker Engine")
    if version.get("Os") != "linux":
        raise ConnectError(ConnectErrorReason.UNSUPPORTED, "the engine does not run Linux containers")
    ours = numbers(docker.constants.DEFAULT_DOCKER_API_VERSION) or ()
    oldest = numbers(str(version.get("MinAPIVersion", OLDEST_API))) or ()
    if newest < (numbers(OLDEST_API) or ()):
        message = f"Docker {version.get('Version', '')} is too old: 20.10 is the oldest that sandboxes run on"
        raise ConnectError(ConnectErrorReason.UNSUPPORTED, message)
    # Not only the newer of two bounds: engines give up old versions of the API too (Docker 29 what is below 1.44).
    return ".".join(map(str, max(min(newest, ours), oldest)))


def _explained(error: BaseException, seconds: float, adapter: SshAdapter | None) -> ConnectError:
    # What came as an answer came through ssh; else ssh may have said why nothing did.
    answered = isinstance(error, docker.errors.APIError | ConnectError)
    told = adapter.error() if adapter is not None and not answered else None
    return told or connect_error_of(error, seconds)
