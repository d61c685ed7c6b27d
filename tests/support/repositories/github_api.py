"""GitHub's API for Apps, as far as it gives tokens of an installation; and what a server does with these tokens."""

import base64
import datetime
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_BY_HAND: Any = {"require": ["iat", "exp", "iss"], "verify_exp": False, "verify_iat": False}
APP, INSTALLATION = "12345", 678


def private_key(bits: int = 2048) -> tuple[str, Any]:
    """In PEM as GitHub gives it, and the public one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return pem.decode(), key.public_key()


@dataclass
class GitHub:
    """One App with one installation, for these repositories (OWNER/NAME) and permissions."""

    public: Any
    repositories: tuple[str, ...] = ("team/project",)
    contents: str = "write"
    lasts: float = 3600.0
    clock: Callable[[], float] = time.time
    answers: web.Response | None = None
    """What is answered next, whatever is asked."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    given: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Tokens: for which repository, with which permission."""
    statements: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Requests below `/api/v3`."""
        if self.answers is not None:
            answer, self.answers = self.answers, None
            return answer
        said = request.headers["authorization"].removeprefix("Bearer ")
        self.statements.append(said)
        try:
            claims = jwt.decode(said, self.public, algorithms=["RS256"], options=_BY_HAND)
        except jwt.InvalidTokenError as error:
            return _refused(401, str(error))
        now = self.clock()
        if claims["iss"] != APP or not claims["iat"] <= now < claims["exp"] <= now + 600:
            return _refused(401, "'Expiration time' claim ('exp') is too far in the future")
        if (request.method, request.path) != ("POST", f"/api/v3/app/installations/{INSTALLATION}/access_tokens"):
            return _refused(404, "Not Found")
        asked = await request.json()
        self.asked.append(asked)
        return self._given(asked)

    def _given(self, asked: dict[str, Any]) -> web.Response:
        found = [one for one in self.repositories if one.partition("/")[2] in asked["repositories"]]
        if not found:
            return _refused(422, "There is at least one repository that does not exist or is not accessible")
        if asked["permissions"] != {"contents": "read"} and self.contents != "write":
            return _refused(422, "The permissions requested are not granted to this installation.")
        token = "ghs_" + secrets.token_hex(18)
        self.given[token] = (found[0], asked["permissions"]["contents"])
        ends = datetime.datetime.fromtimestamp(self.clock() + self.lasts, datetime.UTC)
        body = {
            "token": token,
            "expires_at": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "permissions": asked["permissions"],
            "repositories": [{"full_name": one} for one in found],
        }
        return web.Response(status=201, body=json.dumps(body), content_type="application/json")

    def takes(self, request: web.Request) -> bool:
        """Whether the server lets this request to a repository in."""
        user, _, token = base64.b64decode(request.headers.get("authorization", "Basic ")[6:]).decode().partition(":")
        repository, permission = self.given.get(token, ("", ""))
        writes = "git-receive-pack" in request.path_qs
        return (
            user == "x-access-token"
            and request.path.startswith((f"/{repository}/", f"/{repository}.git/"))
            and (permission == "write" or not writes)
        )


def _refused(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=json.dumps({"message": message}), content_type="application/json")
