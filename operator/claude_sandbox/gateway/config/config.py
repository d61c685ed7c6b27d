"""The configuration: one JSON document, and the models that it becomes. Pure; reads no file.

The document holds no secret: credentials are named by the files that they are in, the sandboxes' own placeholders by
their digests. docs/gateway.md has an example of each field.
"""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from claude_sandbox.gateway.budget.ledger import Budget
from claude_sandbox.gateway.budget.prices import NANO
from claude_sandbox.gateway.config.cluster import Cluster, SecretKey, read_cluster
from claude_sandbox.gateway.config.fields import ConfigError, Fields, read_object
from claude_sandbox.gateway.destinations.addresses import Address, AddressRules
from claude_sandbox.gateway.destinations.domains import Pattern, PatternError, parse_pattern
from claude_sandbox.gateway.destinations.names import NotANameError, normalise
from claude_sandbox.gateway.git.repositories import Repository, read_repository
from claude_sandbox.gateway.services.declared import Service, each_once, read_service

_UID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_DIGEST = r"[0-9a-f]{64}"
APIS = ("Messages", "Models", "Batches", "Files")


@dataclass(frozen=True)
class Listener:
    """An address, or a name for one, that is listened on, or `*`: all of this machine's; port 0 is any that is free.
    With a certificate and its key it speaks TLS."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Provider:
    """Where the model is. `base_url` without a slash at its end. `ca`, or `bundle` itself in PEM: what is trusted
    instead of the system's. `upstream_proxy`: `http://NAME:PORT` through which it is reached."""

    base_url: str = "https://api.anthropic.com"
    ca: Path | None = None
    upstream_proxy: str | None = None
    bundle: str | None = None


@dataclass(frozen=True)
class Egress:
    """What the administrator says of everything else. `hosts`: names whose addresses are given here and not asked for.
    `ech`: whether a ClientHello may have, or pretend, an encrypted one inside. `ca`, or `bundle` itself in PEM: what is
    trusted beside the system's where the gateway itself speaks TLS to git's servers and to services."""

    rules: AddressRules = field(default_factory=AddressRules)
    denied: tuple[Pattern, ...] = ()
    hosts: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    upstream_proxy: tuple[str, int] | None = None
    ech: bool = False
    ca: Path | None = None
    bundle: str | None = None


@dataclass(frozen=True)
class Limits:
    """Times in seconds. `connections`: tunnels and plain requests at once, of all sandboxes and of each; `requests`:
    requests to the model likewise; `push_bytes`, `spool_bytes`: bytes of one push, and of all at a time, that are
    read before they are passed on, None for what suits where they are meanwhile; `pushes`: how many that may be."""

    connections: int = 2000
    connections_each: int = 256
    requests: int = 1000
    requests_each: int = 200
    requests_per_minute: int = 3000
    idle: float = 3600.0
    total: float = 86400.0
    stream_idle: float = 600.0
    hello: float = 5.0
    connect: float = 15.0
    drain: float = 3600.0
    push_bytes: int | None = None
    spool_bytes: int | None = None
    pushes: int = 4


@dataclass(frozen=True)
class Sandbox:
    """One sandbox: how it is known, whose key it uses, and what it may.

    `identity`: the SHA-256 of its placeholder, in hex; two while it is being replaced. `credential`: where it is; None
    for one that has its own. `anonymous_proxy`: whoever reaches the proxy is this sandbox, because nobody else can.
    `models`: patterns, none means all.
    """

    uid: str
    namespace: str
    name: str
    identity: tuple[str, ...]
    credential: Path | SecretKey | None
    oauth: bool
    generation: str | None = None
    anonymous_proxy: bool = False
    apis: frozenset[str] = frozenset(("Messages", "Models"))
    models: tuple[str, ...] = ()
    allowed: tuple[Pattern, ...] = ()
    budget: Budget = field(default_factory=Budget)
    repositories: tuple[Repository, ...] = ()
    services: tuple[Service, ...] = ()


@dataclass(frozen=True)
class Config:
    """All of it. `ledger`: the directory of accounts; None keeps them in memory. `prices`: a file instead of the
    table that comes along. `cluster`: which sandboxes there are is told by its API server, and not written here.
    `spool`: the directory in which pushes are while they are judged; None is in memory."""

    broker: Listener
    proxy: Listener
    health: Listener
    provider: Provider
    egress: Egress
    limits: Limits
    sandboxes: tuple[Sandbox, ...]
    ledger: Path | None = None
    prices: Path | None = None
    cluster: Cluster | None = None
    spool: Path | None = None


def parse(text: str) -> Config:
    """Read the document. Raises ConfigError, which names the field and what to write."""
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError("the document", f"it is no JSON{where}: mend it") from None
    return read_object(document, "", _config)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ConfigError("the document", "a field is there twice: remove one")
    return found


def _config(fields: Fields) -> Config:
    fields.number("version", None, 1, 1)
    broker, proxy, health = fields.inner("listen", _listeners)
    sandboxes = tuple(read_object(item, path, _sandbox) for item, path in fields.items("sandboxes"))
    _distinct(sandboxes)
    ledger, prices = fields.optional("ledgerDirectory"), fields.optional("pricesFile")
    spool = fields.optional("spoolDirectory", r"/[^\x00-\x1f\x7f]*")
    cluster = fields.inner("kubernetes", read_cluster) if fields.has("kubernetes") else None
    if cluster is not None and sandboxes:
        raise ConfigError("sandboxes", "with kubernetes, the cluster says which there are: remove one of the two")
    return Config(
        broker,
        proxy,
        health,
        fields.inner("provider", _provider),
        fields.inner("egress", _egress),
        fields.inner("limits", _limits),
        sandboxes,
        Path(ledger) if ledger else None,
        Path(prices) if prices else None,
        cluster,
        Path(spool) if spool else None,
    )


def _listeners(fields: Fields) -> tuple[Listener, Listener, Listener]:
    return (
        fields.inner("broker", _listener),
        fields.inner("proxy", _listener),
        fields.inner("health", _listener),
    )


def _listener(fields: Fields) -> Listener:
    # A name is for one that this machine alone gives an address to: what it leads to is listened on.
    host = fields.text("host", "127.0.0.1", pattern=r"[0-9a-fA-F:.]+|[a-z][-a-z0-9]*|\*")
    port = fields.number("port", 0, 0, 65535)
    certificate, key = fields.optional("certificateFile"), fields.optional("keyFile")
    if (certificate is None) != (key is None):
        raise ConfigError(fields.path("certificateFile"), "write certificateFile and keyFile, or neither")
    return Listener(host, port, Path(certificate) if certificate else None, Path(key) if key else None)


def _provider(fields: Fields) -> Provider:
    base = fields.text("baseURL", Provider.base_url).rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError(
            fields.path("baseURL"), "write a URL without a query, as in https://llm.example.org/anthropic"
        )
    ca, bundle = _authorities(fields)
    proxy = fields.optional("upstreamProxy")
    if proxy is not None:
        _proxy_address(proxy, fields.path("upstreamProxy"))
    return Provider(base, ca, proxy, bundle)


def _authorities(fields: Fields) -> tuple[Path | None, str | None]:
    """A file of certificates, or the certificates themselves, or neither."""
    ca, bundle = fields.optional("caFile"), fields.certificates("caBundle")
    if ca is not None and bundle is not None:
        raise ConfigError(fields.path("caBundle"), "write caFile or caBundle, and not both")
    return Path(ca) if ca else None, bundle


def _proxy_address(text: str, path: str) -> tuple[str, int]:
    parts = urlsplit(text)
    try:
        port = parts.port or 3128
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or parts.username or parts.path.strip("/") or not port:
        raise ConfigError(path, "write http://NAME:PORT, without a user")
    return parts.hostname, port


def _egress(fields: Fields) -> Egress:
    proxy = fields.optional("upstreamProxy")
    hosts: dict[str, tuple[Address, ...]] = {}
    for name, addresses in fields.mapping("hosts").items():
        path = fields.path(f"hosts.{name}")
        try:
            hosts[normalise(name)] = tuple(ipaddress.ip_address(text) for text in addresses)
        except (NotANameError, ValueError, TypeError):
            raise ConfigError(path, "write a name, and a list of its addresses") from None
    return Egress(
        AddressRules(fields.networks("privateNetworks"), fields.networks("refusedNetworks")),
        tuple(read_pattern(item, path, local=True) for item, path in fields.items("deniedDomains")),
        hosts,
        _proxy_address(proxy, fields.path("upstreamProxy")) if proxy is not None else None,
        fields.choice("encryptedClientHello", "Refuse", "Refuse", "Allow") == "Allow",
        *_authorities(fields),
    )


def read_pattern(item: Any, path: str, *, local: bool = False) -> Pattern:
    """`example.org`, or `{"domain": "git.example.org:22", "protocol": "Any"}`. Raises ConfigError."""
    opaque = False
    if isinstance(item, dict):
        item, opaque = read_object(
            item, path, lambda inner: (inner.text("domain"), inner.choice("protocol", "TLS", "TLS", "Any") == "Any")
        )
    if not isinstance(item, str):
        raise ConfigError(path, "write a name as in example.org or *.example.org, with :PORT for another port")
    try:
        return parse_pattern(item, opaque=opaque, local=local)
    except PatternError as error:
        raise ConfigError(path, str(error)) from None


def _limits(fields: Fields) -> Limits:
    default = Limits()
    return Limits(
        connections=fields.number("connections", default.connections, 1, 100_000),
        connections_each=fields.number("connectionsPerSandbox", default.connections_each, 1, 100_000),
        requests=fields.number("requests", default.requests, 1, 100_000),
        requests_each=fields.number("requestsPerSandbox", default.requests_each, 1, 100_000),
        requests_per_minute=fields.number("requestsPerMinutePerSandbox", default.requests_per_minute, 1, 1_000_000),
        idle=fields.number("tunnelIdleSeconds", int(default.idle), 1, 86400),
        total=fields.number("totalSeconds", int(default.total), 1, 604_800),
        # The provider pings; between two pings there may be 120 s and more with some of the gateways before it.
        stream_idle=fields.number("streamIdleSeconds", int(default.stream_idle), 120, 86400),
        hello=fields.number("clientHelloSeconds", int(default.hello), 1, 60),
        connect=fields.number("connectSeconds", int(default.connect), 1, 120),
        drain=fields.number("drainSeconds", int(default.drain), 0, 86400),
        push_bytes=fields.number("pushBytes", 0, 1 << 20, 1 << 40) if fields.has("pushBytes") else None,
        spool_bytes=fields.number("spoolBytes", 0, 1 << 20, 1 << 40) if fields.has("spoolBytes") else None,
        pushes=fields.number("pushesAtOnce", default.pushes, 1, 64),
    )


def _sandbox(fields: Fields) -> Sandbox:
    identity = fields.texts("identitySHA256")
    for index, digest in enumerate(identity):
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ConfigError(fields.path(f"identitySHA256[{index}]"), "write the SHA-256 of the placeholder in hex")
    if not identity:
        raise ConfigError(fields.path("identitySHA256"), "it is missing: write the SHA-256 of the placeholder in hex")
    path, oauth, generation = fields.inner("credential", _credential)
    apis = fields.texts("apis") or ("Messages", "Models")
    if not set(apis) <= set(APIS):
        raise ConfigError(fields.path("apis"), f"write some of {', '.join(APIS)}")
    return Sandbox(
        fields.text("uid", pattern=_UID),
        fields.text("namespace", ""),
        fields.text("name", ""),
        identity,
        path,
        oauth,
        generation,
        fields.choice("proxyIdentity", "Placeholder", "Placeholder", "Network") == "Network",
        frozenset(apis),
        fields.texts("models"),
        tuple(read_pattern(item, where) for item, where in fields.items("allowedDomains")),
        fields.inner("budget", read_budget) if fields.has("budget") else Budget(),
        _once_each(
            tuple(read_object(item, where, read_repository) for item, where in fields.items("repositories")), fields
        ),
        each_once(tuple(read_object(item, where, read_service) for item, where in fields.items("services")), fields),
    )


def _once_each(repositories: tuple[Repository, ...], fields: Fields) -> tuple[Repository, ...]:
    """None of which is there twice. Raises ConfigError."""
    if len({one.at for one in repositories}) != len(repositories):
        raise ConfigError(fields.path("repositories"), "a repository is there twice: remove one")
    return repositories


def _credential(fields: Fields) -> tuple[Path, bool, str | None]:
    return (
        # "-": it comes with the configuration, on standard input.
        Path(fields.text("file", pattern=r"/[^\x00-\x1f\x7f]*|-")),
        fields.choice("kind", "APIKey", "APIKey", "OAuthToken") == "OAuthToken",
        fields.optional("generation", pattern=r"[A-Za-z0-9._:-]{1,128}"),
    )


def read_budget(fields: Fields) -> Budget:
    """`maxCostUSD`, `maxOutputTokens`, `window`; one of the first two has to be there, and the other is no limit."""
    usd = fields.usd("maxCostUSD")
    output = fields.number("maxOutputTokens", None, 1, 10**12) if fields.has("maxOutputTokens") else None
    window = fields.duration("window")
    if usd is None and output is None:
        raise ConfigError(fields.path("maxCostUSD"), "a budget has no limit: write this or maxOutputTokens")
    return Budget(int(usd * NANO) if usd is not None else None, output, window)


def _distinct(sandboxes: tuple[Sandbox, ...]) -> None:
    uids = [one.uid for one in sandboxes]
    if len(set(uids)) != len(uids):
        raise ConfigError("sandboxes", "two have the same uid: remove one")
    digests = [digest for one in sandboxes for digest in one.identity]
    if len(set(digests)) != len(digests):
        raise ConfigError("sandboxes", "two have the same identitySHA256: give each a placeholder of its own")
    # Who presents nothing would be taken for that one, whoever it is.
    if len(sandboxes) > 1 and any(one.anonymous_proxy for one in sandboxes):
        raise ConfigError("sandboxes", "proxyIdentity Network is for a gateway of one sandbox: write Placeholder")
