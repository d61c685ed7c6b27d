"""The services of a sandbox: what its gateway is told, and how programs in it find package registries. Pure.

Programs are told by variables; Maven, which knows no variable for a repository, by a file beside Claude Code's managed
settings, which a variable names. The agent may set others for itself, and gains nothing: the gateway decides, and no
credential is here.
"""

from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape

from claude_sandbox.api.fields.work.services import Registry, RegistryType, Service
from claude_sandbox.blueprint.agent import SETTINGS_DIRECTORY
from claude_sandbox.blueprint.model import GatewayService, ServiceHeader
from claude_sandbox.claudecode.given import MAVEN_FILE
from claude_sandbox.gateway.destinations.domains import PatternError, parse_pattern
from claude_sandbox.gateway.services.declared import SUFFIX

_MAVEN = """\
<?xml version="1.0" encoding="UTF-8"?>
<settings>
  <mirrors>
    <mirror>
      <id>{name}</id>
      <url>{url}</url>
      <mirrorOf>external:*</mirrorOf>
    </mirror>
  </mirrors>
</settings>
"""
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
            found |= _variables(one.registry.type, one.name, _url(one, one.registry))
    return found


def files(services: Iterable[Service]) -> tuple[tuple[str, str], ...]:
    """What is in the directory of managed settings so that programs find the registries, by its path there."""
    return tuple(
        (MAVEN_FILE, _MAVEN.format(name=one.name, url=escape(_url(one, one.registry))))
        for one in services
        if one.registry is not None and one.registry.type is RegistryType.MAVEN
    )


def _url(service: Service, registry: Registry) -> str:
    return f"http://{service.name}{SUFFIX}{registry.path or _PATHS.get(registry.type, '/')}"


def _variables(kind: RegistryType, name: str, url: str) -> dict[str, str]:
    match kind:
        case RegistryType.PYPI:
            return {"PIP_INDEX_URL": url, "PIP_TRUSTED_HOST": f"{name}{SUFFIX}", "UV_DEFAULT_INDEX": url}
        case RegistryType.NPM:
            # Whatever host a list of packages names, npm asks this one.
            return {"NPM_CONFIG_REGISTRY": url, "NPM_CONFIG_REPLACE_REGISTRY_HOST": "always"}
        case RegistryType.MAVEN:
            # Of Maven's own settings, not the user's: those come before them, and are the agent's to write.
            return {"MAVEN_ARGS": f"--global-settings {SETTINGS_DIRECTORY}/{MAVEN_FILE}"}
        case RegistryType.CARGO:
            return {f"CARGO_REGISTRIES_{name.upper().replace('-', '_')}_INDEX": f"sparse+{url}"}
