"""Where a Docker Engine listens: `unix:///path`, `tcp://host:port` or `ssh://[user@]host[:port]`."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, cast

from pydantic import Field

from claude_sandbox.api.rules import Rule, literal, matching, never_matching

Scheme = Literal["unix", "tcp", "ssh"]

SSH_PORT = 22

_HOST = "[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*"
_IPV6 = "\\[[0-9A-Fa-f:.]{2,45}\\]"
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"  # 1 to 65535
_USER = "[A-Za-z0-9_][-A-Za-z0-9_.]{0,31}"
# A socket's path has at most 107 bytes (sockaddr_un).
_UNIX = "unix://(/[-A-Za-z0-9_.@+]+){1,32}"
_TCP = f"tcp://({_HOST}|{_IPV6}):({_PORT})"
_SSH = f"ssh://(?:({_USER})@)?({_HOST}|{_IPV6})(?::({_PORT}))?"

_MAX_PATH = 107
MAX_LENGTH = 320


@dataclass(frozen=True)
class Address:
    """An endpoint, taken apart. `path` is for unix, the rest for tcp and ssh; `user` None is ssh's own default."""

    scheme: Scheme
    path: str = ""
    host: str = ""
    port: int = 0
    user: str | None = None


def parse(endpoint: str) -> Address:
    """Take an endpoint apart that the rules below accept. Raises ValueError for any other."""
    if re.fullmatch(_UNIX, endpoint):
        return Address("unix", path=endpoint.removeprefix("unix://"))
    if found := re.fullmatch(_TCP, endpoint):
        return Address("tcp", host=_bare(found[1]), port=int(found[2]))
    if found := re.fullmatch(_SSH, endpoint):
        return Address("ssh", host=_bare(found[2]), port=int(found[3] or SSH_PORT), user=found[1])
    raise ValueError("the endpoint is neither unix:///path nor tcp://host:port nor ssh://[user@]host[:port]")


def scheme_of(endpoint: str) -> Scheme:
    """What the endpoint begins with."""
    return cast(Scheme, endpoint.partition("://")[0])


def bracketed(host: str) -> str:
    """A host as it is written before a port."""
    return f"[{host}]" if ":" in host else host


def _bare(host: str) -> str:
    return host.strip("[]")


def _of_scheme(scheme: Scheme, pattern: str, message: str, max_length: int = MAX_LENGTH) -> Rule:
    compiled, prefix = re.compile(pattern), f"{scheme}://"
    # Group names and captures mean nothing to a match as a whole.
    return Rule(
        f"!self.startsWith('{prefix}') || (size(self) <= {max_length} && self.matches({literal(f'^(?:{pattern})$')}))",
        lambda text: not text.startswith(prefix) or (len(text) <= max_length and bool(compiled.fullmatch(text))),
        message,
        confidential=True,
    )


# All confidential: who writes a password into a URL must not find it in the API server's answer as well.
Endpoint = Annotated[
    str,
    Field(min_length=1, max_length=MAX_LENGTH),
    matching(
        "(?:unix|tcp|ssh)://.*",
        "must begin with unix://, tcp:// or ssh://, for example unix:///var/run/docker.sock",
        confidential=True,
    ),
    never_matching(
        "//[^/@]*:[^/@]*@",
        "must not hold a password: with ssh:// use a key in the Secret that spec.credentialsSecretRef names",
        confidential=True,
    ),
    _of_scheme(
        "unix",
        _UNIX,
        f"must be unix:// and an absolute path of at most {_MAX_PATH} characters, for example"
        " unix:///var/run/docker.sock (three slashes)",
        len("unix://") + _MAX_PATH,
    ),
    _of_scheme(
        "tcp", _TCP, "must be tcp://HOST:PORT without anything after it, for example tcp://build-1.example:2376"
    ),
    _of_scheme(
        "ssh",
        _SSH,
        "must be ssh://USER@HOST or ssh://USER@HOST:PORT without anything after it, for example"
        " ssh://docker@build-1.example",
    ),
]
