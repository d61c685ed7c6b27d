"""The credentials of a sandbox's services, read out of their Secrets at the moment that its gateway is told of them.

One that is not there, has not opted in, or is for another host is none: the service that needs it is refused, and
nothing else.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.docker.keys.delivery import KeyUnavailableError
from claude_sandbox.blueprint.model import GatewayService, Identity
from claude_sandbox.gateway.services.declared import SCOPE_KEY, serves
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SECRETS
from claude_sandbox.kubernetes_api.unstructured import labels

Texts = dict[str, bytearray]
"""Credentials by `SECRET/KEY`. To be wiped by who has asked for them."""


class ServiceCredentials(Protocol):
    """Where they come from."""

    def generation(self, namespace: str, secret: str) -> str | None:
        """The resourceVersion of a Secret that opted in, as last seen; None of any other."""

    async def read(self, identity: Identity, services: Iterable[GatewayService]) -> Texts:
        """Those that there are, read now. Raises KeyUnavailableError where the API server does not tell."""


class NoServiceCredentials:
    """There are none."""

    def generation(self, namespace: str, secret: str) -> str | None:
        """See ServiceCredentials."""
        return None

    async def read(self, identity: Identity, services: Iterable[GatewayService]) -> Texts:
        """See ServiceCredentials."""
        return {}


class ServiceSecrets:
    """Of one control plane. Keeps none. `opted_in`: the metadata of a Secret that opted in to this, as last seen."""

    def __init__(self, api: Api, opted_in: Callable[[str, str], Mapping[str, Any] | None]) -> None:
        self._api = api
        self._opted_in = opted_in

    def generation(self, namespace: str, secret: str) -> str | None:
        """See ServiceCredentials."""
        seen = self._opted_in(namespace, secret)
        return str(seen["metadata"]["resourceVersion"]) if seen is not None else None

    async def read(self, identity: Identity, services: Iterable[GatewayService]) -> Texts:
        """See ServiceCredentials."""
        found: Texts = {}
        for service in services:
            header = service.header
            if header is None:
                continue
            try:
                live = await self._api.get(SECRETS, header.secret, identity.namespace)
            except ApiError as error:
                if error.is_not_found:
                    continue
                where = f"Secret {identity.namespace}/{header.secret}"
                raise KeyUnavailableError(
                    Reason.RETRYING, f"{where}, of the service {service.name}, could not be read: {error.reason}."
                ) from None
            value = credential_in(live, header.key, service.host)
            if value is not None:
                found[f"{header.secret}/{header.key}"] = value
        return found


def credential_in(secret: Mapping[str, Any], key: str, host: str) -> bytearray | None:
    """The credential in a Secret that opted in to being used for the service at this host; None in any other."""
    by_label = labels(secret).get(meta.SERVICE_SECRET_TYPE) == meta.LABEL_SECRET_OPT_IN_VALUE
    if not by_label and secret.get("type") != meta.SERVICE_SECRET_TYPE:
        return None
    data = secret.get("data") or {}
    scope = _decoded(data.get(SCOPE_KEY)).decode("ascii", "replace")
    value = _decoded(data.get(key)) if serves(scope, host.removesuffix(":443")) else bytearray()
    return value if value.strip() else None


def _decoded(encoded: str | None) -> bytearray:
    try:
        return bytearray(base64.b64decode(encoded or "", validate=True))
    except (binascii.Error, ValueError):
        return bytearray()
