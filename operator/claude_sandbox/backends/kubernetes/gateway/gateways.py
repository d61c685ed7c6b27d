"""The gateways of all namespaces: there before the first pod that needs one, as they should be, gone after the last.

Theory of operation. A gateway belongs to no single sandbox, so each pass of a sandbox that needs one looks at it
(`ensure`), and whoever finds something to do does it: one at a time for each namespace, by a lock. Where nothing has
changed since somebody looked, that costs a comparison of versions. What is wished follows from which sandboxes there
are at that moment, so two passes never wish for different things for long: the later one is right, and every change of
a sandbox or a Secret has somebody look again.

It holds, in memory only, for each namespace what was found in order last, and of the certificate what is public and
until when it is good. It never keeps a private key: the Secret does. Always true: the Service's address is known before
a pod is made that is to know it; the authority in pods is the one in the Secret.

Between two replicas the election sees to it that only one writes. A crash leaves some of the objects: the next pass
makes the rest. Nothing of it is trusted for its labels beyond that: what differs is put back.
"""

import asyncio
import base64
import binascii
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import Failure, Outcome
from claude_sandbox.backends.kubernetes.admission import PodAdmission
from claude_sandbox.backends.kubernetes.apply import carry_out
from claude_sandbox.backends.kubernetes.gateway import certificates
from claude_sandbox.backends.kubernetes.gateway.certificates import Bundle
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering, Wish, fingerprint
from claude_sandbox.backends.kubernetes.gateway.plan import FIRST, LAST, THEN, Live, desired, plan_gateway, plan_removal
from claude_sandbox.backends.kubernetes.objects import Endpoint, known_endpoint
from claude_sandbox.backends.kubernetes.plan import Plan
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.blueprint import agent
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from claude_sandbox.kubernetes_api.unstructured import Manifest, terminating

_RESOURCES = {
    one.kind: one
    for one in (
        SERVICE_ACCOUNTS, ROLES, ROLE_BINDINGS, NETWORK_POLICIES, SERVICES, DISRUPTION_BUDGETS, DEPLOYMENTS,
    )
}  # fmt: skip

Wanted = Callable[[str], frozenset[str] | None]
"""Of a namespace the Secrets that its sandboxes have their gateway use; None where no sandbox has one."""


@dataclass(frozen=True)
class Ensured:
    """What became of a look. `endpoint` is None where the gateway is not far enough for a pod to know of it."""

    endpoint: Endpoint | None
    outcome: Outcome


@dataclass(frozen=True)
class _Certificate:
    """What is public of a Secret at a version of it."""

    version: str
    authority: str
    mark: str
    good_until: datetime


class Gateways:
    """Of one cluster, or of some of its namespaces."""

    def __init__(
        self,
        api: Api,
        watches: Watches,
        admission: PodAdmission,
        given: Brokering,
        wanted: Wanted,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._watches = watches
        self._admission = admission
        self._given = given
        self._wanted = wanted
        self._now = now
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._certificates: dict[str, _Certificate] = {}
        self._in_order: dict[str, tuple[object, ...]] = {}

    async def ensure(self, namespace: str) -> Ensured:
        """Look at it, and do what there is to do. Never raises ApiError."""
        if self._given.image is None:
            message = (
                "This operator starts no gateways: its administrator has to give it --gateway-image, the operator's"
                " own image. Until then set spec.credentials.delivery to Mounted."
            )
            return Ensured(None, Outcome(failure=Failure(Reason.GATEWAY_NOT_READY, message, permanent=True)))
        async with self._locks[namespace]:
            secrets = self._wanted(namespace)
            if secrets is None:
                # The sandbox that this is for is gone.
                return Ensured(None, Outcome(gone=True))
            try:
                return await self._ensure(namespace, secrets)
            except ApiError as error:
                message = f"The gateway's certificate (Secret {meta.GATEWAY_TLS}) can't be looked after: {error}"
                reason = Reason.PERMISSION_DENIED if error.is_permission_denied else Reason.RETRYING
                return Ensured(None, Outcome(failure=Failure(reason, message, error.is_permission_denied)))

    async def remove_unused(self, namespace: str) -> None:
        """Remove what there is of it, where no sandbox needs it. Raises ApiError."""
        if self._given.image is None or self._wanted(namespace) is not None or not self._live(namespace).objects:
            return
        async with self._locks[namespace]:
            live = self._live(namespace)
            if self._wanted(namespace) is not None:
                return
            outcome = await self._carry_out(namespace, plan_removal(live))
            if outcome.failure is None:
                await self._forget(namespace, live)

    async def let_go(self, namespace: str) -> None:
        """A sandbox is gone: nothing is kept, and nothing may be read, that was for it alone. Raises ApiError."""
        if self._wanted(namespace) is not None and self._given.image is not None:
            await self.ensure(namespace)
        else:
            await self.remove_unused(namespace)

    def problem(self, namespace: str) -> str:
        """Why sandboxes of the namespace get no answer from their gateway; empty where they do."""
        live = self._watches.gateway(DEPLOYMENTS, namespace)
        if live is None or terminating(live):
            return f"There is no Deployment {meta.GATEWAY}."
        status = live.get("status") or {}
        if status.get("availableReplicas"):
            return ""
        conditions = status.get("conditions") or ()
        failing = next((one for one in conditions if one["type"] == "ReplicaFailure" and one["status"] == "True"), None)
        why = f": {failing['message']}" if failing else " yet: look at its pods"
        return f"Deployment {meta.GATEWAY} has no pod that takes requests{why}."

    async def _ensure(self, namespace: str, secrets: frozenset[str]) -> Ensured:
        certificate = await self._certificate(namespace)
        mounted = not self._watches.look_at_secrets
        live = self._live(namespace)
        wish = Wish(namespace, secrets, mounted, certificate.mark, self._address(namespace, live))
        seen = (wish, *sorted((kind, one["metadata"]["resourceVersion"]) for kind, one in live.objects.items()))
        outcome = Outcome()
        if self._in_order.get(namespace) != seen:
            plan = plan_gateway(desired(wish, self._given), live)
            outcome = await self._carry_out(namespace, plan)
            live = self._live(namespace)
            if not plan.steps and not plan.foreign:
                self._in_order[namespace] = seen
        service = live.objects.get("Service")
        address = ((service or {}).get("spec") or {}).get("clusterIP")
        if address in (None, "", "None"):
            return Ensured(None, outcome)
        return Ensured(Endpoint(str(address), certificate.authority), outcome)

    async def _carry_out(self, namespace: str, plan: Plan) -> Outcome:
        learn = self._watches.learn_gateways
        return await carry_out(self._api, plan, Identity(namespace, "", ""), learn, lambda: 0.0, self._admission)

    def _live(self, namespace: str) -> Live:
        found = {kind: self._watches.gateway(_RESOURCES[kind], namespace) for kind in (*FIRST, *THEN, *LAST)}
        return Live({kind: one for kind, one in found.items() if one is not None})

    def _address(self, namespace: str, live: Live) -> str | None:
        """The address that running pods know; asked for only where the Service is to be made, or made again."""
        if "Service" in live.objects:
            return None
        pods = self._watches.of(PODS, namespace).store.by_namespace(namespace)
        return next((known.address for pod in pods if (known := known_endpoint(pod)) is not None), None)

    async def _certificate(self, namespace: str) -> _Certificate:
        """Of the Secret as it is now; made, or renewed, where there is none that is good. Raises ApiError."""
        seen, known = self._watches.gateway(SECRETS, namespace), self._certificates.get(namespace)
        version = seen["metadata"]["resourceVersion"] if seen is not None else ""
        if known is not None and known.version == version and self._now() < known.good_until:
            return known
        try:
            secret = await self._api.get(SECRETS, meta.GATEWAY_TLS, namespace)
        except ApiError as error:
            if not error.is_not_found:
                raise
            secret = None
        before = _bundle(secret)
        bundle = certificates.renewed(before, agent.GATEWAY_HOST, self._now())
        if bundle is not before or secret is None:
            secret = await self._api.apply(SECRETS, _secret(namespace, bundle))
        found = _Certificate(
            str(secret["metadata"]["resourceVersion"]),
            bundle.authority,
            fingerprint(bundle.certificate),
            certificates.good_until(bundle),
        )
        self._watches.learn_gateways(SECRETS, {"metadata": secret["metadata"]})
        self._certificates[namespace] = found
        return found

    async def _forget(self, namespace: str, live: Live) -> None:
        for kind, one in live.objects.items():
            self._watches.unlearn_gateways(_RESOURCES[kind], dict(one))
        seen = self._watches.gateway(SECRETS, namespace)
        if seen is not None:
            try:
                await self._api.delete(SECRETS, meta.GATEWAY_TLS, namespace, uid=seen["metadata"]["uid"])
            except ApiError as error:
                if not error.is_not_found:
                    raise
            self._watches.unlearn_gateways(SECRETS, seen)
        self._certificates.pop(namespace, None)
        self._in_order.pop(namespace, None)


def added(outcome: Outcome, gateways: Outcome) -> Outcome:
    """What was done for a sandbox, with what was done for its gateway."""
    return replace(
        outcome,
        created=(*gateways.created, *outcome.created),
        updated=(*gateways.updated, *outcome.updated),
        removed=(*gateways.removed, *outcome.removed),
        healed=(*gateways.healed, *outcome.healed),
        foreign=(*outcome.foreign, *gateways.foreign),
        imposed=(*outcome.imposed, *gateways.imposed),
        failure=outcome.failure or gateways.failure,
        stale=outcome.stale or gateways.stale,
    )


def _secret(namespace: str, bundle: Bundle) -> Manifest:
    labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": meta.GATEWAY_TLS, "namespace": namespace, "labels": labels},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in bundle.data().items()},
    }


def _bundle(secret: Obj | None) -> Bundle | None:
    data = (secret or {}).get("data") or {}
    try:
        read = [base64.b64decode(data[name]).decode() for name in ("ca.crt", "ca.key", "tls.crt", "tls.key")]
    except (KeyError, ValueError, binascii.Error):
        return None
    return Bundle(*read)
