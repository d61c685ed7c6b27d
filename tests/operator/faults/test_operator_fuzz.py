"""Users and accidents do anything in any order, and operators die meanwhile: what is left is what the specs ask for.

A run is made by its seed alone, apart from the timing: a failure's seed is worth running again.
"""

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from gateway_place import define
from ledger import OF_GATEWAYS, Ledger
from operator_process import IMAGE, OperatorProcess
from oracle import complaints
from world import KEY, SECRET, WITH_GATEWAYS, World
from worlds import Worlds

from claude_sandbox.api import meta
from claude_sandbox.api.validate import parse_spec
from claude_sandbox.backends.base import Past
from claude_sandbox.backends.kubernetes.objects import Endpoint
from claude_sandbox.backends.kubernetes.plan import Observed, Plan, desire, plan
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError

pytestmark = pytest.mark.controlplane

NAMES = ("ann", "bob", "cy")
STEPS = 30
DONE = Past(provisioned=True, ran=True, settled=True)
CLAIM = {"type": "PersistentVolumeClaim", "size": "1Gi"}
EVERYWHERE = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}
# A policy of somebody else that lets every pod of the namespace out: policies add up.
WIDE = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}

Act = Callable[["Run"], Awaitable[None]]


class Run:
    """One history, from one seed."""

    def __init__(self, world: World, seed: int, *options: str) -> None:
        self.world = world
        self.dice = random.Random(seed)  # noqa: S311 - no secret
        self.brokered = WITH_GATEWAYS in options
        self.operator: OperatorProcess = world.operator(*options)
        self.done: list[str] = []

    def name(self) -> str:
        return self.dice.choice(NAMES)

    def spec(self) -> dict[str, Any]:
        """Something that a user might write."""
        network: dict[str, Any] = {
            "ports": self.dice.choice([[], [{"name": "web", "containerPort": 8080}]]),
            "egress": {"allowedCIDRs": [f"203.0.113.{self.dice.randrange(4) * 16}/28"]},
        }
        credentials = {"apiKeySecretRef": {"name": SECRET}, "delivery": "Mounted"}
        if self.brokered:
            credentials["delivery"] = self.dice.choice(["Brokered", "Brokered", "Mounted"])
        return {
            "credentials": credentials,
            "network": network,
            "operatingMode": self.dice.choice(["Running", "Running", "Suspended"]),
            "updateStrategy": {"type": self.dice.choice(["OnDelete", "Recreate"])},
        }

    async def do(self, acts: dict[str, Act]) -> None:
        """One step; what is no longer there, or there already, is not acted upon."""
        kind = self.dice.choice(sorted(acts))
        try:
            await acts[kind](self)
            self.done.append(kind)
        except ApiError as error:
            if not (error.is_not_found or error.is_already_exists or error.is_conflict):
                raise

    async def pause(self) -> None:
        """Let some changes happen, or none, or wait until nothing more does."""
        before = len(self.world.ledger.events)
        wanted = self.dice.choice([0, 0, 1, 3, 10])
        try:
            async with asyncio.timeout(0.3):
                await self.world.ledger.until(lambda: len(self.world.ledger.events) >= before + wanted, "changes")
        except TimeoutError:
            self.done.append("(rest)")


async def _create(run: Run) -> None:
    claim = {"workspace": CLAIM} if run.dice.random() < 0.3 else {}
    await run.world.create(run.name(), **run.spec(), **claim)


async def _edit(run: Run) -> None:
    await run.world.edit(run.name(), **run.spec())


async def _delete(run: Run) -> None:
    await run.world.delete(run.name())


async def _replace(run: Run) -> None:
    name = run.name()
    await run.world.delete(name)
    await run.world.create(name, **run.spec())


async def _new_key(run: Run) -> None:
    await run.world.change_secret(run.dice.randbytes(16))


async def _lose_key(run: Run) -> None:
    await run.world.delete(SECRET, r.SECRETS)


async def _bring_key(run: Run) -> None:
    await run.world.add_secret()


async def _kill(run: Run) -> None:
    await run.operator.crash()
    await run.pause()
    await run.operator.start()


async def _end_pod(run: Run) -> None:
    await run.world.delete(f"sandbox-{run.name()}", r.PODS)


async def _break_connections(run: Run) -> None:
    run.world.gate.cut_watches()


async def _lose_child(run: Run) -> None:
    kind = run.dice.choice([r.SERVICE_ACCOUNTS, r.NETWORK_POLICIES, r.SERVICES])
    await run.world.delete(f"sandbox-{run.name()}", kind)


async def _lose_baseline(run: Run) -> None:
    await run.world.delete(meta.BASELINE_POLICY, r.NETWORK_POLICIES)


async def _widen(run: Run) -> None:
    policy = run.dice.choice([f"sandbox-{run.name()}", meta.BASELINE_POLICY])
    await run.world.change(r.NETWORK_POLICIES, policy, {"spec": {"egress": [EVERYWHERE]}})


async def _unlabel(run: Run) -> None:
    labels = {meta.LABEL_SANDBOX: None}
    await run.world.change(r.PODS, f"sandbox-{run.name()}", {"metadata": {"labels": labels}})


async def _add_policy(run: Run) -> None:
    body = {"metadata": {"name": "theirs"}, "spec": WIDE}
    await run.world.api.create(r.NETWORK_POLICIES, body, run.world.namespace)


async def _squat(run: Run) -> None:
    body = {"metadata": {"name": f"sandbox-{run.name()}"}, "spec": WIDE}
    await run.world.api.create(r.NETWORK_POLICIES, body, run.world.namespace)


async def _lose_part(run: Run) -> None:
    kind = run.dice.choice([r.SERVICE_ACCOUNTS, r.NETWORK_POLICIES, r.SERVICES, *OF_GATEWAYS])
    await run.world.delete(meta.GATEWAY_TLS if kind is r.SECRETS else meta.GATEWAY, kind)


async def _open_gateway(run: Run) -> None:
    await run.world.change(r.NETWORK_POLICIES, meta.GATEWAY, {"spec": {"ingress": [{}]}})


async def _stop_gateway(run: Run) -> None:
    await run.world.change(r.DEPLOYMENTS, meta.GATEWAY, {"spec": {"replicas": 0}})


async def _unlabel_gateway(run: Run) -> None:
    kind = run.dice.choice([r.NETWORK_POLICIES, r.ROLES, r.DEPLOYMENTS])
    labels = {meta.LABEL_MANAGED_BY: None, meta.LABEL_COMPONENT: None}
    await run.world.change(kind, meta.GATEWAY, {"metadata": {"labels": labels}})


async def _another_certificate(run: Run) -> None:
    await run.world.change(r.SECRETS, meta.GATEWAY_TLS, {"data": {"tls.key": "bm9uc2Vuc2U="}})


PEACEFUL: dict[str, Act] = {
    act.__name__.strip("_"): act
    for act in (_create, _edit, _delete, _replace, _new_key, _lose_key, _bring_key, _kill, _end_pod, _break_connections)
}
HARMFUL: dict[str, Act] = PEACEFUL | {
    act.__name__.strip("_"): act
    for act in (_lose_child, _lose_baseline, _widen, _unlabel, _add_policy, _squat, _lose_child, _widen)
}
OF_A_GATEWAY: dict[str, Act] = HARMFUL | {
    act.__name__.strip("_"): act
    for act in (_lose_part, _open_gateway, _stop_gateway, _unlabel_gateway, _another_certificate)
}


async def _quiesce(run: Run) -> None:
    """Bring back what sandboxes need, take away what is in their way, and wait until all is as it should be."""
    world = run.world
    if not run.operator.alive:
        await run.operator.start()
    with suppress(ApiError):  # it may be there
        await world.add_secret()
    for policy in (await world.api.list(r.NETWORK_POLICIES, world.namespace)).items:
        owned = policy["metadata"].get("ownerReferences") or policy["metadata"].get("labels")
        if not owned and policy["metadata"]["name"] != "theirs":
            await world.delete(policy["metadata"]["name"], r.NETWORK_POLICIES, missing_ok=True)
    await world.ledger.until(lambda: not _unfinished(world), f"an end to {run.done}", 120)
    # What else there is to say (of compliance, say) follows at once: another look, caused by something irrelevant.
    looks, sandboxes = await run.operator.passes(), world.ledger.all(r.SANDBOXES)
    for sandbox in sandboxes:
        await world.change(r.SANDBOXES, sandbox["metadata"]["name"], {"metadata": {"labels": {"looked": "at"}}})
    await run.operator.has_looked(len(sandboxes), looks)


def _unfinished(world: World) -> list[str]:
    """Why it is not over yet."""
    ledger, found = world.ledger, []
    alive = {sandbox["metadata"]["name"]: sandbox for sandbox in ledger.all(r.SANDBOXES)}
    for name, sandbox in alive.items():
        found += [f"{name}: {complaint}" for complaint in complaints(ledger, name)]
        status = sandbox.get("status") or {}
        if status.get("observedGeneration") != sandbox["metadata"]["generation"]:
            found.append(f"{name}: its status is of an earlier generation")
        states = {c["type"]: c["status"] for c in status.get("conditions") or ()}
        if states.get("Stalled") != "False" or states.get("Reconciling") != "False":
            found.append(f"{name}: its status says that it is not done")
        if "CredentialsCurrent" in states and states["CredentialsCurrent"] != "True" and states["Ready"] == "True":
            found.append(f"{name}: its key is on its way")
    # Their workspaces are kept.
    found += [left for name in set(NAMES) - set(alive) for left in world.owned_by(name)]
    brokered = [name for name, sandbox in alive.items() if _brokered(sandbox)]
    parts = [ledger.get(kind, _named(kind)) is not None for kind in (r.SERVICES, r.NETWORK_POLICIES, *OF_GATEWAYS)]
    if not all(parts) if brokered else any(parts):
        found.append(f"of the gateway there is {parts}")
    if not alive and ledger.get(r.NETWORK_POLICIES, meta.BASELINE_POLICY):
        found.append("the baseline policy is left behind")
    return found


def _brokered(sandbox: Mapping[str, Any]) -> bool:
    return bool(sandbox["spec"]["credentials"].get("delivery") == "Brokered")


def _named(kind: r.Resource) -> str:
    return meta.GATEWAY_TLS if kind is r.SECRETS else meta.GATEWAY


def _endpoint(ledger: Ledger, sandbox: Mapping[str, Any]) -> Endpoint | None:
    """What the sandbox's pod is to know of its gateway."""
    service, secret = ledger.get(r.SERVICES, meta.GATEWAY), ledger.get(r.SECRETS, meta.GATEWAY_TLS)
    if not _brokered(sandbox) or service is None or secret is None:
        return None
    return Endpoint(service["spec"]["clusterIP"], base64.b64decode(secret["data"]["ca.crt"]).decode())


def _planned(ledger: Ledger, name: str, generation: str) -> Plan:
    """What the operator's own planner would still do."""
    sandbox = ledger.get(r.SANDBOXES, name)
    assert sandbox is not None
    child = f"sandbox-{name}"
    spec = parse_spec(sandbox)
    identity = Identity(ledger.namespace, name, sandbox["metadata"]["uid"])
    blueprint = build(identity, spec, Site(parse_image(IMAGE, "IfNotPresent")))
    observed = Observed(
        baseline=ledger.get(r.NETWORK_POLICIES, meta.BASELINE_POLICY),
        account=ledger.get(r.SERVICE_ACCOUNTS, child),
        policy=ledger.get(r.NETWORK_POLICIES, child),
        service=ledger.get(r.SERVICES, child),
        claim=ledger.get(r.PERSISTENT_VOLUME_CLAIMS, f"{child}-workspace"),
        pod=ledger.get(r.PODS, child),
    )
    endpoint = _endpoint(ledger, sandbox)
    return plan(desire(blueprint, generation, True, spec.update_strategy.type, endpoint), observed, DONE)


async def _check(run: Run) -> None:
    """Quiesce; then nothing is left to do, and a new operator agrees."""
    world = run.world
    await _quiesce(run)
    secret = await world.api.get(r.SECRETS, SECRET, world.namespace)
    names = [sandbox["metadata"]["name"] for sandbox in world.ledger.all(r.SANDBOXES)]
    for name in names:
        left = _planned(world.ledger, name, secret["metadata"]["resourceVersion"])
        assert (left.steps, left.foreign, left.leftover) == ((), (), ()), f"{name} after {run.done}"
    await run.operator.crash()
    # Of pods the kubelet may have more to say.
    before, written = world.versions(but=r.PODS), len(world.gate.writes)
    await run.operator.start()
    await run.operator.has_looked(len(names))
    assert [(str(call), call.body) for call in world.gate.writes[written:]] == [], run.done
    assert world.versions(but=r.PODS) == before
    assert KEY.decode() not in run.operator.said()


SEEDS = [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 30))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_users_do_it_converges_and_no_pod_is_ever_unprotected(world: World, seed: int) -> None:
    run = Run(world, seed)
    await run.operator.start()
    for _ in range(STEPS):
        await run.do(PEACEFUL)
        await run.pause()
    await _check(run)
    world.assert_always_isolated()


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_is_damaged_it_converges(world: World, seed: int) -> None:
    run = Run(world, 1000 + seed)
    await run.operator.start()
    for _ in range(STEPS):
        await run.do(HARMFUL)
        await run.pause()
    await _check(run)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
async def test_whatever_is_done_to_sandboxes_and_their_gateway_it_converges(
    worlds: Worlds, api: Api, seed: int
) -> None:
    await define(api, r.USAGES)
    world = await worlds(gateways=True)
    run = Run(world, 2000 + seed, WITH_GATEWAYS)
    await run.operator.start()
    for _ in range(STEPS):
        await run.do(OF_A_GATEWAY)
        await run.pause()
    await _check(run)
