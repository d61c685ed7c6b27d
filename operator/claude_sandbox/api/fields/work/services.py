"""Other services that the agent may use without holding their credentials: registries, issue trackers, MCP servers."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import domains, names
from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import Rule, literal, matching, never_matching

MOST_SERVICES = 16
# What decides how a request is read, or is another one's: `claude_sandbox.gateway.services.declared` has the same.
RESERVED_HEADERS = (
    "ACCEPT-ENCODING", "CONNECTION", "CONTENT-ENCODING", "CONTENT-LENGTH", "CONTENT-TYPE", "EXPECT", "HOST",
    "KEEP-ALIVE", "PROXY-AUTHORIZATION", "PROXY-CONNECTION", "RANGE", "TE", "TRAILER", "TRANSFER-ENCODING", "UPGRADE",
)  # fmt: skip

_NAME = matching(
    "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", "must be lower-case letters, digits and '-' between them, for example issues"
)
_HEADER = matching("[A-Za-z0-9][A-Za-z0-9-]*", "must be a header's name: letters, digits and '-', as Authorization")
_NOT_RESERVED = Rule(
    f"!(self.upperAscii() in [{', '.join(map(literal, RESERVED_HEADERS))}])",
    lambda name: name.upper() not in RESERVED_HEADERS,
    "is a header that decides how a request is read: write the one that the service takes its credential from",
)
_PREFIX = matching(
    "[\\x21-\\x7e][\\x20-\\x7e]*",
    "must be printable ASCII that does not begin with a blank, with the blank that the service wants behind it, for"
    " example 'Bearer '",
)
_PART = "(?:\\*|[A-Za-z0-9._~!$&()+,=:@-]+)"
_PATH = matching(
    f"(?:/{_PART})*/?",
    "must be a path as /api/v2/*: begin with '/', with a star for one whole part, or at the end for everything below",
)
_NO_DOTS = never_matching("/\\.+(?:/|$)", "must not have a part of dots alone, which would lead elsewhere")
_DISTINCT = Rule(
    "self.all(a, self.exists_one(b, a == b))",
    lambda items: len(set(items)) == len(items),
    "lists one twice: write each once",
)


class ServiceSecretKeyRef(Strict):
    """A key of a Secret in the sandbox's own namespace, with a credential for a service."""

    name: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_NAME]
    """The Secret's name. It has to be in the sandbox's own namespace."""
    key: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_KEY] = "token"
    """Which of the Secret's keys holds the credential."""


class HeaderSource(Strict):
    """Where the header's value is from."""

    secret_key_ref: ServiceSecretKeyRef
    """A Secret that opted in, with the credential.

    A Secret opts in by its type `claudesandbox.dev/service`, or by the label `claudesandbox.dev/service: "true"`. Its
    key `host` names the service that the credential is for, as spec.services[].host does.
    """


class Header(Strict):
    """The header that the gateway adds to each request. The agent's own of that name never gets there."""

    name: Annotated[str, Field(min_length=1, max_length=64), _HEADER, _NOT_RESERVED] = "Authorization"
    """The header's name."""
    prefix: Annotated[str, Field(min_length=1, max_length=64), *NO_CREDENTIAL, _PREFIX] | None = None
    """What stands before the credential, for example 'Bearer ' with its blank. Default: nothing."""
    value_from: HeaderSource
    """Where the credential is."""


class RegistryType(Choice):
    """Whose packages a registry has."""

    PYPI = "PyPI"
    NPM = "NPM"
    MAVEN = "Maven"
    CARGO = "Cargo"


class Registry(Strict):
    """The service is a package registry, and the programs in the sandbox use it without being told."""

    type: RegistryType
    """Which programs: pip and uv (PyPI), npm (NPM), Maven from 3.9 on (Maven), or cargo, which knows it by the
    service's name."""
    path: Annotated[str, Field(min_length=1, max_length=200), _PATH, _NO_DOTS] | None = None
    """Where on the service it is. Default: /simple/ for PyPI, / for others."""

    RULES = (
        Rule(
            "!has(self.path) || !self.path.contains('*')",
            lambda registry: registry.path is None or "*" not in registry.path,
            "must be one path, without a star",
            field="path",
        ),
    )


class Method(Choice):
    """What a request does."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    OPTIONS = "OPTIONS"


class Service(Strict):
    """A service that the agent may use as http://NAME.services/…; the gateway asks it by https, with the credential."""

    name: Annotated[str, Field(min_length=1, max_length=30), _NAME]
    """What it is called in the sandbox: the agent asks for http://NAME.services/…."""
    host: Annotated[str, Field(min_length=3, max_length=259), domains.HOST, domains.NOT_LOCAL]
    """Where it is: a host's name, with :PORT for another port than 443. It has to speak TLS."""
    header: Header | None = None
    """The header with the credential. Without it: a service that needs none."""
    paths: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200), _PATH, _NO_DOTS]],
        Field(min_length=1, max_length=32),
        _DISTINCT,
    ]
    """What may be asked for. A star at the end is everything below (/api/*), and elsewhere one part of a path
    (/projects/*/issues)."""
    methods: Annotated[list[Method], Field(min_length=1, max_length=7), _DISTINCT] = [Method.GET, Method.HEAD]
    """How it may be asked for."""
    requests_per_minute: Annotated[int, Field(ge=1, le=60000)] = 600
    """How many requests the agent may make in a minute, at each replica of the gateway."""
    registry: Registry | None = None
    """Whether it is a package registry, and of which kind."""


ONE_OF_EACH = Rule(
    "self.all(a, !has(a.registry) || a.registry.type == 'Cargo'"
    " || self.exists_one(b, has(b.registry) && b.registry.type == a.registry.type))",
    lambda services: (
        len(types := [one.registry.type for one in services if one.registry and one.registry.type != "Cargo"])
        == len(set(types))
    ),
    "has two registries of one type, and a program uses one by itself: remove the registry of the other",
)
