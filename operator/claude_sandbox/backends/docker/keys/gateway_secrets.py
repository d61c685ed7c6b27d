"""The credentials that a sandbox's gateway has beside its key, read out of their Secrets when it is told of them.

Those of services are one key of a Secret, those of repositories all keys of one that git's credentials can be in. A
Secret that is not there, has not opted in to that use, or is for another host is none: what needs it is refused, and
nothing else.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.docker.keys.delivery import KeyUnavailableError
from claude_sandbox.backends.docker.keys.gateway_texts import GatewayTexts, Texts
from claude_sandbox.blueprint.model import Gateway, GatewayRepository, GatewayService, Identity
from claude_sandbox.gateway.config.follow import MAX_SECRET, secret_text
from claude_sandbox.gateway.destinations.scopes import SCOPE_KEY, scope_of, serves
from claude_sandbox.gateway.git.credentials import credential as git
from claude_sandbox.gateway.services.declared import Unopened
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SECRETS
from claude_sandbox.kubernetes_api.unstructured import labels


class GatewayCredentials(Protocol):
    """Where they come from."""

    def generation(self, namespace: str, secret: str, use: str) -> str | None:
        """The resourceVersion of a Secret that opted in to this use (its type), as last seen; None of any other."""

    async def read(self, identity: Identity, gateway: Gateway) -> GatewayTexts:
        """Those that there are, read now. Raises KeyUnavailableError where the API server does not tell."""


class NoGatewayCredentials:
    """There are none."""

    def generation(self, namespace: str, secret: str, use: str) -> str | None:
        """See GatewayCredentials."""
        return None

    async def read(self, identity: Identity, gateway: Gateway) -> GatewayTexts:
        """See GatewayCredentials."""
        return GatewayTexts()


class GatewaySecrets:
    """Of one control plane. Keeps none. `opted_in`: the metadata of a Secret that opted in to a use, as last seen."""

    def __init__(self, api: Api, opted_in: Callable[[str, str, str], Mapping[str, Any] | None]) -> None:
        self._api = api
        self._opted_in = opted_in

    def generation(self, namespace: str, secret: str, use: str) -> str | None:
        """See GatewayCredentials."""
        seen = self._opted_in(namespace, secret, use)
        return str(seen["metadata"]["resourceVersion"]) if seen is not None else None

    async def read(self, identity: Identity, gateway: Gateway) -> GatewayTexts:
        """See GatewayCredentials."""
        found = GatewayTexts()
        try:
            found.unopened = await self._read_services(identity, gateway.services, found.services)
            await self._read_git(identity, gateway.repositories, found.git)
        # Also where it is cancelled: what was read by then would stay in memory.
        except BaseException:
            found.wipe()
            raise
        return found

    async def _read_services(
        self, identity: Identity, services: Iterable[GatewayService], found: Texts
    ) -> dict[str, Unopened]:
        # By the service's name: two services may name one Secret, which is for the host of one of them.
        unopened: dict[str, Unopened] = {}
        for service in services:
            header = service.header
            if header is None:
                continue
            live = await self._secret(identity, header.secret, f"the service {service.name}")
            value = service_credential(live, header.key, service.host) if live is not None else Unopened.NO_SECRET
            if isinstance(value, Unopened):
                unopened[service.name] = value
            else:
                found[service.name] = value
        return unopened

    async def _read_git(
        self, identity: Identity, repositories: Iterable[GatewayRepository], found: dict[str, Texts]
    ) -> None:
        users = {one.secret: one.url for one in repositories if one.secret is not None}
        for secret, url in users.items():
            live = await self._secret(identity, secret, f"the repository {url}")
            data = git_credential(live) if live is not None else None
            if data is not None:
                found[secret] = data

    async def _secret(self, identity: Identity, name: str, user: str) -> Mapping[str, Any] | None:
        try:
            return await self._api.get(SECRETS, name, identity.namespace)
        except ApiError as error:
            if error.is_not_found:
                return None
            where = f"Secret {identity.namespace}/{name}"
            raise KeyUnavailableError(
                Reason.RETRYING, f"{where}, of {user}, could not be read: {error.reason}."
            ) from None


def with_generations(gateway: Gateway, generation: Callable[[str, str], str | None]) -> Gateway:
    """With which of its Secrets there are now, so that what it is told is another message for another Secret.

    `generation`: of a Secret's name and its use, as `GatewayCredentials.generation`.
    """
    services = tuple(
        replace(one, header=replace(one.header, generation=generation(one.header.secret, meta.SERVICE_SECRET_TYPE)))
        if one.header is not None
        else one
        for one in gateway.services
    )
    repositories = tuple(
        replace(one, generation=generation(one.secret, meta.GIT_SECRET_TYPE)) if one.secret is not None else one
        for one in gateway.repositories
    )
    return replace(gateway, services=services, repositories=repositories)


def service_credential(secret: Mapping[str, Any], key: str, host: str) -> bytearray | Unopened:
    """The credential in a Secret that opted in to being used for the service at this host; of any other why not."""
    if not _opted_in(secret, meta.SERVICE_SECRET_TYPE):
        return Unopened.NOT_OPTED_IN
    data = secret.get("data") or {}
    scope = _decoded(data.get(SCOPE_KEY)).decode("ascii", "replace")
    # Who may write the sandbox chooses the host; for which host a credential is, the Secret says.
    if not serves(scope_of(scope), scope_of(host)):
        return Unopened.OTHER_HOST
    value = _decoded(data.get(key))
    return value if secret_text(bytes(value)) is not None else Unopened.NO_KEY


def git_credential(secret: Mapping[str, Any]) -> Texts | None:
    """What the gateway reads of a Secret that opted in to being used for git; None of any other.

    For which server it is, the gateway sees.
    """
    if not _opted_in(secret, meta.GIT_SECRET_TYPE):
        return None
    data = secret.get("data") or {}
    return {key: _decoded(data[key]) for key in (SCOPE_KEY, *git.SECRET_KEYS) if key in data}


def _opted_in(secret: Mapping[str, Any], use: str) -> bool:
    """By its type, or by a label of the same name."""
    return labels(secret).get(use) == meta.LABEL_SECRET_OPT_IN_VALUE or secret.get("type") == use


def _decoded(encoded: str | None) -> bytearray:
    """The value, with a byte more at most than one may have: what is too long is seen to be, and a gateway's message
    has room for all."""
    try:
        value = bytearray(base64.b64decode(encoded or "", validate=True))
    except (binascii.Error, ValueError):
        return bytearray()
    del value[MAX_SECRET + 1 :]
    return value
