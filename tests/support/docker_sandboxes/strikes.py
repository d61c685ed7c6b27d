"""The operator ends at each kind of write once, to its engines or to the API server, before it is heard or after.

What is a kind: the call, whose object it is about by its component, and of a status what of it is written. So a work
that takes many writes is struck at each of them in one go, and comes to its end all the same, since each kind strikes
once.
"""

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import docker
from aiohttp import web
from docker.errors import APIError
from docker_fleet import Operator
from engine_relay import Call, CutError, Relay, Rule
from gate import Call as ApiCall
from gate import Gate

from claude_sandbox.backends.docker.names import LABEL_COMPONENT
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

PATIENCE = 240.0
"""Seconds from one life of the operator's to the next."""
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")


class Strikes:
    """`heard`: the write is carried out. `of`: which parts of a status are told apart."""

    def __init__(self, *, heard: bool, of: str) -> None:
        self.heard, self._of = heard, of
        self.operator: Operator | None = None
        self.struck: list[str] = []
        """What it was struck at, in order."""
        self._armed = False
        self._lock = threading.Lock()
        self._seen: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether it struck, since it was armed."""
        return not self._armed

    def arm(self) -> None:
        """Strike at the next kind that was not struck yet."""
        self._armed = True

    def disarm(self) -> bool:
        """Whether it had struck before, so that the operator is about to end."""
        with self._lock:
            armed, self._armed = self._armed, False
            return not armed

    def due(self, kind: str) -> bool:
        """Whether the operator ends at this one, which it then does at once or when the write is carried out."""
        with self._lock:
            if not self._armed or kind in self._seen:
                return False
            self._armed = False
            self._seen.add(kind)
            self.struck.append(kind)
            return True

    def end(self) -> None:
        """As a crash does."""
        assert self.operator is not None
        self.operator.kill()

    def kind_of(self, call: ApiCall) -> str:
        """A write to the API server."""
        status = (call.body or {}).get("status") if isinstance(call.body, dict) else None
        told = ""
        if isinstance(status, dict):
            part = status.get(self._of)
            told = json.dumps(_shape(part)) if self._of in status else "other"
        return f"{call} {told}"


class EngineStrikes(Rule):
    """Those at an engine."""

    def __init__(self, strikes: Strikes, host: EngineDescription) -> None:
        self._strikes, self._host = strikes, host
        self._due = threading.local()
        self._sdk = docker.APIClient(base_url=host.socket, timeout=60, version="auto")

    def before(self, call: Call) -> None:
        self._due.now = self._strikes.due(self._kind(call))
        if self._due.now and not self._strikes.heard:
            self._strikes.end()
            raise CutError

    def after(self, call: Call) -> None:
        if self._due.now:
            self._strikes.end()
            raise CutError

    def _kind(self, call: Call) -> str:
        found = _IDENTIFIER.search(call.path)
        # Each sandbox has one object of each name's end.
        name = re.search(r"csb-[-a-z0-9]*?-([a-z]+)(?=[&/\"]|$)", f"{call.path}?{call.query}")
        about = self._component(found[0]) if found else name[1] if name else ""
        return f"{call.kind} {about}"

    def _component(self, identifier: str) -> str:
        for inspect in (self._sdk.inspect_container, self._sdk.inspect_network):
            with contextlib.suppress(APIError):
                found = inspect(identifier)
                return str(((found.get("Config") or found).get("Labels") or {}).get(LABEL_COMPONENT, ""))
        return ""

    def close(self) -> None:
        self._sdk.close()


class ApiStrikes(Gate):
    """Those at the API server."""

    strikes: Strikes

    async def _write(self, request: web.Request, call: ApiCall) -> web.StreamResponse:
        async with self._turn:
            if self.strikes.due(self.strikes.kind_of(call)):
                strike = (self.kill_after if self.strikes.heard else self.kill_before)(self.strikes.end)
                answer = await strike(request)
                assert answer is not None
                return answer
        return await super()._write(request, call)


@contextlib.asynccontextmanager
async def struck_api(strikes: Strikes, cluster: Cluster, directory: Path) -> AsyncIterator[str]:
    """The operator's option with which it gets to the API server by where it is struck."""
    async with ApiStrikes(from_kubeconfig(str(cluster.kubeconfig))) as gate:
        gate.strikes = strikes
        yield f"--kubeconfig={gate.kubeconfig(directory)}"


@contextlib.contextmanager
def struck_engine(strikes: Strikes, host: EngineDescription, directory: Path) -> Iterator[str]:
    """Where the operator reaches an engine then."""
    rule = EngineStrikes(strikes, host)
    path = directory / f"{host.release}.sock"
    try:
        with Relay(path, host.socket_path, rule):
            yield f"unix://{path}"
    finally:
        rule.close()


async def survived(strikes: Strikes, done: Callable[[], Awaitable[bool]], look: Callable[[], Awaitable[None]]) -> None:
    """Until that is done, the operator struck at each kind of write on the way; `look`: each time that it is gone."""
    assert strikes.operator is not None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE) as patience:
            while not await done():
                if strikes.over:
                    await asyncio.to_thread(strikes.operator.wait)
                    await look()
                    strikes.arm()
                    strikes.operator.start()
                    try:
                        await strikes.operator.is_ready()
                    except AssertionError:
                        # It may write, and be struck, before anybody has seen that it is ready.
                        if not strikes.over:
                            raise
                    patience.reschedule(loop.time() + PATIENCE)
                await asyncio.sleep(0.1)
    except TimeoutError:
        told = strikes.operator.log.read_text()[-4000:]
        raise AssertionError(f"it does not come to its end after {strikes.struck}\n{told}") from None
    if strikes.disarm():
        # What it was struck at was what the test waited for.
        await asyncio.to_thread(strikes.operator.wait)
        strikes.operator.start()
        await strikes.operator.is_ready()


def _shape(value: object) -> object:
    """Which fields there are, and not what they say."""
    if isinstance(value, dict):
        return {key: _shape(one) for key, one in sorted(value.items()) if one is not None}
    return ""
