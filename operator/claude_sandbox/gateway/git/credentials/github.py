"""What GitHub's API is asked for, so that a GitHub App's key opens one repository for a short while. No I/O but the
library's look at a key.

The key signs a statement (a JWT) of who asks; for it the API gives a token of an installation, which is for the named
repositories and permissions only, and lasts an hour
(https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import jwt
from jwt.algorithms import RSAAlgorithm

MOST_ANSWER = 1024 * 1024
"""Bytes of an answer that are read."""
_ALGORITHM = "RS256"
# GitHub takes statements that end within ten minutes, and advises to date them back by one, since clocks differ
# (https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app).
_EARLIER = 60
_LASTS = 540
_SHORTEST_KEY = 2048
"""Bits. GitHub gives no shorter one."""


class AnswerError(Exception):
    """The API gives no token. The text is shown by git, and has nothing of what the API said in it, since that may
    repeat what it was sent."""


@dataclass(frozen=True)
class Token:
    """`ends`: seconds since the epoch."""

    text: str = field(repr=False)
    ends: float


@dataclass(frozen=True)
class Wanted:
    """A token for one repository. `url`: where it is asked for; `name`: OWNER/NAME, as the repository's URL has it."""

    url: str
    name: str
    write: bool

    def body(self) -> bytes:
        """The least with which git works: contents alone, so that no workflow, issue or setting is in reach."""
        permissions = {"contents": "write" if self.write else "read"}
        return json.dumps({"repositories": [self.name.partition("/")[2]], "permissions": permissions}).encode()


def wanted(repository: str, installation_id: int, *, write: bool) -> Wanted | None:
    """For the repository at this URL; None where it can't be one of GitHub's, which are at /OWNER/NAME."""
    parts = urlsplit(repository)
    name = parts.path.strip("/").removesuffix(".git")
    if name.count("/") != 1:
        return None
    base = api_url(parts.hostname or "", parts.port)
    return Wanted(f"{base}/app/installations/{installation_id}/access_tokens", name, write)


def api_url(host: str, port: int | None) -> str:
    """The API of the server that has repositories at this host, without a slash at its end."""
    if host == "github.com":
        return "https://api.github.com"
    # GitHub Enterprise Cloud with data residency has each enterprise at SUBDOMAIN.ghe.com, and its API at api.….
    if host.endswith(".ghe.com"):
        return f"https://api.{host}"
    authority = host if port in (None, 443) else f"{host}:{port}"
    return f"https://{authority}/api/v3"


def why_not_a_key(private_key: str) -> str | None:
    """Why no statement can be signed with this PEM; None where one can."""
    try:
        key = RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(private_key)
    except (ValueError, TypeError, jwt.exceptions.InvalidKeyError):
        return "it is no private RSA key in PEM, or has a passphrase"
    if not hasattr(key, "private_numbers"):
        return "it is a public key"
    if key.key_size < _SHORTEST_KEY:
        return f"it has less than {_SHORTEST_KEY} bits"
    return None


def statement(app_id: str, private_key: str, now: float) -> str:
    """Who asks, signed. `now` in seconds since the epoch."""
    claims = {"iat": int(now) - _EARLIER, "exp": int(now) + _LASTS, "iss": app_id}
    return jwt.encode(claims, private_key, algorithm=_ALGORITHM)


def read_answer(asked: Wanted, status: int, body: bytes) -> Token:
    """The token. Raises AnswerError."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if status != 201 or not isinstance(found, dict):
        raise AnswerError(_why_not(asked, status, found))
    return Token(_text_of(found), _granted(asked, found))


def _text_of(found: Mapping[str, Any]) -> str:
    text = found.get("token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or not 0 < len(text) <= 8192:
        raise AnswerError("GitHub's API gives no token")
    return text


def _granted(asked: Wanted, found: Mapping[str, Any]) -> float:
    """When the token ends, if it is for this repository alone: names are the installation's, whoever the owner is."""
    named = found.get("repositories")
    names = [str(one.get("full_name")) for one in named if isinstance(one, dict)] if isinstance(named, list) else []
    # GitHub was given the name without its owner: in another account's installation there may be one of the same name.
    if [one.casefold() for one in names] != [asked.name.casefold()]:
        raise AnswerError("the GitHub App's installation is not for this repository's owner: see its installation-id")
    try:
        return datetime.fromisoformat(found["expires_at"]).timestamp()
    except (KeyError, TypeError, ValueError):
        raise AnswerError("GitHub's API does not say how long its token lasts") from None


def _why_not(asked: Wanted, status: int, found: Any) -> str:
    said = str(found.get("message", "")).lower() if isinstance(found, dict) else ""
    if status == 401:
        return "GitHub does not take the App's key: see app-id and private-key of its Secret, and this machine's clock"
    if status == 404:
        return "GitHub knows no such installation of the App: see installation-id of its Secret"
    if status == 422 and "permission" in said:
        needed = "write" if asked.write else "read"
        return f"the GitHub App's installation has no permission to {needed} contents: grant it at GitHub"
    if status == 422:
        return "the GitHub App is not installed for this repository: add the repository to its installation"
    if status in (403, 429):
        return f"GitHub refuses the App for now (HTTP {status}): it is suspended, or has asked too often"
    return f"GitHub's API gives no token: HTTP {status}"
