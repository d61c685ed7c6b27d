"""The services of a sandbox: what its gateway is told, and how programs in it find package registries. Pure.

Programs are told by variables and nothing else. The agent may set others for itself, and gains nothing: the gateway
decides, and no credential is here.
"""

from collections.abc import Iterable, Iterator

from claude_sandbox.api.fields.services import RegistryType, Service
from claude_sandbox.blueprint.model import GatewayService, ServiceHeader
from claude_sandbox.gateway.destinations.domains import PatternError, parse_pattern
from claude_sandbox.gateway.services.declared import SUFFIX

_PATHS = {RegistryType.PYPI: "/simple/"}


def refused_services(services: Iterable[Service]) -> Iterator[tuple[int, str]]:
    """The positions of services whose host the gateway lets nobody have, and why, with what to write instead."""
    for index, one in enumerate(services):
        try:
            parse_pattern(one.host)
        except PatternError as error:
            yield index, str(error)


def for_gateway(services: Iterable[Service]) -> tuple[GatewayService, ...]:
    """The services in the gateway's own words."""
    return tuple(
        GatewayService(
            one.name,
            one.host,
            ServiceHeader(
                one.header.name,
                one.header.prefix or "",
                one.header.value_from.secret_key_ref.name,
                one.header.value_from.secret_key_ref.key,
            )
            if one.header is not None
            else None,
            tuple(one.paths),
            tuple(method.value for method in one.methods),
            one.requests_per_minute,
            one.registry.type.value if one.registry is not None else None,
        )
        for one in services
    )


def environment(services: Iterable[Service]) -> dict[str, str]:
    """The variables by which programs find the registries."""
    found: dict[str, str] = {}
    for one in services:
        if one.registry is not None:
            path = one.registry.path or _PATHS.get(one.registry.type, "/")
            found |= _variables(one.registry.type, one.name, f"http://{one.name}{SUFFIX}{path}")
    return found


def _variables(kind: RegistryType, name: str, url: str) -> dict[str, str]:
    match kind:
        case RegistryType.PYPI:
            return {"PIP_INDEX_URL": url, "PIP_TRUSTED_HOST": f"{name}{SUFFIX}", "UV_DEFAULT_INDEX": url}
        case RegistryType.NPM:
            # Whatever host a list of packages names, npm asks this one.
            return {"NPM_CONFIG_REGISTRY": url, "NPM_CONFIG_REPLACE_REGISTRY_HOST": "always"}
        case RegistryType.CARGO:
            return {f"CARGO_REGISTRIES_{name.upper().replace('-', '_')}_INDEX": f"sparse+{url}"}
