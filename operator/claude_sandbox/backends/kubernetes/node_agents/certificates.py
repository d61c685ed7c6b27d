"""By what the agents on the nodes and the operator know each other: made by the operator, and renewed in time.

Theory of operation. One authority, which can speak for the agents' name only, and whose key no pod has, is in a Secret
of the agents' namespace. From it come the certificate of all agents, in another Secret, which they have as files, and
the operator's own, which is made anew by each process, for its memory only. An agent's certificate is none for asking.
What is there is read before the first question and looked at again each LOOK seconds; what is good is not written. What
is broken, ends soon, or is not the authority's is made anew. Used by one event loop; a crash loses nothing.
"""

import asyncio
import base64
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.gateway import certificates
from claude_sandbox.backends.kubernetes.gateway.certificates import Bundle
from claude_sandbox.backends.kubernetes.gateway.tls_secrets import bundle_of
from claude_sandbox.backends.kubernetes.node_agents import AUTHORITY_SECRET, NAMESPACE, TLS_SECRET
from claude_sandbox.backends.memory_file import MemoryFile
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SECRETS
from claude_sandbox.kubernetes_api.unstructured import Manifest
from claude_sandbox.node_agent import NAME

LOOK = 3600.0
LOOK_SOON = 30.0
_FILES = ("ca.crt", "tls.crt", "tls.key")


class Certificates:
    """Of all agents of one cluster."""

    def __init__(self, api: Api, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api = api
        self._now = now
        self._turn = asyncio.Lock()
        self._context: ssl.SSLContext | None = None
        self._looked = self._again = 0.0
        self.ends: datetime | None = None
        """When what agents are known by is of no use any more, as it was found last; None while that is not known."""

    async def context(self) -> ssl.SSLContext:
        """For connecting to an agent. Raises ApiError."""
        # Many questions begin at once; one of them makes the certificates.
        async with self._turn:
            if self._context is None or time.monotonic() >= self._again:
                self._context = context_of(await self._bundle(), self._now())
                self._looked = time.monotonic()
                self._again = self._looked + LOOK
            return self._context

    def doubt(self) -> None:
        """An agent did not take it, or was not believed: look again before long."""
        self._again = min(self._again, self._looked + LOOK_SOON)

    async def _bundle(self) -> Bundle:
        before = bundle_of(await self._read(AUTHORITY_SECRET))
        bundle = certificates.renewed(before, NAME, self._now())
        if bundle is not before:
            # Until there is another, what is told is of the one that there is.
            self.ends = None if before is None else _ends(before)
            # Before what comes from it: whoever is interrupted here goes on with the same authority.
            await self._api.apply(SECRETS, _secret(AUTHORITY_SECRET, bundle.data()))
        wanted = {name: text for name, text in bundle.data().items() if name in _FILES}
        there = await self._read(TLS_SECRET)
        # Put back whoever changed it: an agent with another certificate is believed by nobody.
        if there is None or (there.get("data") or {}) != _encoded(wanted):
            await self._api.apply(SECRETS, _secret(TLS_SECRET, wanted))
        self.ends = _ends(bundle)
        return bundle

    async def _read(self, name: str) -> Obj | None:
        try:
            return await self._api.get(SECRETS, name, NAMESPACE)
        except ApiError as error:
            if not error.is_not_found:
                raise
            return None


def context_of(authority: Bundle, now: datetime) -> ssl.SSLContext:
    """As the operator, to those whom `authority` knows."""
    own = certificates.client(authority, f"operator.{NAME}", now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=own.authority)
    with ExitStack() as stack:
        files = (stack.enter_context(MemoryFile(text.encode())) for text in (own.certificate, own.key))
        certificate, key = (file.path for file in files)
        context.load_cert_chain(certificate, key)
    return context


def _ends(bundle: Bundle) -> datetime | None:
    try:
        return certificates.ends(certificates.good_until(bundle))
    except ValueError:
        return None


def _secret(name: str, data: dict[str, str]) -> Manifest:
    labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "type": "kubernetes.io/tls",
        "data": _encoded(data),
    }


def _encoded(data: dict[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}
