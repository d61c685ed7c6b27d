"""The gateways of all namespaces: there before the first pod that needs one, as they should be, gone after the last.

Theory of operation. A gateway belongs to no single sandbox, so each pass of a sandbox that needs one looks at it
(`ensure`), and whoever finds something to do does it: one at a time for each namespace. Where nothing has
changed since somebody looked, that costs a comparison of versions. What is wished follows from which sandboxes there
are at that moment, so two passes never wish for different things for long: the later one is right, and every change of
a sandbox or a Secret has somebody look again.

It holds, in memory only, for each namespace with a gateway what was wished, and what was found in order last. Always
true: no pod is made that is to know of a gateway before all of it is there and as it should be; the authority in pods
is the one in the Secret; and the Service keeps its address, which running pods know, whatever else of it is put back.

Between two replicas the election sees to it that only one writes. A crash leaves some of the objects: the next pass
makes the rest, or removes it. That there is a next one after the last sandbox is gone is `Watches`' doing: each of the
objects has the namespace looked at, with or without sandboxes. Nothing of it is trusted for its labels beyond that:
what differs is put back.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import Failure, Outcome
from claude_sandbox.backends.kubernetes.admission import PodAdmission
from claude_sandbox.backends.kubernetes.apply import carry_out
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering, Wish, granted_secrets
from claude_sandbox.backends.kubernetes.gateway.plan import FIRST, LAST, THEN, Live, desired, plan_gateway, plan_removal
from claude_sandbox.backends.kubernetes.gateway.tls_secrets import TLSSecrets
from claude_sandbox.backends.kubernetes.objects import Endpoint, known_endpoint
from claude_sandbox.backends.kubernetes.ownership import is_gateways
from claude_sandbox.backends.kubernetes.plan import Plan
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.backends.turns import Turns
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from claude_sandbox.kubernetes_api.unstructured import Object, terminating

logger = logging.getLogger(__name__)

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
        lent_by_address: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._api = api
        self._lent_by_address = lent_by_address
        self._watches = watches
        self._admission = admission
        self._given = given
        self._wanted = wanted
        self._turns = Turns()
        self._certificates = TLSSecrets(api, watches, now)
        self._in_order: dict[str, tuple[object, ...]] = {}
        self._wished: dict[str, tuple[Wish, str]] = {}

    def certificate_ends(self, namespace: str) -> datetime | None:
        """When a namespace's certificate ends, were it not renewed until then; None where it is not known."""
        return self._certificates.end(namespace)

    def certificates_end(self) -> dict[str, datetime]:
        """When each namespace's certificate ends, were it not renewed until then."""
        return self._certificates.ends()

    async def ensure(self, namespace: str) -> Ensured:
        """Look at it, and do what there is to do. Never raises ApiError."""
        if self._given.image is None:
            message = (
                "This operator starts no gateways: its administrator has to give it --gateway-image, the operator's"
                " own image. Until then only spec.credentials.delivery Mounted can be used, which profile Production"
                " refuses."
            )
            return Ensured(None, Outcome(failure=Failure(Reason.GATEWAY_NOT_READY, message, permanent=True)))
        # Passes of all sandboxes of the namespace come here: two at a time would make, or renew, the same things.
        async with self._turns.of(namespace):
            # Asked within the turn: what was wished before the wait may be of sandboxes that are gone.
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
        if self._given.image is None or self._wanted(namespace) is not None or not self._known(namespace):
            return
        async with self._turns.of(namespace):
            live = self._live(namespace)
            # Asked again, since a sandbox may have come while this waited for its turn.
            if self._wanted(namespace) is not None:
                return
            outcome = await self._carry_out(namespace, plan_removal(live))
            # The certificate last: what still runs shows it.
            if outcome.failure is None:
                await self._forget(namespace, live)

    async def let_go(self, namespace: str) -> None:
        """A sandbox is gone: nothing is kept, and nothing may be read, that was for it alone. Raises ApiError."""
        if self._wanted(namespace) is None or self._given.image is None:
            await self.remove_unused(namespace)
            return
        found = await self.ensure(namespace)
        for healed in found.outcome.healed:
            # There is no sandbox here whose status could say it.
            logger.warning("the gateway of namespace %s: %s", namespace, healed)

    def wished(self, namespace: str) -> tuple[Wish, str] | None:
        """What was wished when it was last looked at, and the authority that speaks for it, in PEM."""
        return self._wished.get(namespace)

    def live(self, namespace: str) -> Mapping[str, Object]:
        """The objects under its name, by kind, as last seen."""
        return self._live(namespace).objects

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
        # First: the program's pods mount it, and sandboxes' pods are told its authority.
        certificate, mended = await self._certificates.of(namespace)
        live = self._live(namespace)
        mounted = not self._watches.knows_secrets(namespace)
        if mounted and self._watches.look_at_secrets and (granted := granted_secrets(live.objects.get("Role"))):
            # The operator lost a right, or an API server that just started refuses all: no gateway ends for that, which
            # looks by itself whether they have opted in.
            secrets, mounted = granted, False
        address = _address_of(live) or self._known_address(namespace)
        wish = Wish(namespace, secrets, mounted, certificate.mark, address, self._lent_by_address(namespace))
        self._wished[namespace] = wish, certificate.authority
        seen = (wish, *sorted((kind, one["metadata"]["resourceVersion"]) for kind, one in live.objects.items()))
        outcome = Outcome(healed=mended)
        if self._in_order.get(namespace) != seen:
            # A pod is made after it.
            been = namespace in self._in_order or self._known_address(namespace) is not None
            plan = plan_gateway(desired(wish, self._given), live, been=been)
            carried = await self._carry_out(namespace, plan)
            if wish.address and "Service" not in live.objects and _refused(carried):
                # Another Service has the address by now: what runs is told to be behind, and what comes works.
                other = desired(replace(wish, address=None), self._given)
                plan = plan_gateway(other, self._live(namespace), been=been)
                carried = await self._carry_out(namespace, plan)
            outcome = added(outcome, carried)
            live = self._live(namespace)
            # Only where there was nothing to do: what was just written is looked at once more by the next pass.
            if not plan.steps and not plan.foreign:
                self._in_order[namespace] = seen
        address = _address_of(live)
        if (
            address is None
            or outcome.failure
            or outcome.foreign
            or outcome.stale
            or len(live.objects) < len(_RESOURCES)
        ):
            # Nothing runs with it that does not run already.
            return Ensured(None, outcome)
        return Ensured(Endpoint(address, certificate.authority), outcome)

    async def _carry_out(self, namespace: str, plan: Plan) -> Outcome:
        learn = self._watches.learn_gateways
        return await carry_out(self._api, plan, Identity(namespace, "", ""), learn, lambda: 0.0, self._admission)

    def _live(self, namespace: str) -> Live:
        found = {kind: self._watches.gateway(_RESOURCES[kind], namespace) for kind in (*FIRST, *THEN, *LAST)}
        return Live({kind: one for kind, one in found.items() if one is not None})

    def _known(self, namespace: str) -> bool:
        """Whether anything of it is there, or kept here."""
        kept = namespace in self._in_order or self._certificates.known(namespace)
        return kept or bool(self._live(namespace).objects)

    def _known_address(self, namespace: str) -> str | None:
        """The one by which running pods know it."""
        pods = self._watches.of(PODS, namespace).store.by_namespace(namespace)
        found = (known_endpoint(pod) for pod in pods if not terminating(pod))
        return next((known.address for known in found if known is not None), None)

    async def _forget(self, namespace: str, live: Live) -> None:
        for kind, one in live.objects.items():
            if is_gateways(one):
                self._watches.unlearn_gateways(_RESOURCES[kind], dict(one))
        await self._certificates.remove(namespace)
        self._in_order.pop(namespace, None)
        self._wished.pop(namespace, None)


def _refused(outcome: Outcome) -> bool:
    return outcome.failure is not None and outcome.failure.reason is Reason.REJECTED


def _address_of(live: Live) -> str | None:
    """The Service's address, by which pods know the gateway."""
    service = live.objects.get("Service")
    found = ((service or {}).get("spec") or {}).get("clusterIP")
    return None if found in (None, "", "None") else str(found)


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
