"""Servers elsewhere that backups are kept at: by which address a helper may reach one.

Who makes ClaudeSandboxBackups chooses the server, and must not gain a way to where they have none: into the cluster's
or a host's own network, or to what hands out credentials. So the operator resolves the name, judges every answer by the
gateway's rules, and gives the helper one address, which is all that its network lets it reach.

Names are looked up in threads of their own: whoever has a name has its server answer never, and what the operator does
in the event loop's threads (keys, metrics, its own tokens) is everybody's. `Servers` counts, of each namespace, what is
being looked up; a crash forgets it.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.api.kinds.targets import BackupTarget
from claude_sandbox.backends.backups import NotNowError
from claude_sandbox.gateway.destinations.addresses import AddressRules, Network, parse_address, refusal_of_any

_HTTPS = 443
_PATIENCE = 10.0
"""Seconds for a name to be resolved."""

_SHARE = 4
"""Names that are looked up at a time for one namespace."""
_threads = ThreadPoolExecutor(32, "backup-server")

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a name; none where it has none."""


async def resolved(name: str) -> Sequence[str]:
    """By the operator's own resolver."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, UnicodeError, TimeoutError):
        # The thread that looks up goes on until the resolver gives up; only the wait for it ends here.
        async with asyncio.timeout(_PATIENCE):
            ask = partial(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM)
            found = await loop.run_in_executor(_threads, ask)
        return tuple(dict.fromkeys(str(one[4][0]) for one in found))
    return ()


class Servers:
    """`opened`: networks that the administrator opened for backups."""

    def __init__(self, opened: Sequence[Network] = (), resolve: Resolve = resolved) -> None:
        self._rules = AddressRules(opened)
        self._resolve = resolve
        self._looking: Counter[str] = Counter()

    async def of(self, target: BackupTarget, namespace: str) -> dict[str, Any] | None:
        """What a helper is told of the target's server; None of one that is not elsewhere. Raises NotNowError."""
        told = told_of(target)
        return None if told is None else told | {"address": await self._address(told["host"], namespace)}

    async def _address(self, host: str, namespace: str) -> str:
        found = [host] if _is_address(host) else await self._found(host, namespace)
        addresses = [parse_address(one) for one in found]
        why = refusal_of_any(addresses, self._rules)
        # One answer that is refused refuses the name: who has the name chooses which of its answers is taken.
        if not addresses or why is not None:
            # The same of both: which names there are inside is nobody's business here.
            raise NotNowError(
                BackupReason.TARGET_NOT_ALLOWED,
                f"{host} has no address that backups may be sent to. It has to be public, or its network has to be"
                " opened by the operator's administrator with --backup-network.",
            )
        # One is enough, and all were judged. Networks of sandboxes speak IPv4 everywhere, IPv6 only in some clusters.
        by_ipv4 = [one for one in addresses if one.version == 4]
        return str((by_ipv4 or addresses)[0])

    async def _found(self, host: str, namespace: str) -> Sequence[str]:
        if self._looking[namespace] >= _SHARE:
            raise NotNowError(
                BackupReason.HELPER_NOT_STARTED, "The servers of other backups of the namespace are being looked up."
            )
        self._looking[namespace] += 1
        try:
            # A name in full: what the operator's resolver would add leads into the cluster.
            return await self._resolve(f"{host}.")
        finally:
            self._looking[namespace] -= 1
            # Nothing is held of a namespace for which nothing is looked up.
            self._looking += Counter()


PUBLIC_SERVERS = Servers()
"""Where no network was opened."""


def told_of(target: BackupTarget) -> dict[str, Any] | None:
    """What a helper is told, but for the address. Pure."""
    if target.s3 is not None:
        found = urlsplit(target.s3.endpoint)
        path = "/".join(part for part in (target.s3.bucket, target.s3.prefix) if part)
        return {
            "kind": "S3", "host": str(found.hostname), "port": found.port or _HTTPS, "path": path,
            "region": target.s3.region,
        }  # fmt: skip
    if target.sftp is not None:
        at = target.sftp
        return {"kind": "SFTP", "host": at.host, "port": at.port, "path": at.path, "user": at.user}
    return None


def location_of(told: dict[str, Any]) -> str:
    """In words."""
    if told["kind"] == "S3":
        return f"s3:https://{told['host']}:{told['port']}/{told['path']}"
    return f"sftp://{told['user']}@{told['host']}:{told['port']}/{told['path']}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
