"""Follows the configuration and the credentials that it names: what the files hold, within half a second.

Theory of operation. Holds the last good `Live`, and why a newer one was refused. The files are read anew each time,
since a time of change can stay the same; they are small. A configuration that can't be read or is wrong changes
nothing; it is told once. A credential that can't be read is no credential, also while the configuration is wrong: who
took it away wants it not to be used.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from claude_sandbox.gateway.budget import prices
from claude_sandbox.gateway.config.config import Config, Sandbox, parse
from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.git.credentials.credential import SECRET_KEYS, CredentialError, Password, read_credential
from claude_sandbox.gateway.git.repositories import Opened, PasswordFile, Repository, SecretDirectory
from claude_sandbox.gateway.identity import Identify, Placeholders
from claude_sandbox.gateway.services.declared import Header, Services, Unopened, open_services
from claude_sandbox.gateway.services.declared import Service as DeclaredService

INTERVAL = 0.5
"""Seconds between two looks."""
MAX_SECRET = 16 * 1024
"""Bytes of a credential."""


@dataclass(frozen=True)
class Credential:
    """A key or token as it is sent. Its text is in no repr."""

    text: str = field(repr=False)
    oauth: bool
    generation: str | None


@dataclass(frozen=True)
class Lack:
    """Why a sandbox has no credential, and since when, in seconds since 1970."""

    why: str
    since: float


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
    services: Mapping[str, Services] = field(default_factory=dict)
    """Of each sandbox, by UID."""
    lacking: Mapping[str, Lack] = field(default_factory=dict)
    """Sandboxes whose Secret is there and has no key that could be used, by UID."""
    by_address: bool = False
    """Whether sandboxes are known by the addresses of their packets, too."""

    cloning: frozenset[str] | None = None
    """Those whose repositories are being cloned, by UID: how far that is is said often. None: not known of any."""

    def unopened(self, uid: str) -> Mapping[str, Unopened] | None:
        """The services of a sandbox that have no credential; None where it has none, or not all were looked at."""
        sandbox, services = self.sandboxes.get(uid), self.services.get(uid, Services())
        known = len(services.opened) + len(services.unopened)
        return services.unopened if sandbox is not None and 0 < len(sandbox.services) == known else None


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


@dataclass(frozen=True)
class _Read:
    """What the files of credentials hold: of each sandbox, of each repository of each, and of services, by the file."""

    secrets: tuple[str | None, ...] = field(repr=False)
    repositories: tuple[Opened | str, ...] = field(repr=False)
    of_services: Mapping[object, str | None] = field(repr=False)


class Follower:
    """Reads the files; `live` is what they said last, `refused` why what they say now is not followed."""

    def __init__(self, path: Path, tell: Callable[[str], None] | None = None) -> None:
        self._path = path
        self._tell = tell or _standard_error
        self._seen: tuple[Config, prices.PriceTable, _Read]
        self._told: set[str] = set()
        self.live: Live
        self.ready = True
        self.refused: str | None = None

    def start(self) -> None:
        """Read for the first time. Raises ConfigError."""
        config, table = self._declared()
        self._seen = config, table, _credentials(config)
        self.live = self._build(*self._seen)

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
            config, table = self._declared()
        except ConfigError as error:
            # What holds goes on to hold, but for a credential that is taken away meanwhile.
            config, table = self.live.config, self.live.prices
            self.refused = str(error)
            self._once(f"the configuration is not followed: {error}")
        else:
            if self.refused is not None:
                self._told.clear()
            self.refused = None
        seen = (config, table, _credentials(config))
        if seen == self._seen:
            return False
        self._seen = seen
        self.live = self._build(*seen)
        if self.refused is None:
            self._told.clear()
        return True

    def _declared(self) -> tuple[Config, prices.PriceTable]:
        """The document, and the price table that it names. Raises ConfigError."""
        try:
            config = _with_authorities(parse(self._path.read_text()))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("the document", f"it can't be read ({type(error).__name__}): put it there") from None
        if config.prices is None:
            return config, prices.built_in()
        try:
            return config, _prices(config.prices.read_text())
        except (OSError, UnicodeDecodeError):
            raise ConfigError("pricesFile", "it can't be read: put it there") from None

    def _build(self, config: Config, table: prices.PriceTable, read: _Read) -> Live:
        credentials = {}
        for one, secret in zip(config.sandboxes, read.secrets, strict=True):
            if secret is None:
                self._once(f"sandbox {one.uid} has no credential: {one.credential} can't be read, or is no credential")
            else:
                credentials[one.uid] = Credential(secret, one.oauth, one.generation)
        sandboxes = {one.uid: one for one in config.sandboxes}
        repositories = self._repositories(config, read.repositories)
        secret_of = partial(_text_of, read.of_services)
        services = {one.uid: open_services(one.services, secret_of) for one in config.sandboxes}
        for uid, found_of in services.items():
            for name in found_of.unopened:
                self._once(f"sandbox {uid}: the credential of the service {name} can't be read, or is none")
        return Live(config, table, Placeholders(config.sandboxes), sandboxes, credentials, repositories, services)

    def _repositories(self, config: Config, secrets: Sequence[Opened | str]) -> dict[str, dict[str, Opened]]:
        left = iter(secrets)
        opened: dict[str, dict[str, Opened]] = {}
        for sandbox in config.sandboxes:
            for one in sandbox.repositories:
                found = next(left)
                if isinstance(found, str):
                    self._once(f"sandbox {sandbox.uid}: the credential of {one.at}: {found}")
                else:
                    opened.setdefault(sandbox.uid, {})[one.at] = found
        return opened

    def _once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._tell(message)


def _with_authorities(config: Config) -> Config:
    """With the certificates themselves in the place of the files that they are in: who replaces one of these means the
    next connection. What can't be read, or is empty, stays named, and is told of by what needs it."""
    return replace(
        config,
        provider=replace(config.provider, **_authorities(config.provider.ca)),
        egress=replace(config.egress, **_authorities(config.egress.ca)),
    )


def _authorities(file: Path | None) -> dict[str, Any]:
    try:
        # What stands between certificates, in whatever letters, is of no account.
        text = file.read_bytes().decode("ascii", "ignore") if file is not None else ""
    except OSError:
        text = ""
    return {"ca": None, "bundle": text} if text.strip() else {}


def _text_of(texts: Mapping[object, str | None], _service: DeclaredService, header: Header) -> str | Unopened:
    text = texts.get(header.credential)
    return Unopened.NOT_READ if text is None else text


def _prices(text: str) -> prices.PriceTable:
    try:
        return prices.parse_table(json.loads(text))
    except prices.PriceTableError as error:
        raise ConfigError("pricesFile", str(error)) from None
    except ValueError:
        raise ConfigError("pricesFile", "it is no JSON: mend it") from None


def _credentials(config: Config) -> _Read:
    return _Read(
        tuple(read_secret(one.credential) if isinstance(one.credential, Path) else None for one in config.sandboxes),
        tuple(read_opening(repository) for one in config.sandboxes for repository in one.repositories),
        {
            service.header.credential: read_secret(service.header.credential)
            for one in config.sandboxes
            for service in one.services
            if service.header is not None and isinstance(service.header.credential, Path)
        },
    )


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
            # One byte more than is taken, so that what is too long is seen to be.
            data[name] = file.read(MAX_SECRET + 1)
    return data


def read_secret(path: Path) -> str | None:
    """The text of a credential; None where it can't be read, or could not be in a header."""
    try:
        with path.open("rb") as file:
            return secret_text(file.read(MAX_SECRET + 1))
    except OSError:
        return None


def secret_text(data: bytes) -> str | None:
    """A credential as it is sent; None for what could not be in a header."""
    try:
        found = data.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    return found if 0 < len(found) <= MAX_SECRET and found.isprintable() and " " not in found else None


def _standard_error(message: str) -> None:
    print(f"gateway: {message}", file=sys.stderr, flush=True)
