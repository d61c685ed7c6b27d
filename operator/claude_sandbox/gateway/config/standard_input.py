"""Follows what comes on standard input: configuration and credential of one gateway whose operator holds its input.

Theory of operation. Each message is one line, base64 of a JSON object: `configuration` (the document that a file would
hold), `credential` (the text, or null), `secrets` (of services, by their names, the credentials; each was
read for the service's own host, and is given to no other), `unopened` (of other services, why there is none), `git` (of
repositories, by the Secrets that they name, the keys of those with their texts) and `revision` (the sender's word for
all of it). Nothing of it is ever in a file, an argument or the environment, so that it is gone with the process.

- Before the first message there is no `live`, and nothing is listened on.
- A message is taken whole or not at all; one that is wrong changes nothing, and its revision is never told as taken.
  So is one that is too long, and the next one is taken.
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
from typing import Any

from claude_sandbox.gateway.budget import prices
from claude_sandbox.gateway.config.cluster import GitSecret
from claude_sandbox.gateway.config.config import Sandbox, parse
from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.config.follow import Credential, Live, secret_text
from claude_sandbox.gateway.git.credentials.credential import CredentialError, read_credential, read_scope
from claude_sandbox.gateway.git.repositories import Opened, Repository, opened
from claude_sandbox.gateway.identity import Placeholders
from claude_sandbox.gateway.services.declared import Header, Service, Services, Unopened, open_services

GRACE = 60.0
"""Seconds. Claude Code asks for a key anew after one; what is under way may take longer, and was let in before."""
_NO_SECRET = "there is no Secret {}, or it has not opted in: give it the type or the label claudesandbox.dev/git"
_LARGEST = 16 << 20
"""Bytes of a message: of each of 16 repositories all that a Secret for git may hold, however JSON has to write it."""
_MAY_BE_THERE = {"secrets", "unopened", "git"}
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
                # Each message begins the grace anew, of the identities that the one before it had.
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
            secrets = _secrets(message["secrets"], message["unopened"])
            of_git = _secrets_of_git(message["git"])
        except ConfigError as error:
            self.refused = str(error)
            print(f"gateway: what came is not followed: {error}", file=sys.stderr, flush=True)
            return False
        finally:
            # Whatever became of it: the line holds the key.
            line[:] = bytes(len(line))
        if hasattr(self, "live"):
            self._before = {one.uid: one.identity for one in self.live.config.sandboxes}
        sandboxes = {one.uid: one for one in config.sandboxes}
        secret_of = partial(_secret_of, secrets)
        services = {one.uid: open_services(one.services, secret_of) for one in config.sandboxes}
        _tell_unopened(services)
        repositories = {one.uid: _opened(one, of_git) for one in config.sandboxes}
        self.live = Live(
            config, table, Placeholders(config.sandboxes), sandboxes, credentials, repositories, services=services
        )
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
        """The next line; of one that is too long what is kept of it, which is no message. Nothing where the input has
        ended."""
        while (end := self._come.find(b"\n")) < 0:
            part = os.read(self._handle, _CHUNK)
            if not part:
                return bytearray()
            if len(self._come) > _LARGEST:
                # What is left of it is read over: who stopped here would follow nothing for ever.
                self._come[:] = b"?"
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
    if not isinstance(found, dict) or set(found) - _MAY_BE_THERE != {"configuration", "credential", "revision"}:
        raise ConfigError(
            "standard input", "a message has configuration, credential, secrets, unopened, git and revision"
        )
    return {**dict.fromkeys(_MAY_BE_THERE), **found}


def _credentials(sandboxes: tuple[Sandbox, ...], text: object) -> dict[str, Credential]:
    if text is None:
        return {}
    secret = secret_text(text.encode("utf-8", "replace")) if isinstance(text, str) else None
    if secret is None:
        raise ConfigError("credential", "it could not be in a header: put the key as it is into the Secret")
    return {one.uid: Credential(secret, one.oauth, one.generation) for one in sandboxes}


def _secrets(texts: object, unopened: object) -> dict[str, str | Unopened]:
    """By the names of services. What could not be in a header is as good as not there: only what needs it goes
    without."""
    for name, one in (("secrets", texts), ("unopened", unopened)):
        if one is not None and not isinstance(one, dict):
            raise ConfigError(name, "write an object, with the name of a service for each")
    known = frozenset(Unopened)
    found: dict[str, str | Unopened] = {}
    if isinstance(unopened, dict):
        found |= {name: Unopened(why) if why in known else Unopened.NOT_READ for name, why in unopened.items()}
    if isinstance(texts, dict):
        sent = {name: text for name, text in texts.items() if isinstance(text, str)}
        found |= {name: secret_text(text.encode("utf-8", "replace")) or Unopened.NO_KEY for name, text in sent.items()}
    return found


def _secret_of(secrets: Mapping[str, str | Unopened], service: Service, _header: Header) -> str | Unopened:
    return secrets.get(service.name, Unopened.NOT_READ)


def _tell_unopened(services: Mapping[str, Services]) -> None:
    for one in services.values():
        for name, why in one.unopened.items():
            print(f"gateway: the service {name} has no credential: {why}", file=sys.stderr, flush=True)


def _secrets_of_git(found: object) -> dict[str, dict[str, bytes]]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(data, dict) for data in found.values()):
        raise ConfigError("git", "write an object, with an object of keys for each Secret")
    return {
        name: {key: text.encode("utf-8", "replace") for key, text in data.items() if isinstance(text, str)}
        for name, data in found.items()
    }


def _opened(sandbox: Sandbox, secrets: Mapping[str, Mapping[str, bytes]]) -> dict[str, Opened]:
    """The sandbox's repositories, by what requests name them; each with its credential, or with why it has none."""
    return {one.at: _open(one, secrets) for one in sandbox.repositories}


def _open(repository: Repository, secrets: Mapping[str, Mapping[str, bytes]]) -> Opened:
    where = repository.credential
    if not isinstance(where, GitSecret):
        return Opened(repository) if where is None else Opened(repository, problem="no file can be read here")
    data = secrets.get(where.secret)
    if data is None:
        return Opened(repository, problem=_NO_SECRET.format(where.secret))
    try:
        return opened(repository, where, read_credential(data), read_scope(data))
    except CredentialError as error:
        return Opened(repository, problem=f"Secret {where.secret}: {error}")


def _standard_output(revision: str) -> None:
    line = json.dumps({"kind": "configuration", "revision": revision}, separators=(",", ":")).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]
