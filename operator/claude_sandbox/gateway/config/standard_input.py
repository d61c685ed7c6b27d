"""Follows what comes on standard input: configuration and credential of one gateway whose operator holds its input.

Theory of operation. Each message is one line, base64 of a JSON object: `configuration` (the document that a file would
hold), `credential` (the text, or null), `secrets` (what the configuration names as `secret` and `key`: by `SECRET/KEY`
the text, or null) and `revision` (the sender's word for all of it). Nothing of it is ever in a file, an argument or the
environment, so that it is gone with the process.

- Before the first message there is no `live`, and nothing is listened on.
- A message is taken whole or not at all; one that is wrong changes nothing, and its revision is never told as taken.
- A revision is told on standard output once it holds, in a line of its own: the sender waits for that.
- Identities of the message before are taken for `GRACE` seconds more: a sandbox that has just been given another may
  still be sending with the old one.
- The end of the input ends nothing: who sends is gone, and comes back.

A thread reads; `live` is replaced by the one task that follows, in the event loop.
"""

import asyncio
import base64
import binascii
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from claude_sandbox.gateway.budget import prices
from claude_sandbox.gateway.config.cluster import ServiceSecret
from claude_sandbox.gateway.config.config import Sandbox, parse
from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.config.follow import Credential, Live, secret_text
from claude_sandbox.gateway.identity import Placeholders
from claude_sandbox.gateway.services.declared import open_services

GRACE = 60.0
"""Seconds. Claude Code asks for a key anew after one; what is under way may take longer, and was let in before."""
_LARGEST = 4 << 20
_CHUNK = 64 << 10


class InputFollower:
    """`live` is what the last good message said; `revision` its sender's word for it."""

    def __init__(self, handle: int = 0, tell: Callable[[str], None] | None = None) -> None:
        self._handle = handle
        self._tell = tell or _standard_output
        self._before: dict[str, tuple[str, ...]] = {}
        self._untold = False
        self._come = bytearray()
        self.live: Live
        self.ready = True
        self.revision = ""
        self.refused: str | None = None

    def start(self) -> None:
        """Wait for the first good message. Raises ConfigError where the input ends before it."""
        while not hasattr(self, "live"):
            line = self._line()
            if not line:
                raise ConfigError("standard input", "it ended before a configuration had come")
            self._take(line)

    async def follow(self, changed: Callable[[Live], Awaitable[None]]) -> None:
        """See Follows. What holds already is told first: by now it is listened."""
        lines: asyncio.Queue[bytearray] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        # A thread that nobody waits for at the end: what it reads may never come.
        threading.Thread(target=self._read_on, args=(loop, lines), name="standard-input", daemon=True).start()
        self._announce()
        while True:
            try:
                line = await asyncio.wait_for(lines.get(), GRACE if self._before else None)
            except TimeoutError:
                self._before = {}
                self._identify()
                await changed(self.live)
                continue
            if self._take(line):
                await changed(self.live)
                self._announce()

    def report(self) -> dict[str, object]:
        """See Follows."""
        return {"configuration": self.refused or "followed", "revision": self.revision}

    def _read_on(self, loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[bytearray]) -> None:
        """Hand each line to the loop, until the input ends: nobody will send any more then, and what holds, holds."""
        with suppress(RuntimeError):  # the loop is closed
            while line := self._line():
                loop.call_soon_threadsafe(lines.put_nowait, line)

    def _take(self, line: bytearray) -> bool:
        """Whether the message holds now."""
        try:
            message = _read(line)
            config = parse(json.dumps(message["configuration"]))
            table = prices.built_in()
            credentials = _credentials(config.sandboxes, message["credential"])
            secrets = _secrets(message["secrets"])
        except ConfigError as error:
            self.refused = str(error)
            print(f"gateway: what came is not followed: {error}", file=sys.stderr, flush=True)
            return False
        finally:
            line[:] = bytes(len(line))
        if hasattr(self, "live"):
            self._before = {one.uid: one.identity for one in self.live.config.sandboxes}
        sandboxes = {one.uid: one for one in config.sandboxes}
        services = {
            one.uid: open_services(one.services, partial(_secret, secrets), _missing) for one in config.sandboxes
        }
        self.live = Live(config, table, Placeholders(config.sandboxes), sandboxes, credentials, services=services)
        self._identify()
        self.refused, self.revision, self._untold = None, str(message["revision"]), True
        return True

    def _identify(self) -> None:
        config = self.live.config
        known = tuple(
            replace(one, identity=tuple(dict.fromkeys((*one.identity, *self._before.get(one.uid, ())))))
            for one in config.sandboxes
        )
        self.live = replace(self.live, identify=_Known(Placeholders(known), self.live.sandboxes))

    def _announce(self) -> None:
        if self._untold:
            self._untold = False
            self._tell(self.revision)

    def _line(self) -> bytearray:
        """The next line; nothing where the input has ended, or goes on without one."""
        while (end := self._come.find(b"\n")) < 0:
            part = os.read(self._handle, _CHUNK)
            if not part or len(self._come) > _LARGEST:
                return bytearray()
            self._come += part
        line = self._come[: end + 1]
        self._come[:] = self._come[end + 1 :]
        return line


class _Known:
    """Gives the sandbox as it is now, whichever of its identities was presented."""

    def __init__(self, identify: Placeholders, sandboxes: Any) -> None:
        self._identify = identify
        self._sandboxes = sandboxes

    def by_address(self, sender: str) -> Sandbox | None:
        """See Identify."""
        return self._identify.by_address(sender)

    def certainly_at(self, sender: str) -> Sandbox | None:
        """See Identify."""
        return self._identify.certainly_at(sender)

    async def __call__(self, presented: str, sender: str) -> Sandbox | None:
        """See Identify."""
        found = await self._identify(presented, sender)
        return None if found is None else self._sandboxes.get(found.uid)


def _read(line: bytearray) -> dict[str, Any]:
    try:
        found = json.loads(base64.b64decode(bytes(line).strip(), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise ConfigError("standard input", "a message is no base64 of JSON") from None
    if not isinstance(found, dict) or set(found) - {"secrets"} != {"configuration", "credential", "revision"}:
        raise ConfigError("standard input", "a message has configuration, credential, secrets and revision")
    return {"secrets": None, **found}


def _credentials(sandboxes: tuple[Sandbox, ...], text: object) -> dict[str, Credential]:
    if text is None:
        return {}
    secret = secret_text(text.encode("utf-8", "replace")) if isinstance(text, str) else None
    if secret is None:
        raise ConfigError("credential", "it could not be in a header: put the key as it is into the Secret")
    return {one.uid: Credential(secret, one.oauth, one.generation) for one in sandboxes}


def _secrets(found: object) -> dict[str, str | None]:
    """What could not be in a header is as good as not there: only what needs it goes without."""
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError("secrets", "write an object, with SECRET/KEY for each")
    texts = {name: text for name, text in found.items() if isinstance(text, str)}
    return {name: secret_text(text.encode("utf-8", "replace")) for name, text in texts.items()}


def _secret(secrets: Mapping[str, str | None], where: Path | ServiceSecret) -> str | None:
    return secrets.get(f"{where.secret}/{where.key}") if isinstance(where, ServiceSecret) else None


def _missing(service: str) -> None:
    print(f"gateway: the credential of the service {service} is not there", file=sys.stderr, flush=True)


def _standard_output(revision: str) -> None:
    line = json.dumps({"kind": "configuration", "revision": revision}, separators=(",", ":")).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]
