"""An operator that ends at a certain call to the engine, before or after it, and another one that begins then."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from dockerkit import CLUSTER, HELPER, Clock, Sandbox

from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.pacing import Pacer


class EndedError(BaseException):
    """The operator's process is gone: nothing that it would have done next is done."""


class Mortal:
    """A client that is cut off at its k-th call that changes anything, before the engine heard of it or after."""

    def __init__(self, client: Any, last: int, *, heard: bool) -> None:
        self._client, self._left, self._heard = client, last, heard
        self.ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def request(self, method: str, url: str, **options: Any) -> Any:
        if method == "GET":
            return self._client.request(method, url, **options)
        if self.ended:
            # What a process does while it unwinds, one that was killed doesn't.
            raise EndedError
        self._left -= 1
        if self._left <= 0:
            self.ended = True
            if self._heard:
                self._client.request(method, url, **options)
            raise EndedError
        return self._client.request(method, url, **options)


@contextlib.asynccontextmanager
async def cut_off(one: Sandbox, last: int, *, heard: bool) -> AsyncIterator[Mortal]:
    """Within it, the operator ends at a call; after it, another has started, which knows nothing."""
    real = one.engine._transport.connected
    mortal: Any = Mortal(real(), last, heard=heard)
    one.engine._transport.connected = lambda: mortal
    try:
        yield mortal
    finally:
        one.engine._transport.connected = real
        one.clock = Clock()
        one.backend = DockerBackend(one.engine, CLUSTER, "host", one.secrets, Pacer(one.clock), helper=HELPER)
