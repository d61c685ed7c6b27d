"""A client of registries, by the distribution API (github.com/opencontainers/distribution-spec).

Theory of operation. Holds the connections of `reach` and, by registry, repository and login, what the registry last
wanted of who asks: a token of its token server, or the login itself. A crash loses both. Each call asks one registry,
which its caller has made sure may be asked. Always true: what is named by a digest is given only where it has that
digest, and of a tag the digest is computed from what came, whatever a header says. A login goes to its registry and to
where that says that tokens are had, by TLS; without one nothing secret is sent.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from claude_sandbox.api.references import DEFAULT_REGISTRY, Reference
from claude_sandbox.backends.docker.engine.connection.client_credentials import RegistryLogin
from claude_sandbox.controller.images.registry.reach import Reach, RegistryError, UnusableError, Way
from claude_sandbox.controller.images.strangers import read

MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_HUB = "registry-1.docker.io"
_DIGEST = re.compile("sha256:[a-f0-9]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_MOST_PLACES = 4096
_NO_SUCH_CALL = frozenset({400, 404, 406})
"""What registries answer that keep no list of what refers to an image. The specification knows the second only;
go-containerregistry (pkg/v1/remote/referrers.go), which cosign is made with, takes all three for it."""


class NotThereError(UnusableError):
    """The registry has no such thing."""


@dataclass(frozen=True)
class Manifest:
    """A manifest or an index, with the digest of its bytes."""

    digest: str
    content: Mapping[str, Any]


class RegistryClient:
    """An asynchronous context manager. `way`, of each call: how the registry may be asked."""

    def __init__(self) -> None:
        self._reach: Reach | None = None
        self._wanted: dict[tuple[str, ...], str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reach is not None:
            await self._reach.close()

    async def manifest(self, image: Reference, wanted: str, way: Way) -> Manifest:
        """The manifest of a tag or a digest. Raises RegistryError."""
        body = await self._get(image, f"manifests/{wanted}", way, accept=", ".join(MANIFESTS))
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if _DIGEST.fullmatch(wanted) and digest != wanted:
            raise UnusableError(f"{image.registry} gave something else than it was asked for")
        return Manifest(digest, _mapping(image, body))

    async def blob(self, image: Reference, digest: str, way: Way) -> bytes:
        """What has this digest. Raises RegistryError."""
        if not _DIGEST.fullmatch(digest):
            raise UnusableError(f"{image.registry} names something by no digest")
        body = await self._get(image, f"blobs/{digest}", way)
        if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
            raise UnusableError(f"{image.registry} gave something else than it was asked for")
        return body

    async def referrers(self, image: Reference, digest: str, way: Way) -> tuple[Mapping[str, Any], ...]:
        """Descriptors of what refers to the digest, where the registry keeps these. Raises RegistryError."""
        try:
            body = await self._get(image, f"referrers/{digest}", way, absent=_NO_SUCH_CALL)
        except NotThereError:
            # Of a registry that has no such call they are an index at a tag.
            try:
                tag = digest.replace(":", "-")
                body = await self._get(image, f"manifests/{tag}", way, accept=", ".join(MANIFESTS))
            except NotThereError:
                return ()
        found = _mapping(image, body).get("manifests")
        return tuple(one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()

    async def _get(
        self, image: Reference, path: str, way: Way, *, accept: str = "*/*", absent: frozenset[int] = frozenset({404})
    ) -> bytes:
        host = _host(image)
        url = f"{'http' if way.plain_http else 'https'}://{host}/v2/{image.path}/{path}"
        place = (image.registry, image.path, _mark(way))
        reach = self._reached()
        said = await reach.get(url, _headers(accept, self._wanted.get(place)), way, host)
        # Asked once without, or with what was wanted last time: a token that has expired is answered by a challenge
        # too.
        if said.status == 401 and (wanted := await self._answer_to(said.challenges, image, way)) is not None:
            if len(self._wanted) >= _MOST_PLACES:
                # All of it: each is had again by one more request, and nobody else's memory is taken.
                self._wanted.clear()
            self._wanted[place] = wanted
            said = await reach.get(url, _headers(accept, wanted), way, host)
        if said.status in absent:
            raise NotThereError(f"{image.registry} has no such thing as {image.path}/{path}")
        if said.status in (401, 403):
            whom = "this login" if way.login is not None else "nobody"
            raise RegistryError(f"{image.registry} answers {said.status}: it lets {whom} ask for {image.path}")
        if said.status != 200:
            raise RegistryError(f"{image.registry} answers {said.status}")
        return said.body

    def _reached(self) -> Reach:
        if self._reach is None:
            self._reach = Reach()
        return self._reach

    async def _answer_to(self, challenges: Iterable[str], image: Reference, way: Way) -> str | None:
        """What to send; None where the registry asks for nothing that could be sent. Raises RegistryError."""
        for kind, parameters in map(_asked, challenges):
            if kind == "bearer" and "realm" in parameters:
                return f"Bearer {await self._token(parameters, image, way)}"
            # A password is sent by TLS only, whatever the registry asks for.
            if kind == "basic" and way.login is not None and not way.plain_http:
                return _basic(way.login)
        return None

    async def _token(self, challenge: Mapping[str, str], image: Reference, way: Way) -> str:
        realm = challenge["realm"]
        # The registry chooses where tokens are had; a login goes there, so never without TLS.
        if not realm.startswith("https://"):
            raise RegistryError(f"{image.registry} has its tokens where there is no TLS")
        query = {"scope": f"repository:{image.path}:pull"}
        query |= {"service": challenge["service"]} if "service" in challenge else {}
        headers = {} if way.login is None else {"Authorization": _basic(way.login)}
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}"
        said = await self._reached().get(url, headers, way, _host(image))
        found = _mapping(image, said.body) if said.status == 200 else {}
        token = found.get("token") or found.get("access_token")
        # It becomes a header: a line's end in it would begin another one.
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            without = "without logging in" if way.login is None else "with this login"
            raise RegistryError(f"{image.registry} lets nobody ask for {image.path} {without}")
        return token


def _host(image: Reference) -> str:
    return _HUB if image.registry == DEFAULT_REGISTRY else image.registry


def _headers(accept: str, authorization: str | None) -> dict[str, str]:
    return {"Accept": accept} | ({} if authorization is None else {"Authorization": authorization})


def _basic(login: RegistryLogin) -> str:
    return f"Basic {base64.b64encode(f'{login.username}:{login.password}'.encode()).decode()}"


def _mark(way: Way) -> str:
    """What tells the answers that one login has had from another's."""
    return "" if way.login is None else hashlib.sha256(_basic(way.login).encode()).hexdigest()


def _asked(challenge: str) -> tuple[str, Mapping[str, str]]:
    """What a registry says of how to log in."""
    kind, _, rest = challenge.partition(" ")
    return kind.lower(), dict(_CHALLENGE.findall(rest))


def _mapping(image: Reference, body: bytes) -> Mapping[str, Any]:
    found = read(body)
    if not isinstance(found, dict):
        raise UnusableError(f"{image.registry} gave what can't be read")
    return found
