"""Which sandbox a request comes from, by what it presents. Pure.

`Identify` is the interface: it takes what was presented and gives the sandbox, or None. Here it is by placeholder; on
Kubernetes, `kubernetes/identities.py` takes its place.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Protocol

from claude_sandbox.gateway.config.config import Sandbox


class IdentityError(Exception):
    """Nobody's identity. `reason`: one word of a closed set. `pod`: the UID of the pod whose it certainly is, where
    that could be told."""

    def __init__(self, reason: str, pod: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pod = pod


class Identify(Protocol):
    """Tells which sandbox presents this."""

    async def __call__(self, presented: str, sender: str) -> Sandbox | None:
        """The sandbox whose it is, or None. `sender`: the address that presents it. Raises IdentityError where more can
        be said than that it is nobody's."""

    def by_address(self, sender: str) -> Sandbox | None:
        """The sandbox from which alone packets of this address come; None where that is not certain."""

    def certainly_at(self, sender: str) -> Sandbox | None:
        """The same, as certainly as a credential may be lent by it."""


class Placeholders:
    """Knows sandboxes by the digests of their placeholders: 256 bits each, worth nothing elsewhere.

    All digests are compared, each in constant time, so that how long it takes tells nothing of any.
    """

    def __init__(self, sandboxes: Sequence[Sandbox]) -> None:
        self._by_digest = [(digest.encode(), one) for one in sandboxes for digest in one.identity]

    async def __call__(self, presented: str, sender: str) -> Sandbox | None:
        """See Identify. To compare costs nothing that a sender could use up."""
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).hexdigest().encode()
        found = None
        # Not by a dict, and to the end: how long it takes must not tell how much of a guess was right.
        for known, sandbox in self._by_digest:
            if hmac.compare_digest(known, digest):
                found = sandbox
        return found

    def by_address(self, sender: str) -> Sandbox | None:
        """See Identify. Nothing tells addresses."""
        return None

    def certainly_at(self, sender: str) -> Sandbox | None:
        """See Identify."""
        return None


def presented_to_broker(headers: Mapping[str, str]) -> str | None:
    """What `x-api-key` and `Authorization: Bearer` present; None where there is nothing, or two different things."""
    key = headers.get("x-api-key")
    authorization = headers.get("authorization")
    token = None
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = token.strip()
    # Two different ones: the gateway would go by one of them, and whoever reads the request elsewhere by the other.
    if key is not None and token is not None and not hmac.compare_digest(_bytes(key), _bytes(token)):
        return None
    return key if key is not None else token


def presented_to_proxy(authorization: str | None) -> str | None:
    """The password of `Proxy-Authorization: Basic`, or the token of `Bearer`; None where there is none."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(value.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return decoded.partition(":")[2] or None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
