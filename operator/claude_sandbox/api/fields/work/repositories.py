"""Repositories that are cloned into the workspace, and may be pushed to, without the agent holding a credential."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.rules import Rule, matching, never_matching

MOST_REPOSITORIES = 16

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
# Not of digits alone: that would be an address.
_HOST = f"(?:{_LABEL}\\.)+[a-z](?:[-a-z0-9]*[a-z0-9])?"
_PART = "[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_PATH = f"{_PART}(?:/{_PART})*/?"

URL = matching(
    f"https://{_HOST}(?::[0-9]{{1,5}})?/{_PATH}|ssh://(?:[a-z0-9_-]+@)?{_HOST}/{_PATH}|(?:[a-z0-9_-]+@)?{_HOST}:{_PATH}",
    "must be https://HOST/PATH, with the server's name in lower case and no user, password, query or fragment; an ssh"
    " URL without a port (git@HOST:PATH, ssh://git@HOST/PATH) is spoken as https to the same server",
)
PATH = matching(
    f"{_PART}(?:/{_PART})*",
    "must be a path below /workspace: names of letters, digits, '.', '_', '~' and '-' that don't begin with '.', with"
    " '/' between them, for example project or team/project",
)
REF = matching(
    "[A-Za-z0-9_][A-Za-z0-9._/+@-]*",
    "must be the name of a branch or tag, or a commit's id: letters, digits, '.', '_', '/', '+', '@' and '-'",
)
REF_NAME = never_matching("\\.\\.|//|@\\{|/$|\\.$|\\.lock$", "is no name that git has for a branch, a tag or a commit")
BRANCH = matching(
    "[A-Za-z0-9._/*-]+",
    "must be a branch's name, in which '*' is anything but '/', and '**' anything, for example claude/*",
)
PROTECTED = matching(
    "[^\\x00-\\x1f\\x7f\\\\]+",
    "must be a path in the repository, in which '*' is anything but '/', and '**' anything, for example .github/**",
)


class GitSecretRef(Strict):
    """A Secret of the sandbox's own namespace, with a credential for git."""

    name: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_NAME]
    """The Secret's name. It has to be in the sandbox's own namespace."""


class Push(Strict):
    """What may be pushed. The gateway reads a push before the server hears of it, and refuses what is not allowed."""

    branches: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200), BRANCH]], Field(min_length=1, max_length=32)
    ] = ["claude/*"]
    """Branches that may be made and changed. '*' stands for anything but '/', '**' for anything."""
    force: bool = False
    """Whether what is pushed may take the place of what is there, instead of building on it."""
    delete: bool = False
    """Whether a branch may be deleted."""
    protected_paths: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200), PROTECTED]], Field(max_length=64)
    ] = []
    """Paths that no pushed commit may change, for example .github/**."""


class Repository(Strict):
    """A repository that the agent works on. Its gateway speaks to the server, and has the credential."""

    path: Annotated[str, Field(min_length=1, max_length=200), PATH]
    """Where it is cloned to, below /workspace. What is there already is never overwritten."""
    url: Annotated[str, Field(min_length=1, max_length=512), *NO_CREDENTIAL, URL]
    """The repository, as https://github.com/team/project. An ssh URL is spoken as https to the same server."""
    ref: Annotated[str, Field(min_length=1, max_length=200), REF, REF_NAME] | None = None
    """The branch, tag or commit that is checked out. Default: what the server's HEAD names."""
    depth: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many commits of history are fetched. Default: all."""
    submodules: bool = False
    """Whether its submodules are cloned too: those that are declared here themselves, or that need no credential."""
    lfs: bool = False
    """Whether files that Git LFS keeps are fetched."""
    credentials_secret_ref: GitSecretRef | None = None
    """A Secret that opted in, with the credential for the server. Without it: a repository that anybody may read.

    A Secret opts in by its type `claudesandbox.dev/git`, or by the label `claudesandbox.dev/git: "true"`. Its key
    `host` names the server that it is for; the credential is in `token`, or in `username` and `password`, or is a
    GitHub App's key in `app-id`, `installation-id` and `private-key`.
    """
    push: Push | None = None
    """What may be pushed. Without it the repository is read-only."""

    RULES = (
        Rule(
            "!has(self.push) || has(self.credentialsSecretRef)",
            lambda found: found.push is None or found.credentials_secret_ref is not None,
            "needs credentialsSecretRef, since no server lets anybody push: name the Secret with the credential, or"
            " remove it",
            field="push",
        ),
    )


NOT_NESTED = Rule(
    "self.all(a, self.all(b, !b.path.startsWith(a.path + '/')))",
    lambda found: not any(b.path.startswith(f"{a.path}/") for a in found for b in found),
    "has a repository inside of another one: give each a path of its own",
)
URL_ONCE = Rule(
    "self.all(a, self.exists_one(b, a.url == b.url))",
    lambda found: len({one.url for one in found}) == len(found),
    "lists a URL twice: write each once",
)
