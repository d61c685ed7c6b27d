"""The Secrets with the certificates of gateways: made with the gateway, renewed in time, gone with it.

Theory of operation. Holds, in memory only, of each namespace's certificate what is public, until when it is good, and
of which version of the Secret that is true. It never keeps a private key: the Secret does, and is read whole only where
its version is another one, or it is time to renew. Called by the one pass at work on a namespace's gateway, on the
event loop; a crash loses nothing that is not read again.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from claude_sandbox.api import meta
from claude_sandbox.backends.base import Healed
from claude_sandbox.backends.kubernetes.gateway import certificates
from claude_sandbox.backends.kubernetes.gateway.certificates import Bundle
from claude_sandbox.backends.kubernetes.gateway.objects import fingerprint
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.blueprint import agent
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SECRETS
from claude_sandbox.kubernetes_api.unstructured import Manifest


@dataclass(frozen=True)
class Certificate:
    """What is public of a Secret at a version of it. `mark` tells one certificate from the next."""

    version: str
    authority: str
    mark: str
    good_until: datetime


class TLSSecrets:
    """Of the gateways of all namespaces."""

    def __init__(self, api: Api, watches: Watches, now: Callable[[], datetime]) -> None:
        self._api = api
        self._watches = watches
        self._now = now
        self._known: dict[str, Certificate] = {}

    def known(self, namespace: str) -> bool:
        """Whether there is one, or something of it is kept here."""
        return namespace in self._known or self._watches.gateway(SECRETS, namespace) is not None

    def ends(self) -> dict[str, datetime]:
        """When the certificates of gateways end that were not renewed until then, by namespace."""
        return {namespace: certificates.ends(known.good_until) for namespace, known in self._known.items()}

    def end(self, namespace: str) -> datetime | None:
        """When the certificate of a namespace's gateway ends that was not renewed until then; None: it is not known."""
        known = self._known.get(namespace)
        return None if known is None else certificates.ends(known.good_until)

    async def of(self, namespace: str) -> tuple[Certificate, tuple[Healed, ...]]:
        """What the Secret has now; made, or renewed, where there is none that is good. And what was mended of what
        somebody did to it. Raises ApiError."""
        seen, known = self._watches.gateway(SECRETS, namespace), self._known.get(namespace)
        version = seen["metadata"]["resourceVersion"] if seen is not None else ""
        in_time = known is not None and self._now() < known.good_until
        if known is not None and known.version == version and in_time:
            return known, ()
        try:
            # Read whole by its name: the watch has metadata alone.
            secret: Obj | None = await self._api.get(SECRETS, meta.GATEWAY_TLS, namespace)
        except ApiError as error:
            if not error.is_not_found:
                raise
            secret = None
        before = bundle_of(secret)
        bundle = certificates.renewed(before, agent.GATEWAY_HOST, self._now())
        mended: tuple[Healed, ...] = ()
        if bundle is not before or secret is None:
            # It was good a moment ago, and not yet to be renewed: somebody took it away or changed it.
            if in_time:
                mended = (Healed("Secret", meta.GATEWAY_TLS, "Missing" if secret is None else "Drifted"),)
            secret = await self._api.apply(SECRETS, _secret(namespace, bundle))
        found = Certificate(
            str(secret["metadata"]["resourceVersion"]),
            bundle.authority,
            fingerprint(bundle.certificate),
            certificates.good_until(bundle),
        )
        # Without the data: no private key gets into a store.
        self._watches.learn_gateways(SECRETS, {"metadata": secret["metadata"]})
        self._known[namespace] = found
        return found, mended

    async def remove(self, namespace: str) -> None:
        """Delete it, and forget it. Raises ApiError."""
        seen = self._watches.gateway(SECRETS, namespace)
        if seen is not None:
            try:
                await self._api.delete(SECRETS, meta.GATEWAY_TLS, namespace, uid=seen["metadata"]["uid"])
            except ApiError as error:
                if not error.is_not_found:
                    raise
            # Before the watch tells of it, or the next look would find what is gone.
            self._watches.unlearn_gateways(SECRETS, seen)
        self._known.pop(namespace, None)


def _secret(namespace: str, bundle: Bundle) -> Manifest:
    labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": meta.GATEWAY_TLS, "namespace": namespace, "labels": labels},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in bundle.data().items()},
    }


def bundle_of(secret: Obj | None) -> Bundle | None:
    """What a Secret has of certificates; None where that is not all there."""
    data = (secret or {}).get("data") or {}
    try:
        read = [base64.b64decode(data[name]).decode() for name in ("ca.crt", "ca.key", "tls.crt", "tls.key")]
    except (KeyError, ValueError, binascii.Error):
        return None
    return Bundle(*read)
