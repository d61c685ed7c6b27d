"""The whole gateway: its listeners, what they share, and how it begins and ends.

Theory of operation. Each part holds its own state, and asks for what holds at this moment (`live`) when it needs it; a
change is told to all parts, one after the other, by the one task that follows the configuration. Three listeners: for
requests to the model and to git (`broker`), for all else (`proxy`), and for who asks how it is (`health`). The tasks
that follow, look out for the provider, write reports and see that the audit is written never end by themselves: where
one does, the gateway ends with its error, since it would go on by rules that are no longer those, or unseen.

It begins with the accounts, before anything can be reserved in them. It ends in the order in which one part leaves
something for another: no new connections, what is under way, the proxy, the other listeners, the accounts, the way to
the cluster, the audit. After a crash the accounts alone are there; what was under way counts in full
(`budget/ledger.py`). All of it is on one event loop.
"""

import asyncio
import json
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from claude_sandbox.gateway.audit import Audit, Value
from claude_sandbox.gateway.broker.broker import Broker
from claude_sandbox.gateway.broker.upstream import Upstreams
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.store import FileStore, MemoryStore, Store, StoreError
from claude_sandbox.gateway.config.config import Limits, Listener
from claude_sandbox.gateway.config.follow import Follower, Follows, Live
from claude_sandbox.gateway.config.standard_input import InputFollower
from claude_sandbox.gateway.git.credentials.tokens import AppTokens
from claude_sandbox.gateway.git.forwarder import GitForwarder, Judging
from claude_sandbox.gateway.git.lfs.transfers import LargeFiles
from claude_sandbox.gateway.git.repositories import BELOW
from claude_sandbox.gateway.git.service import GitService
from claude_sandbox.gateway.git.spool import room_of
from claude_sandbox.gateway.git.upstream import GitSession
from claude_sandbox.gateway.kubernetes.accounts import UsageStore
from claude_sandbox.gateway.kubernetes.api_server import ApiServer
from claude_sandbox.gateway.kubernetes.reports import ReportStore
from claude_sandbox.gateway.listening import listening_on
from claude_sandbox.gateway.proxy.dial import BUFFER, SystemResolver
from claude_sandbox.gateway.proxy.proxy import Proxy
from claude_sandbox.gateway.shares import Slots
from claude_sandbox.gateway.telemetry.denials import Denials
from claude_sandbox.gateway.telemetry.metrics import Metrics
from claude_sandbox.gateway.telemetry.pages import Pages
from claude_sandbox.gateway.telemetry.report import Facts, report
from claude_sandbox.gateway.telemetry.reporting import Reporting

_MAX_HEADER = 16 * 1024
"""Bytes of a request's first line, and of each header."""
_BACKLOG = 512
"""Connections that the kernel keeps until they are accepted."""
_WAITS = 10.0
"""Seconds without an answer after which it is found out whether the provider is there."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _BoundedServer(web.Server):
    """Takes so many connections at most, of all and of one address, each of which has its share: whoever opens more
    than it can use has them closed, and nobody else suffers by it."""

    def __init__(self, handler: Handler, limits: Limits, clients: int, **options: Any) -> None:
        super().__init__(handler, **options)
        self.slots = Slots(1, 1)
        self.limit(limits, clients)
        self._taken: dict[int, str] = {}

    def limit(self, limits: Limits, clients: int) -> None:
        """Have these limits from now on: for each request that may be under way, one connection more that waits."""
        self.slots.limit(2 * limits.requests, 2 * limits.requests_each, clients)

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """A client has connected."""
        super().connection_made(handler, transport)
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        # Before a byte was read: connections that say nothing count too.
        if self.slots.take(peer):
            self._taken[id(handler)] = peer
        else:
            transport.abort()

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        """A client has gone."""
        peer = self._taken.pop(id(handler), None)
        if peer is not None:
            self.slots.give(peer)
        super().connection_lost(handler, exc)


class Gateway:
    """Starts with a configuration, runs until told, then lets what is under way come to its end.

    What is listened on, and where accounts are, is as it was at the start; all else follows the configuration.
    """

    def __init__(self, follower: Follows) -> None:
        self._follower = follower
        cluster = follower.live.config.cluster
        self._api = ApiServer(cluster.service_account, cluster.server) if cluster is not None else None
        self._accounts = self._store()
        self._books = Bookkeeper(self._accounts, told=self._due)
        self._metrics = Metrics(lambda: follower.live.prices, self._books)
        self._denials = Denials()
        self._audit = Audit(observe=self._observe)
        self._upstreams = Upstreams()
        self._resolver = SystemResolver()
        self._broker = Broker(lambda: follower.live, self._audit, self._books, self._upstreams)
        self._proxy = Proxy(lambda: follower.live, self._audit, self._resolver)
        self._servers_of_git = GitSession(lambda: follower.live.config, self._resolver)
        git = (self._servers_of_git, lambda: follower.live.config)
        self._git = GitService(
            lambda: follower.live,
            self._audit,
            GitForwarder(self._servers_of_git, self._judging()),
            LargeFiles(*git),
            AppTokens(*git),
        )
        self._metrics.opened("broker", lambda: self._broker.open)
        self._metrics.opened("git", lambda: self._git.open)
        self._metrics.opened("proxy", lambda: self._proxy.open)
        self._pages = Pages(
            lambda: follower.live, self._books, self._broker.recent, self._denials, self._metrics, self._readiness,
            self._report,
        )  # fmt: skip
        self._reporting = (
            Reporting(ReportStore(self._api, socket.gethostname(), self._name_of), self._report)
            if self._api is not None
            else None
        )
        self._runners: list[web.ServerRunner] = []
        self._servers: list[asyncio.Server] = []
        self._bounded: _BoundedServer | None = None
        self._draining = False

    def _judging(self) -> Judging:
        """What the reading of pushes may take: memory, or the directory that is named."""
        config = self._follower.live.config
        limits = config.limits
        return Judging(room_of(config.spool, limits.push_bytes, limits.spool_bytes), at_once=limits.pushes)

    def _store(self) -> Store:
        """Where accounts are: the directory that is named, else the cluster that the gateway is in, else nowhere."""
        directory = self._follower.live.config.ledger
        if directory is not None:
            return FileStore(directory)
        if self._api is not None:
            return UsageStore(self._api, self._name_of)
        return MemoryStore()

    def _name_of(self, uid: str) -> str | None:
        found = self._follower.live.sandboxes.get(uid)
        return found.name if found is not None else None

    async def run(self, told: asyncio.Event) -> None:
        """Serve until told to end. Raises OSError where it can't listen, and AuditError."""
        config = self._follower.live.config
        # Before anything is listened on: until then nothing is under way, so what is noted as such was left by a
        # gateway that was killed.
        if isinstance(self._accounts, FileStore):
            await _begun(self._accounts)
        broker = self._bounded = _BoundedServer(
            self._handle, config.limits, len(self._follower.live.sandboxes),
            handler_cancellation=True, access_log=None, auto_decompress=False,
            max_line_size=_MAX_HEADER, max_field_size=_MAX_HEADER, keepalive_timeout=75.0,
            read_bufsize=64 * 1024,
        )  # fmt: skip
        health = web.Server(self._pages.handle, access_log=None)
        where = {
            "broker": await self._listen(broker, config.broker),
            "proxy": await self._listen_proxy(config.proxy),
            "health": await self._listen(health, config.health),
        }
        print(f"gateway: listening {json.dumps(where)}", file=sys.stderr, flush=True)
        following = asyncio.create_task(self._follower.follow(self._changed))
        waiting = asyncio.create_task(told.wait())
        telling = [
            asyncio.create_task(one) for one in (self._broker.reachability.run(), self._tell(), self._audit.broken())
        ]
        try:
            endless = [following, *telling]
            await asyncio.wait([waiting, *endless], return_when=asyncio.FIRST_COMPLETED)
            for one in endless:
                if one.done():
                    # They never end by themselves: better no gateway than one that a change of its rules does not
                    # reach, or of which nobody hears, or that leaves no trace of what it lets through.
                    one.result()
            await self._drain()
        finally:
            waiting.cancel()
            for one in (following, *telling):
                one.cancel()
            await asyncio.gather(following, waiting, *telling, return_exceptions=True)
            await self._servers_of_git.close()
            await self._end()

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """What comes to the broker's address: for the model, or for a repository."""
        if incoming.raw_path.startswith(BELOW):
            return await self._git.handle(incoming)
        return await self._broker.handle(incoming)

    async def _changed(self, live: Live) -> None:
        assert self._bounded is not None  # noqa: S101
        self._bounded.limit(live.config.limits, len(live.sandboxes))
        self._broker.changed()
        self._proxy.changed()
        self._git.changed()
        self._books.keep(live.sandboxes)
        self._denials.keep(live.sandboxes)
        if self._reporting is not None:
            held = live.credentials
            self._reporting.keep(
                {
                    uid: (one, held.get(uid), live.unopened(uid), live.lacking.get(uid))
                    for uid, one in live.sandboxes.items()
                }
            )

    def _observe(self, kind: str, fields: Mapping[str, Value]) -> None:
        self._metrics.observe(kind, fields)
        self._denials.observe(kind, fields)
        self._due(fields.get("sandbox"))

    def _due(self, sandbox: Value) -> None:
        if self._reporting is not None and isinstance(sandbox, str):
            self._reporting.due(sandbox)

    def _report(self, sandbox: str) -> str:
        """What is told the operator of one sandbox."""
        live, broker = self._follower.live, self._broker
        found = live.sandboxes.get(sandbox)
        if found is None:
            return ""
        credential = live.credentials.get(sandbox)
        facts = Facts(
            found.budget,
            broker.recent.of(sandbox),
            self._denials.of(sandbox),
            self._books.seen(sandbox),
            broker.reachability.silence(sandbox),
            credential.generation if credential is not None else None,
            live.unopened(sandbox),
            self._git.fetching(sandbox) if live.cloning is None or sandbox in live.cloning else {},
            live.lacking.get(sandbox),
        )
        return report(facts, time.time())

    async def _tell(self) -> None:
        """Look out for a provider that does not answer, and write reports, until cancelled."""
        if self._reporting is not None:
            await self._reporting.run(self._look)
        while True:
            self._look()
            await asyncio.sleep(1.0)

    def _look(self) -> None:
        self._broker.waiting(_WAITS)
        for sandbox in self._broker.reachability.noticed:
            self._due(sandbox)
        for sandbox in self._follower.live.cloning or ():
            self._due(sandbox)

    async def _drain(self) -> None:
        """Take nothing new, and wait for what is under way, as long as is configured."""
        self._draining = self._broker.draining = True
        for server in self._servers:
            server.close()
        # The broker's alone (it listens first): the third listener goes on telling that the gateway drains.
        for site in self._runners[0].sites:
            await site.stop()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._follower.live.config.limits.drain
        while self._under_way() and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def _under_way(self) -> int:
        """Requests and connections."""
        return self._broker.open + self._proxy.open + self._git.open

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        await self._proxy.close()
        for runner in self._runners:
            await runner.cleanup()
        await self._upstreams.close()
        # After all that could still be settled, and before the way to the cluster is closed, by which it is written
        # there.
        await self._books.flush()
        if self._api is not None:
            await self._api.close()
        # Last: whatever ended above has left a line.
        await self._audit.close()

    async def _listen(self, server: web.Server, listener: Listener) -> str:
        # Who is under way was waited for; who is still there then is ended at once.
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        for host in listening_on(listener.host):
            site = web.TCPSite(
                runner, host, listener.port, ssl_context=_context(listener), backlog=_BACKLOG, reuse_address=True
            )
            await site.start()
        host, port = runner.addresses[0][:2]
        return f"{host}:{port}"

    async def _listen_proxy(self, listener: Listener) -> str:
        server = await asyncio.start_server(
            self._proxy.accepted, listening_on(listener.host), listener.port, limit=BUFFER, backlog=_BACKLOG,
            reuse_address=True, ssl=_context(listener),
        )  # fmt: skip
        self._servers.append(server)
        host, port = server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def _readiness(self) -> tuple[bool, dict[str, object]]:
        """Whether it takes requests, and what it follows is what is written."""
        live = self._follower.live
        brokered = {uid for uid, one in live.sandboxes.items() if one.credential is not None}
        return self._follower.ready and not self._draining, {
            "draining": self._draining,
            **self._follower.report(),
            "accounts": self._books.away or "kept",
            "sandboxesWithoutCredential": sorted(brokered - set(live.credentials)),
            "requests": self._broker.open,
            "connections": self._proxy.open,
        }


async def _begun(accounts: FileStore) -> None:
    """Have a directory's accounts in order before anything is counted. What can't be written is told, and refused to
    those that a budget counts for."""
    try:
        changed = await accounts.begin()
    except StoreError as error:
        print(f"gateway: {error}", file=sys.stderr, flush=True)
        return
    if changed:
        message = "what a gateway that was ended left under way counts in full now"
        print(f"gateway: in {changed} accounts {message}", file=sys.stderr, flush=True)


def _context(listener: Listener) -> ssl.SSLContext | None:
    if listener.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(listener.certificate, listener.key)
    return context


def follower(path: Path) -> Follower:
    """What follows the file, after a first look. Raises ConfigError."""
    found = Follower(path)
    found.start()
    return found


def by_input() -> InputFollower:
    """What follows standard input, after its first message. Raises ConfigError."""
    found = InputFollower()
    found.start()
    return found


def with_cluster(files: Follower) -> Follows:
    """What follows the cluster as well, where the configuration says so. Raises ConfigError."""
    cluster = files.live.config.cluster
    if cluster is None:
        return files
    # 9 MB of libraries that verify tokens, which only a gateway in a cluster needs.
    from claude_sandbox.gateway.kubernetes.follow import ClusterFollower

    return ClusterFollower(files, cluster)
