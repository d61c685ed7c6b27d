"""Credentials among the parameters of an address, by what they are called. Pure, and for measurements only."""

import re

from claude_sandbox.api.credentials import options

_ADDRESS = re.compile(r"[^\s?#]*[?#][^\s]*")
_PARAMETER = re.compile(r"[?&#;]([A-Za-z][\w.-]{0,80})=([^&#;\s]*)")
# What a program puts something else in the place of; %7B is a brace.
_REFERENCE = re.compile(r"[-$<{*:@`\[]|%(?:7B|s|d|\(|env)|\.\.\.", re.IGNORECASE)
_SIGNATURE = re.compile(r"(?:sig|signature|auth|x-amz-signature)", re.IGNORECASE)
# What may be any key or code is one where it is random.
_MAYBE = re.compile(r"(?:key|code|hash|auth_?key|k)", re.IGNORECASE)
_RANDOM = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])[\w%+=-]{16,}|[0-9a-f]{32,}")
_OPAQUE = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[\w%+/=.-]{8,}")


def holds_credential(address: str) -> bool:
    """Whether one of its parameters is a credential. Of a text with spaces nothing is taken apart."""
    if not _ADDRESS.fullmatch(address):
        return False
    return any(_holds(name, value) for name, value in _PARAMETER.findall(address))


def _holds(name: str, value: str) -> bool:
    if not value or _REFERENCE.match(value):
        return False
    if options.takes(name):
        return True
    return bool(
        (_SIGNATURE.fullmatch(name) and _OPAQUE.fullmatch(value))
        or (_MAYBE.fullmatch(name) and _RANDOM.fullmatch(value))
    )
