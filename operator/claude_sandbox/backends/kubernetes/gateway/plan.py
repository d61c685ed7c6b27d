"""What has to be written so that a namespace's gateway is as it should be, or gone. Pure.

The order is the fail-closed one: who may connect to it and what it may do first, the program last.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import orjson

from claude_sandbox.api import meta
from claude_sandbox.backends.base import Cause
from claude_sandbox.backends.kubernetes import drift
from claude_sandbox.backends.kubernetes.gateway import objects
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering, Wish
from claude_sandbox.backends.kubernetes.ownership import is_gateways
from claude_sandbox.backends.kubernetes.plan import Plan, Step, Verb
from claude_sandbox.kubernetes_api.unstructured import Object, annotations, terminating

FIRST = ("ServiceAccount", "Role", "NetworkPolicy", "Service", "PodDisruptionBudget")
THEN = ("RoleBinding",)
LAST = ("Deployment",)
_REMOVED = (*LAST, *THEN, *reversed(FIRST))


@dataclass(frozen=True)
class Live:
    """The objects under the gateway's name, by kind, whoever made them."""

    objects: Mapping[str, Object]


def desired(wish: Wish, given: Brokering) -> dict[str, Object]:
    """All of them, by kind."""
    found = (
        objects.service_account(wish.namespace),
        objects.role(wish),
        objects.role_binding(wish.namespace),
        objects.network_policy(wish.namespace),
        objects.service(wish),
        objects.disruption_budget(wish.namespace),
        objects.deployment(wish, given),
    )
    # An address that is kept is no other wish.
    asked = {"Service": objects.service(replace(wish, address=None))}
    return {one["kind"]: _marked(one, asked.get(one["kind"], one)) for one in found}


def plan_gateway(wanted: Mapping[str, Object], live: Live, *, been: bool) -> Plan:
    """What to write. `been`: all of it was there once, so that what is missing was lost, and was not just never made.
    What differs was changed, or another is wished."""
    foreign = tuple(f"{kind} {meta.GATEWAY}" for kind, one in live.objects.items() if not is_gateways(one))
    # The program is made last.
    missing = Cause.HEAL if been or not live.objects.keys().isdisjoint(LAST) else Cause.PROVISION
    stages = tuple(
        tuple(step for kind in kinds for step in _steps(wanted[kind], live.objects.get(kind), missing))
        for kinds in (FIRST, THEN, LAST)
    )
    if foreign:
        # What is ours is mended all the same; nothing is begun beside what is somebody else's.
        stages = tuple(
            tuple(step for step in stage if step.verb is Verb.APPLY and f"{step.kind} {step.name}" not in foreign)
            for stage in stages
        )
    return Plan(tuple(stage for stage in stages if stage), foreign)


def plan_removal(live: Live) -> Plan:
    """Nobody needs it any more."""
    found = [live.objects[kind] for kind in _REMOVED if kind in live.objects]
    steps = [
        Step(Verb.DELETE, Cause.UPDATE, _reference(one), one)
        for one in found
        if is_gateways(one) and not terminating(one)
    ]
    # The program first, and one after the other: none of its pods is made after what bounds who connects is gone. One
    # that still has a stream to end takes no new connection.
    return Plan(tuple((step,) for step in steps))


def _steps(wanted: Object, live: Object | None, missing: Cause) -> Iterator[Step]:
    if live is None:
        yield Step(Verb.CREATE, missing, wanted)
        return
    if terminating(live):
        return
    paths = drift.DIFFER[wanted["kind"]](wanted, live)
    if not paths:
        return
    same_wish = annotations(live).get(meta.ANNOTATION_SPEC_HASH) == annotations(wanted)[meta.ANNOTATION_SPEC_HASH]
    cause = Cause.HEAL if same_wish else Cause.UPDATE
    if "roleRef" in paths:
        # Nothing can change it in place.
        yield Step(Verb.DELETE, cause, _reference(live), live, paths)
    else:
        yield Step(Verb.APPLY, cause, wanted, live, paths)


def _marked(manifest: Object, asked: Object) -> Object:
    """With what tells a wish from another in its annotations. `asked`: what of it was wished."""
    content = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    mark = {meta.ANNOTATION_SPEC_HASH: hashlib.sha256(content).hexdigest()[:32]}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": mark}}


def _reference(live: Object) -> Object:
    metadata = {"name": live["metadata"]["name"], "namespace": live["metadata"]["namespace"]}
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}
