"""What the operator asks an engine for, call by call."""

import re
from collections.abc import Callable
from typing import Any

from dockerkit import Sandbox


class Overheard:
    """A client that notes what it is asked for, and lets somebody else act just before or after one call."""

    def __init__(self, client: Any, one: Sandbox) -> None:
        self._client, self._one = client, one
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], Any]] = {}
        self.after: dict[str, Callable[[], Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def request(self, method: str, url: str, **options: Any) -> Any:
        called = f"{method} {re.sub(r'[0-9a-f]{64}', '…', url.partition('/v1.')[2].partition('/')[2])}"
        self.calls.append(called)
        kind = self._kind(method, url)
        if (act := self.before.pop(kind, None)) is not None:
            act()
        answer = self._client.request(method, url, **options)
        if (act := self.after.pop(kind, None)) is not None:
            act()
        return answer

    def _kind(self, method: str, url: str) -> str:
        """What of the calls of a start or a removal it is."""
        if url.partition("?")[0].endswith("/stop"):
            return "stop"
        if not url.endswith("/start"):
            return "helper's end" if method == "DELETE" and "/containers/" in url else ""
        inspected = self._one.sdk.api.inspect_container(url.split("/")[-2])
        return "start" if inspected["Name"] == f"/{self._one.names.container}" else "helper's start"


def overhear(one: Sandbox) -> Overheard:
    """Put one between a sandbox's passes and the engine, from now on."""
    heard = Overheard(one.engine._transport.connected(), one)
    one.engine._transport.connected = lambda: heard  # type: ignore[assignment, return-value]
    return heard
