"""The repositories that a sandbox may use: as they are declared, and as their requests name them. Pure."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from claude_sandbox.gateway.config.cluster import GitSecret
from claude_sandbox.gateway.config.fields import ConfigError, Fields
from claude_sandbox.gateway.destinations.names import NotANameError, normalise
from claude_sandbox.gateway.destinations.scopes import SCOPE_KEY, serves
from claude_sandbox.gateway.git.credentials.credential import ANY_USER, GitCredential
from claude_sandbox.gateway.git.push.rules import PushRules

BELOW = "/git/"
"""Where on the broker's address repositories are: `/git/HOST/PATH`."""
LFS = "/info/lfs/"
"""What is behind a repository's path where its large files are asked for."""
_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}){1,16}")
_FILE = r"/[^\x00-\x1f\x7f]*"
_SSH = re.compile(r"ssh://(?:[^@/:]+@)?(?P<host>[^@/:]+)(?::(?P<port>[0-9]+))?/(?P<path>.*)")
_SCP = re.compile(r"(?:[^@/:]+@)?(?P<host>[^@/:]+):(?P<path>(?!//).*)")
_USER = r"[A-Za-z0-9._@+-]{1,100}"
_BRANCH = r"[A-Za-z0-9._/*-]{1,200}"
_PROTECTED = r"[^\x00-\x1f\x7f\\]{1,200}"
_MOST_PATTERNS = 100


@dataclass(frozen=True)
class PasswordFile:
    """A file that a user's password is in, or a token in place of it."""

    path: Path
    user: str = ANY_USER


@dataclass(frozen=True)
class SecretDirectory:
    """A directory with a file for each key of a Secret, as it is mounted."""

    path: Path


@dataclass(frozen=True)
class Repository:
    """One repository of a server. `url`: as the server knows it, without a slash at its end; `at`: by what a request
    names it, `HOST/PATH` without `.git`. `credential`: where that is, None for one that is public."""

    url: str
    at: str
    host: str
    credential: PasswordFile | SecretDirectory | GitSecret | None = None
    push: PushRules | None = None


@dataclass(frozen=True)
class Opened:
    """A repository with its credential; None for one that is public. `problem`: why it can't be used, where it can't;
    git shows that to the agent, and nothing of a credential is in it."""

    repository: Repository
    credential: GitCredential | None = None
    problem: str = ""


def opened(repository: Repository, secret: GitSecret, credential: GitCredential | None, scope: str) -> Opened:
    """The repository with what is in its Secret, if that is for it."""
    if not serves(scope, repository.at):
        problem = f"Secret {secret.secret} is for {scope}, by its key {SCOPE_KEY}, and not for {repository.at}"
        return Opened(repository, problem=problem)
    return Opened(repository, credential)


def asked(path: str) -> tuple[str, str] | None:
    """Of a request's path: by what it names the repository, and what is behind that. None for another path."""
    if not path.startswith(BELOW):
        return None
    before, lfs, below = path.partition(LFS)
    if lfs:
        return named(before[len(BELOW) :]), f"{LFS[1:]}{below}"
    for behind in ("info/refs", "git-upload-pack", "git-receive-pack"):
        if path.endswith(f"/{behind}"):
            return named(path[len(BELOW) : -len(behind) - 1]), behind
    return path[len(BELOW) :], ""


def named(path: str) -> str:
    """`HOST/PATH` of a URL without its scheme: with `.git` at its end or not, it is the same repository."""
    return path.strip("/").removesuffix(".git")


def read_repository(fields: Fields) -> Repository:
    """As it is in the program's own configuration. Raises ConfigError."""
    url, host, at = read_url(fields)
    credential = fields.inner("credential", _credential) if fields.has("credential") else None
    push = fields.inner("push", read_push) if fields.has("push") else None
    return Repository(url, at, host, credential, push)


def read_push(fields: Fields) -> PushRules:
    """Raises ConfigError."""
    branches = _patterns(fields, "branches", _BRANCH)
    if not branches:
        raise ConfigError(fields.path("branches"), "write patterns of the branches that may be pushed, as in claude/*")
    protected = _patterns(fields, "protectedPaths", _PROTECTED)
    return PushRules(branches, fields.flag("force", False), fields.flag("delete", False), protected)


def _credential(fields: Fields) -> PasswordFile | SecretDirectory | GitSecret:
    if fields.has("secret"):
        # It comes with the configuration, on standard input; with another generation that is another configuration.
        fields.optional("generation")
        return GitSecret(fields.text("secret"))
    if fields.has("directory"):
        return SecretDirectory(Path(fields.text("directory", pattern=_FILE)))
    return PasswordFile(Path(fields.text("file", pattern=_FILE)), fields.text("user", ANY_USER, pattern=_USER))


def _patterns(fields: Fields, name: str, allowed: str) -> tuple[str, ...]:
    found = fields.texts(name)
    if len(found) > _MOST_PATTERNS:
        raise ConfigError(fields.path(name), f"write {_MOST_PATTERNS} at most")
    for index, one in enumerate(found):
        if not re.fullmatch(allowed, one):
            raise ConfigError(fields.path(f"{name}[{index}]"), f"write what matches {allowed}")
    return found


def read_url(fields: Fields) -> tuple[str, str, str]:
    """The URL as it is asked for, its host, and by what requests name it. Raises ConfigError."""
    try:
        return parse_url(fields.text("url", pattern=r"[\x21-\x7e]{1,1000}"))
    except ValueError as error:
        raise ConfigError(fields.path("url"), str(error)) from None


def parse_url(text: str) -> tuple[str, str, str]:
    """The URL as it is asked for, its host, and by what requests name it.

    What is written for ssh (`git@HOST:PATH`, `ssh://git@HOST/PATH`) means the same repository of the same server by
    https. Raises ValueError with what to write instead.
    """
    parts = urlsplit(_by_https(text).rstrip("/"))
    try:
        host, port = normalise(parts.hostname or ""), parts.port
    except (NotANameError, ValueError):
        raise ValueError("write https://HOST/PATH, with the name of a host") from None
    # Without a user: who is shown to the server is for the Secret to say.
    if parts.scheme != "https" or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("write https://HOST/PATH, without a user, a query or a fragment")
    if not _PATH.fullmatch(parts.path):
        raise ValueError("write the repository's own path behind the host, as in /team/project")
    authority = host if port in (None, 443) else f"{host}:{port}"
    return f"https://{authority}{parts.path}", host, named(f"{authority}{parts.path}")


def _by_https(text: str) -> str:
    if found := _SSH.fullmatch(text):
        # Where ssh listens tells nothing of where https does.
        if found["port"]:
            raise ValueError("write https://HOST/PATH: on which port the server speaks https, an ssh URL doesn't tell")
        return f"https://{found['host']}/{found['path']}"
    if found := _SCP.fullmatch(text):
        return f"https://{found['host']}/{found['path']}"
    return text
