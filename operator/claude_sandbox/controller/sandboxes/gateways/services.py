"""Services whose credentials can't be had, by what their gateway has told: in which field, of which Secret, and what to
do. Pure."""

from collections.abc import Iterable, Sequence

from claude_sandbox.api import meta
from claude_sandbox.api.clip import clip
from claude_sandbox.api.status_fields.usage import ServiceTrouble, UnopenedService
from claude_sandbox.blueprint.model import GatewayService, ServiceHeader
from claude_sandbox.gateway.destinations.scopes import SCOPE_KEY

_LONGEST = 60
"""Bytes of a name in a message, so that the remedy is not cut."""


def without_credential(services: Sequence[GatewayService], told: Iterable[UnopenedService]) -> str:
    """What to do about the services that lack their credential; empty where none of those that are declared does."""
    why = {one.name: one.why for one in told}
    found = [
        _one(index, one, one.header, why[one.name])
        for index, one in enumerate(services)
        if one.header is not None and one.name in why
    ]
    if not found:
        return ""
    more = f" {len(found) - 1} more of spec.services lack theirs." if found[1:] else ""
    return f"{found[0]}{more}"


def _one(index: int, service: GatewayService, header: ServiceHeader, why: ServiceTrouble) -> str:
    field = f"spec.services[{index}].header.valueFrom.secretKeyRef"
    return f"The service {service.name} lacks its credential ({field}): {_remedy(service, header, why)}."


def _remedy(service: GatewayService, header: ServiceHeader, why: ServiceTrouble) -> str:
    secret, key, host = (clip(text, _LONGEST) for text in (header.secret, header.key, service.host))
    match why:
        case ServiceTrouble.NO_SECRET:
            return f"there is no Secret {secret}; make it, of type {meta.SERVICE_SECRET_TYPE}"
        case ServiceTrouble.NOT_OPTED_IN:
            label = f"{meta.SERVICE_SECRET_TYPE}={meta.LABEL_SECRET_OPT_IN_VALUE}"
            return f"Secret {secret} has not opted in to being used for services; give it the label {label}"
        case ServiceTrouble.OTHER_HOST:
            return f"Secret {secret} is not for {host}; put that into its key `{SCOPE_KEY}` if it is meant to be"
        case ServiceTrouble.NO_KEY:
            return f"Secret {secret} has no good key {key}; put the credential there as one word"
        case ServiceTrouble.NOT_READ:
            return f"the gateway could not read Secret {secret}; its log says why, and it tries again"
