"""Follows the configuration and the credentials that it names: what the files hold, within half a second.

Holds the last good `Live`, and why a newer one was refused. The files are read anew each time, since a time of change
can stay the same; they are small. A configuration that can't be read or is wrong changes nothing; it is told once. A
credential that can't be read is no credential: who took it away wants it not to be used.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from claude_sandbox.gateway.budget import prices
from claude_sandbox.gateway.config.config import Config, Sandbox, parse
from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.git.credential import SECRET_KEYS, CredentialError, Password, read_credential
from claude_sandbox.gateway.git.repositories import Opened, PasswordFile, Repository, SecretDirectory
from claude_sandbox.gateway.identity import Identify, Placeholders
from claude_sandbox.gateway.services.declared import Opened as OpenedService
from claude_sandbox.gateway.services.declared import open_services

INTERVAL = 0.5
"""Seconds between two looks."""
_MAX_SECRET = 16 * 1024


@dataclass(frozen=True)
class Credential:
    """A key or token as it is sent. Its text is in no repr."""

    text: str = field(repr=False)
    oauth: bool
    generation: str | None


@dataclass(frozen=True)
class Live:
    """What holds at this moment. `credentials` by UID; a sandbox whose credential can't be read has none."""

    config: Config
    prices: prices.PriceTable
    identify: Identify
    sandboxes: Mapping[str, Sandbox]
    credentials: Mapping[str, Credential]
    repositories: Mapping[str, Mapping[str, Opened]] = field(default_factory=dict)
    """Of each sandbox, by UID, those that can be used, by what requests name them."""
    services: Mapping[str, Mapping[str, OpenedService]] = field(default_factory=dict)
    """Of each sandbox, by UID, the services that can be used, by their names."""
    by_address: bool = False
    """Whether sandboxes are known by the addresses of their packets, too."""


class Follows(Protocol):
    """What the gateway goes by, wherever that comes from."""

    @property
    def live(self) -> Live:
        """What holds at this moment."""

    @property
    def ready(self) -> bool:
        """Whether it is known yet what holds."""

    def report(self) -> dict[str, object]:
        """What `/readyz` says of it, as JSON."""

    async def follow(self, changed: Callable[[Live], Awaitable[None]]) -> None:
        """Never end by itself, and call `changed` whenever `live` has become another one."""


class Follower:
    """Reads the files; `live` is what they said last, `refused` why what they say now is not followed."""

    def __init__(self, path: Path, tell: Callable[[str], None] | None = None) -> None:
        self._path = path
        self._tell = tell or _standard_error
        self._seen: tuple[object, ...] = ()
        self._told: set[str] = set()
        self.live: Live
        self.ready = True
        self.refused: str | None = None

    def start(self) -> None:
        """Read for the first time. Raises ConfigError."""
        self._seen = self._read()
        self.live = self._build(self._seen)

    async def follow(self, changed: Callable[[Live], Awaitable[None]]) -> None:
        """Look again and again, and say what has changed."""
        while True:
            await asyncio.sleep(INTERVAL)
            if await asyncio.to_thread(self.look):
                await changed(self.live)

    def report(self) -> dict[str, object]:
        """See Follows."""
        return {"configuration": self.refused or "followed"}

    def look(self) -> bool:
        """Look once: whether something has changed for good."""
        try:
            seen = self._read()
            if seen == self._seen:
                return False
            self._seen = seen
            self.live = self._build(seen)
        except ConfigError as error:
            self.refused = str(error)
            self._once(f"the configuration is not followed: {error}")
            return False
        self.refused = None
        self._told.clear()
        return True

    def _read(self) -> tuple[object, ...]:
        """The document, and the files that the last good one names."""
        try:
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("the document", f"it can't be read ({type(error).__name__}): put it there") from None
        config = parse(text)
        table = None
        if config.prices is not None:
            try:
                table = config.prices.read_text()
            except (OSError, UnicodeDecodeError):
                raise ConfigError("pricesFile", "it can't be read: put it there") from None
        files = [one.credential for one in config.sandboxes]
        secrets = [read_secret(file) if isinstance(file, Path) else None for file in files]
        others = [read_opening(repository) for one in config.sandboxes for repository in one.repositories]
        of_services = {
            service.header.credential: read_secret(service.header.credential)
            for one in config.sandboxes
            for service in one.services
            if service.header is not None and isinstance(service.header.credential, Path)
        }
        return (text, table, of_services, *secrets, *others)

    def _build(self, seen: tuple[object, ...]) -> Live:
        text, table, of_services, *found = seen
        config = parse(str(text))
        secrets, others = found[: len(config.sandboxes)], found[len(config.sandboxes) :]
        credentials = {}
        for one, secret in zip(config.sandboxes, secrets, strict=True):
            if secret is None:
                self._once(f"sandbox {one.uid} has no credential: {one.credential} can't be read, or is no credential")
            else:
                credentials[one.uid] = Credential(str(secret), one.oauth, one.generation)
        sandboxes = {one.uid: one for one in config.sandboxes}
        repositories = self._repositories(config, others)
        assert isinstance(of_services, dict)  # noqa: S101 - as `_read` made it
        services = {
            one.uid: open_services(one.services, of_services.get, partial(self._missing, one))
            for one in config.sandboxes
        }
        return Live(
            config, _prices(table), Placeholders(config.sandboxes), sandboxes, credentials, repositories, services
        )

    def _missing(self, sandbox: Sandbox, service: str) -> None:
        self._once(f"sandbox {sandbox.uid}: the credential of the service {service} can't be read, or is none")

    def _repositories(self, config: Config, secrets: list[object]) -> dict[str, dict[str, Opened]]:
        left = iter(secrets)
        opened: dict[str, dict[str, Opened]] = {}
        for sandbox in config.sandboxes:
            for one in sandbox.repositories:
                found = next(left)
                if isinstance(found, str):
                    self._once(f"sandbox {sandbox.uid}: the credential of {one.at}: {found}")
                elif isinstance(found, Opened):
                    opened.setdefault(sandbox.uid, {})[one.at] = found
        return opened

    def _once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._tell(message)


def _prices(table: object) -> prices.PriceTable:
    if table is None:
        return prices.built_in()
    try:
        return prices.parse_table(json.loads(str(table)))
    except prices.PriceTableError as error:
        raise ConfigError("pricesFile", str(error)) from None
    except ValueError:
        raise ConfigError("pricesFile", "it is no JSON: mend it") from None


def read_opening(repository: Repository) -> Opened | str:
    """The repository with its credential, or why there is none, which has nothing of a value in it."""
    where = repository.credential
    if where is None:
        return Opened(repository)
    if isinstance(where, PasswordFile):
        secret = read_secret(where.path)
        return "it can't be read, or is none" if secret is None else Opened(repository, Password(where.user, secret))
    if not isinstance(where, SecretDirectory):
        return "a Secret can't be asked for outside of a cluster"
    try:
        return Opened(repository, read_credential(read_files(where.path, SECRET_KEYS)))
    except CredentialError as error:
        return str(error)


def read_files(directory: Path, names: Iterable[str]) -> dict[str, bytes]:
    """A Secret's data, of which each key is a file; what is not there, or can't be read, is left out."""
    data = {}
    for name in names:
        with suppress(OSError), (directory / name).open("rb") as file:
            data[name] = file.read(_MAX_SECRET + 1)
    return data


def read_secret(path: Path) -> str | None:
    """The text of a credential; None where it can't be read, or could not be in a header."""
    try:
        with path.open("rb") as file:
            return secret_text(file.read(_MAX_SECRET + 1))
    except OSError:
        return None


def secret_text(data: bytes) -> str | None:
    """A credential as it is sent; None for what could not be in a header."""
    try:
        found = data.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    return found if 0 < len(found) <= _MAX_SECRET and found.isprintable() and " " not in found else None


def _standard_error(message: str) -> None:
    print(f"gateway: {message}", file=sys.stderr, flush=True)
