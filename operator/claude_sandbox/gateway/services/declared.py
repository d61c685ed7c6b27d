"""The services that a sandbox may use, as they are declared. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from claude_sandbox.gateway.config.cluster import ServiceSecret
from claude_sandbox.gateway.config.fields import ConfigError, Fields
from claude_sandbox.gateway.destinations.domains import PatternError, parse_pattern
from claude_sandbox.gateway.services import paths
from claude_sandbox.gateway.services.paths import PathError, PathPattern

SUFFIX = ".services"
"""Behind a service's name, in the names that sandboxes ask for."""
HTTPS = 443
MOST = 16
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REGISTRIES = ("PyPI", "NPM", "Maven", "Cargo")
NAME = r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?"
HEADER = r"[A-Za-z0-9][A-Za-z0-9-]{0,63}"
PREFIX = r"[\x21-\x7e][\x20-\x7e]{0,63}"
NEVER = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer", "keep-alive",
     "proxy-authorization", "proxy-connection", "accept-encoding", "content-type", "content-encoding", "range")
)  # fmt: skip
"""Headers that no credential is in, and that decide how a request is read."""
PER_MINUTE = 600
"""Requests, where nobody says how many."""
_MOST_PER_MINUTE = 60_000
_MOST_PATHS = 32


@dataclass(frozen=True)
class Header:
    """The header that opens the service. `name` in lower case; `prefix`: what stands before the credential."""

    name: str
    prefix: str
    credential: Path | ServiceSecret


@dataclass(frozen=True)
class Service:
    """One service. `registry`: whose package registry it is, for whose clients links are led here; None is no such.
    `header`: None for a service that needs no credential. `per_minute`: requests."""

    name: str
    host: str
    port: int
    header: Header | None
    paths: tuple[PathPattern, ...]
    methods: frozenset[str]
    per_minute: int = PER_MINUTE
    registry: str | None = None

    @property
    def authority(self) -> str:
        """As the service's own URLs have it."""
        return authority_of(self.host, self.port)

    @property
    def url(self) -> str:
        """As a sandbox asks for it, without a slash at its end."""
        return f"http://{self.name}{SUFFIX}"


@dataclass(frozen=True)
class Opened:
    """A service with the value of its header, which is in no repr; None where it needs none."""

    service: Service
    value: str | None = field(default=None, repr=False)


class Unopened(StrEnum):
    """Why a service has no credential: there is no such Secret; nobody said that sandboxes may use it; it is for
    another host; it has no such key, or one that could not be in a header; it could not be read."""

    NO_SECRET = "NoSecret"
    NOT_OPTED_IN = "NotOptedIn"
    OTHER_HOST = "OtherHost"
    NO_KEY = "NoKey"
    NOT_READ = "NotRead"


@dataclass(frozen=True)
class Services:
    """Of one sandbox, by their names: those that can be used, and of others why not. One in neither was not looked at
    yet."""

    opened: Mapping[str, Opened] = field(default_factory=dict)
    unopened: Mapping[str, Unopened] = field(default_factory=dict)


def open_services(
    services: Iterable[Service], secret_of: Callable[[Service, Header], str | Unopened | None]
) -> Services:
    """The services with their credentials. `secret_of`: the credential of one, or why there is none; None where that
    is not known yet."""
    found, unopened = {}, {}
    for service in services:
        header = service.header
        secret = secret_of(service, header) if header is not None else ""
        if isinstance(secret, Unopened):
            unopened[service.name] = secret
        elif secret is not None:
            found[service.name] = Opened(service, None if header is None else f"{header.prefix}{secret}")
    return Services(found, unopened)


def asked(host: str) -> str | None:
    """The service that a name asks for; None for a name of another kind."""
    name = host.removesuffix(SUFFIX)
    return name if name != host and "." not in name else None


def authority_of(host: str, port: int) -> str:
    """As URLs have it."""
    return host if port == HTTPS else f"{host}:{port}"


def read_service(fields: Fields, read_header: "ReadHeader | None" = None) -> Service:
    """As it is in the program's own configuration, but for the header, where `read_header` reads it. Raises
    ConfigError."""
    name = fields.text("name", pattern=NAME)
    host, port = _host(fields)
    header = None
    if fields.has("header"):
        read = partial(read_header or _header, authority_of(host, port))
        header = fields.inner("header", read)
    methods = fields.texts("methods") or ("GET", "HEAD")
    if not set(methods) <= set(METHODS):
        raise ConfigError(fields.path("methods"), f"write some of {', '.join(METHODS)}")
    per_minute = fields.number("requestsPerMinute", PER_MINUTE, 1, _MOST_PER_MINUTE)
    registry = None
    if fields.has("registry"):
        # Where on the service it is, is said to the programs that look for it, and nothing to the gateway.
        registry = fields.inner_open("registry").choice("type", None, *REGISTRIES)
    return Service(name, host, port, header, _paths(fields), frozenset(methods), per_minute, registry)


def read_header_name(fields: Fields) -> tuple[str, str]:
    """The header's name in lower case, and what stands before the credential. Raises ConfigError."""
    name = fields.text("name", "Authorization", pattern=HEADER).lower()
    if name in NEVER:
        raise ConfigError(fields.path("name"), "this header decides how a request is read: write the credential's own")
    return name, fields.text("prefix", "", pattern=PREFIX)


def _header(host: str, fields: Fields) -> Header:
    name, prefix = read_header_name(fields)
    if fields.has("file"):
        return Header(name, prefix, Path(fields.text("file", pattern=r"/[^\x00-\x1f\x7f]*")))
    # It comes with the configuration, on standard input; with another generation that is another configuration.
    fields.optional("generation")
    return Header(name, prefix, ServiceSecret(fields.text("secret"), fields.text("key"), host))


ReadHeader = Callable[[str, Fields], Header]
"""Reads a header; the first is the host that the credential has to be for."""


def _host(fields: Fields) -> tuple[str, int]:
    try:
        found = parse_pattern(fields.text("host", pattern=r"[\x21-\x7e]{1,260}"))
    except PatternError as error:
        raise ConfigError(fields.path("host"), str(error)) from None
    if found.wildcard:
        raise ConfigError(fields.path("host"), "write one name, without a star")
    return found.name, found.port or HTTPS


def _paths(fields: Fields) -> tuple[PathPattern, ...]:
    found = []
    for index, text in enumerate(fields.texts("paths")):
        try:
            found.append(paths.parse_pattern(text))
        except PathError as error:
            raise ConfigError(fields.path(f"paths[{index}]"), str(error)) from None
    if not 0 < len(found) <= _MOST_PATHS:
        raise ConfigError(fields.path("paths"), f"write 1 to {_MOST_PATHS} paths, as in /api/v1/*")
    return tuple(found)


def each_once(services: tuple[Service, ...], fields: Fields) -> tuple[Service, ...]:
    """None of which is there twice. Raises ConfigError."""
    if len(services) > MOST or len({one.name for one in services}) != len(services):
        raise ConfigError(fields.path("services"), f"write {MOST} at most, each with a name of its own")
    return services
