"""Which sandboxes of the cluster are probed, and what for. When: `backends/probing/schedule.py`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.objects import profiles
from claude_sandbox.backends.kubernetes.probing.cluster import Cluster
from claude_sandbox.backends.kubernetes.probing.controls import Controls
from claude_sandbox.backends.kubernetes.probing.pod import DEADLINE
from claude_sandbox.backends.kubernetes.probing.running import Questions, ask
from claude_sandbox.backends.kubernetes.probing.targets import Place, is_other, place_of, targets
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.backends.probing.schedule import Found, NothingFoundError, Probed, Probing, Schedule
from claude_sandbox.backends.probing.wanted import MisunderstoodError, Wanted
from claude_sandbox.blueprint.model import Blueprint, Identity, Image
from claude_sandbox.compliance.evidence.probes import ProbeReport
from claude_sandbox.compliance.evidence.readings import Unread
from claude_sandbox.compliance.pods.plugin_policies import FEW, may_select, readable, whom_of
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.resources import NETWORK_POLICIES, PODS
from claude_sandbox.kubernetes_api.unstructured import Object

AT_A_TIME, OF_EACH = 32, 8
"""Probes of one cluster, and of one namespace: each is a pod. Who has a slow node or webhook waits alone. A probe takes
some four seconds (`make bench ARGS=--probes`), so that is enough for a thousand sandboxes of one namespace each ten
minutes; with four of each, such a thousand was seen to be probed every quarter of an hour."""
ENOUGH = 120.0
"""Seconds for a probe with the pull of its image."""
AFRESH = 15.0
"""Seconds between two pods for a sandbox, however often what selects it changes: who may write policies says when."""
OFF = Unread("this operator does not probe (--pod-probe-interval 0), or has no image to probe with (--gateway-image)")
_MOVED = "its pod, or a policy that may select it, changed meanwhile"


@dataclass(frozen=True)
class Seen:
    """What a pass saw of a sandbox."""

    blueprint: Blueprint
    pod: Object


class PodProbes(Schedule[Seen, Place]):
    """Of one cluster. `image`: what probes, the operator's own; None: nothing is probed. `controls_in`: a namespace in
    which its pods may connect anywhere, where there is one."""

    def __init__(
        self,
        api: Api,
        watches: Watches,
        image: Image | None,
        probing: Probing | None,
        wake: Callable[[str, str], None],
        controls_in: str | None = None,
    ) -> None:
        super().__init__(
            probing,
            wake,
            of_each=OF_EACH,
            at_a_time=AT_A_TIME,
            enough=ENOUGH + DEADLINE,
            whom="the cluster",
            afresh=AFRESH,
        )
        self._api = api
        self._watches = watches
        self._image = image
        self._cluster = Cluster(api)
        self._controls = Controls(api, image, controls_in) if image is not None else None

    def known(self, blueprint: Blueprint, pod: Object | None) -> Found:
        """What is known of where a sandbox is now; where that is nothing, a probe is begun. `pod`: its own."""
        if self._probing is None or self._image is None:
            return OFF
        identity, place = blueprint.identity, self._place(pod)
        if place is None or pod is None:
            self._end(identity)
            return Unread("its pod does not run")
        return self._known(identity, Seen(blueprint, pod), place)

    async def forget_name(self, namespace: str, name: str) -> None:
        """The sandbox is gone; its pods go with their owner."""
        # A list of its own, since `forget` changes what is gone through.
        for identity in [one for one in self._of if (one.namespace, one.name) == (namespace, name)]:
            await self.forget(identity)

    async def _find(self, identity: Identity, one: Probed[Seen, Place]) -> ProbeReport:
        assert self._image is not None  # noqa: S101 - `known` has looked
        assert self._controls is not None  # noqa: S101 - there is an image
        # Asked before and after: what was tried counts only for a place that stayed the same throughout.
        if self._place_now(identity) != one.place:
            raise NothingFoundError(_MOVED)
        meant, strict = profiles(one.seen.blueprint), one.seen.blueprint.seccomp_file is not None
        wanted = await self._targets(identity, one)
        asked = Questions(identity, one.seen.pod, wanted, ENOUGH, profiles=meant, strict=strict)
        try:
            report = await ask(self._api, self._watches, self._image, asked, self._controls)
        except MisunderstoodError as error:
            raise NothingFoundError(str(error)) from None
        if self._place_now(identity) != one.place:
            raise NothingFoundError(_MOVED)
        return report

    async def _targets(self, identity: Identity, one: Probed[Seen, Place]) -> tuple[Wanted, ...]:
        assert self._probing is not None  # noqa: S101 - `known` has looked
        return targets(
            one.seen.blueprint,
            one.seen.pod,
            one.place,
            await self._cluster.addresses(),
            gateways=tuple(self._watches.replicas(identity.namespace)) if one.place.gateway else (),
            others=self._others(identity),
            named=self._probing.named,
        )

    def _others(self, identity: Identity) -> Iterator[Object]:
        """Pods of other sandboxes that are known here."""
        for other, one in self._of.items():
            if other != identity and is_other(one.seen.pod, identity.uid):
                yield one.seen.pod

    def _place_now(self, identity: Identity) -> Place | None:
        return self._place(self._watches.get(PODS, identity.namespace, meta.child_name(identity.name)))

    def _place(self, pod: Object | None) -> Place | None:
        if pod is None:
            return None
        return place_of(pod, self._watches.selecting(NETWORK_POLICIES, pod)[1], self._of_plugins(pod))

    def _of_plugins(self, pod: Object) -> tuple[Object, ...]:
        """The policies of network plugins that may select a pod, all where there is much to read; none where nobody
        looks, or they can't be read: that is told by the controls."""
        followed, namespace = self._watches.plugin_policies, str(pod["metadata"]["namespace"])
        known = followed.of(namespace) if followed is not None else None
        if known is None or isinstance(known, Unread):
            return ()
        whom = whom_of(pod, self._watches.namespace(namespace)[1])
        read, _ = readable(known.value, FEW)
        return (*(one for one in read if may_select(one, whom)), *known.value[len(read) :])
