"""What administrators say for all gateways, in the gateway's own format. Pure."""

import json
import ssl
from collections.abc import Callable
from typing import Any

from claude_sandbox.gateway.config.bundle import BundleError, certificates
from claude_sandbox.gateway.config.config import parse
from claude_sandbox.gateway.config.fields import ConfigError

SECTIONS = ("provider", "egress", "limits")


class GatewaySettingsError(Exception):
    """The document can't be followed; the message names the field and what to write."""


def _no_files(_name: str) -> str:
    raise BundleError("no file can be read from here: write the certificates into caBundle")


def gateway_settings(text: str, read: Callable[[str], str] = _no_files) -> dict[str, Any]:
    """The document's sections, with the certificates of each `caFile` in it as `caBundle`: a gateway has no files, and
    what it is told is in its memory. `read`: the text of a file that the document names. Raises GatewaySettingsError,
    and what `read` raises.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise GatewaySettingsError("it is no JSON: mend it") from None
    if not isinstance(found, dict) or not set(found) <= set(SECTIONS):
        raise GatewaySettingsError(f"it has to be an object with some of {', '.join(SECTIONS)}, and nothing else")
    _parsed(found)
    for name in ("provider", "egress"):
        _bundle_in(found.get(name) or {}, name, read)
    return found


def _bundle_in(section: dict[str, Any], name: str, read: Callable[[str], str]) -> None:
    """Put what the section's `caFile` holds in its place. Raises GatewaySettingsError."""
    field = f"{name}.caBundle"
    if section.get("caFile") is not None:
        named = section.pop("caFile")
        field = f"{name}.caFile: {named}"
        try:
            section["caBundle"] = certificates(read(named))
        except BundleError as error:
            raise GatewaySettingsError(f"{field}: {error}") from None
    if section.get("caBundle") is not None and not _are_certificates(section["caBundle"]):
        raise GatewaySettingsError(f"{field}: a certificate in it can't be read: mend or remove it")


def _are_certificates(text: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _parsed(found: dict[str, Any]) -> None:
    try:
        parse(json.dumps({"version": 1, "listen": {}, "sandboxes": [], **found}))
    except ConfigError as error:
        raise GatewaySettingsError(str(error)) from None
