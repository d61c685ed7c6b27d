"""What opens a repository at its server: read from the keys of a Secret of type `claudesandbox.dev/git`. Pure.

One of three, and nothing of two:

- `token`: sent as the password of any user, as GitHub, GitLab and Gitea take it;
- `username` and `password`, as in a Secret of type `kubernetes.io/basic-auth`;
- `app-id`, `installation-id` and `private-key` of a GitHub App, from which short-lived tokens are made.

What is secret is in no repr and in no message.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_sandbox.gateway.destinations.scopes import SCOPE_KEY, scope_of

SECRET_KEYS = ("token", "username", "password", "app-id", "installation-id", "private-key")
"""Keys of the Secret that are read; what else is in it is left alone."""
_FORMS = (("token",), ("username", "password"), ("app-id", "installation-id", "private-key"))
# Of GitHub, GitLab and Gitea alike, a token is the password of any user.
ANY_USER = "x-access-token"
_APP_ID = re.compile(r"[A-Za-z0-9.]{1,100}")
_MOST = 16 * 1024
"""Bytes of one value."""


class CredentialError(ValueError):
    """The Secret's data is no credential. The message names the key and says what to write; it has nothing of a
    value in it."""

    def __init__(self, key: str, remedy: str) -> None:
        super().__init__(f"{key}: {remedy}")
        self.key = key
        self.remedy = remedy


@dataclass(frozen=True)
class Password:
    """A user's, or a token in place of it."""

    user: str
    secret: str = field(repr=False)

    def header(self) -> str:
        """The value of `Authorization` (RFC 7617, with UTF-8)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


@dataclass(frozen=True)
class AppKey:
    """A GitHub App that is installed for an account. `app_id`: its number, or its client ID; `private_key` in PEM."""

    app_id: str
    installation_id: int
    private_key: str = field(repr=False)


GitCredential = Password | AppKey


def read_credential(data: Mapping[str, bytes]) -> GitCredential:
    """The credential in a Secret's data, which is decoded from base64 already. Raises CredentialError."""
    keys = {key for key in SECRET_KEYS if key in data}
    form = next((one for one in _FORMS if keys & set(one)), None)
    if form is None:
        raise CredentialError("data", f"no credential is in it: write {' or '.join(' and '.join(x) for x in _FORMS)}")
    for key in form:
        if key not in keys:
            raise CredentialError(key, f"it is missing: {' and '.join(form)} go together")
    if others := sorted(keys - set(form)):
        raise CredentialError(others[0], f"it is there beside {form[0]}, and only one of them is used: remove one")
    if form[0] == "token":
        return Password(ANY_USER, _visible(data, "token"))
    if form[0] == "username":
        user = _line(data, "username")
        if ":" in user:
            raise CredentialError("username", "a name has no colon: write it without the password")
        return Password(user, _line(data, "password"))
    return _app(data)


def read_scope(data: Mapping[str, bytes]) -> str:
    """Which server the credential in a Secret's data is for, or which repositories there. Raises CredentialError."""
    if SCOPE_KEY not in data:
        raise CredentialError(SCOPE_KEY, "it is missing: write the server that the credential is for, as in github.com")
    return scope_of(_visible(data, SCOPE_KEY))


def _app(data: Mapping[str, bytes]) -> AppKey:
    # 9 MB of libraries, which only the key of an App needs.
    from claude_sandbox.gateway.git.credentials.github import why_not_a_key

    app, installation = _visible(data, "app-id"), _visible(data, "installation-id")
    if not _APP_ID.fullmatch(app):
        raise CredentialError("app-id", "write the App's number or client ID, as its settings show it")
    if not installation.isdecimal() or len(installation) > 18:
        raise CredentialError("installation-id", "write the number at the end of the installation's URL")
    private = _text(data, "private-key")
    if (why := why_not_a_key(private)) is not None:
        raise CredentialError("private-key", f"{why}: write the file that GitHub gave for the App, as it is")
    return AppKey(app, int(installation), private)


def _visible(data: Mapping[str, bytes], key: str) -> str:
    found = _line(data, key)
    if not found.isascii() or " " in found:
        raise CredentialError(key, "it has characters that none has: write it as it was given")
    return found


def _line(data: Mapping[str, bytes], key: str) -> str:
    found = _text(data, key)
    if not found.isprintable():
        raise CredentialError(key, "it is more than one line of text: write it as it was given")
    return found


def _text(data: Mapping[str, bytes], key: str) -> str:
    """Without blanks around it: who writes a file mostly ends its line."""
    if len(data[key]) > _MOST:
        raise CredentialError(key, f"it has more than {_MOST} bytes: write it as it was given")
    try:
        found = data[key].decode().strip()
    except UnicodeDecodeError:
        raise CredentialError(key, "it is no text: write it as it was given") from None
    if not found:
        raise CredentialError(key, "it is empty: write it as it was given")
    return found
