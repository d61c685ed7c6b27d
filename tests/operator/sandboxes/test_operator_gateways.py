"""The gateway of a namespace, on a real API server: made before it is needed, put back, gone after the last sandbox.

Its pods are run by the same stand-in for a kubelet as the sandboxes' are.
"""

import asyncio
import copy
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from gate import Call
from gateway_place import define
from ledger import OF_GATEWAYS
from limited import account, withdraw
from oracle import complaints
from striking import BOTH, Variant, survive
from world import BROKERED, SECRET, WITH_GATEWAYS, World
from worlds import Worlds

from claude_sandbox.api import meta
from claude_sandbox.install.manifests import Installation
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

GATEWAY, TLS = meta.GATEWAY, meta.GATEWAY_TLS
OWN = (r.SERVICE_ACCOUNTS, r.NETWORK_POLICIES, r.SERVICES, *OF_GATEWAYS)
ENOUGH = range(2, 99, 5)
"""Of the writes that an operator is killed at, those of the short run: each takes a start of it."""


@pytest.fixture
async def world(worlds: Worlds, api: Api) -> World:
    """A namespace with a key, of which everything that a gateway has is followed."""
    await define(api, r.USAGES)
    return await worlds(gateways=True)


def part(world: World, kind: r.Resource) -> Any:
    return world.ledger.get(kind, TLS if kind is r.SECRETS else GATEWAY)


def whole(world: World) -> bool:
    return all(part(world, kind) is not None for kind in OWN)


def well(world: World) -> bool:
    return world.is_ready("alice") and not complaints(world.ledger, "alice") and whole(world)


def content(obj: Mapping[str, Any]) -> dict[str, Any]:
    """What there is of an object but for what controllers note, and for a certificate, which is made anew."""
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status", "data")}
    return {"labels": obj["metadata"].get("labels")} | rest


async def running(world: World, *options: str) -> Any:
    operator = world.operator(WITH_GATEWAYS, *options)
    await operator.start()
    await world.create("alice", **BROKERED)
    await world.ready("alice")
    return operator


def all_of_it_again(world: World, lost: list[str]) -> bool:
    return well(world) and not {part(world, kind)["metadata"]["uid"] for kind in OWN} & {*lost}


async def all_of_it_lost(world: World) -> None:
    for kind in OWN:
        with suppress(ApiError):
            await world.api.delete(kind, TLS if kind is r.SECRETS else GATEWAY, world.namespace)


# Killed


@pytest.mark.parametrize("kill", BOTH)
@pytest.mark.parametrize(
    "every", [pytest.param(False, id="some"), pytest.param(True, id="all", marks=pytest.mark.slow)]
)
async def test_killed_while_it_is_made_put_back_and_removed(world: World, kill: Variant, every: bool) -> None:
    operator = world.operator(WITH_GATEWAYS)
    strike = kill(world.gate, operator.kill)
    for number in itertools.count(1) if every else ENOUGH:
        struck = [
            await survive(
                world, operator, strike, number, lambda: world.create("alice", **BROKERED), lambda: well(world)
            ),
        ]
        assert world.heals("alice") == 0, "what was never there was not lost"
        if every:
            lost = [part(world, kind)["metadata"]["uid"] for kind in OWN]
            struck.append(
                await survive(
                    world,
                    operator,
                    strike,
                    number,
                    lambda: all_of_it_lost(world),
                    partial(all_of_it_again, world, lost),
                )
            )
        struck.append(await survive(world, operator, strike, number, lambda: world.delete("alice"), world.all_gone))
        if not any(struck):
            break
    assert number > 12, "fewer writes than a sandbox and its gateway have objects"
    world.assert_always_isolated()


async def test_while_its_policy_can_not_be_made_nothing_is_started_and_the_reason_is_told(world: World) -> None:
    world.gate.refuses = lambda call: (
        call.method == "POST" and "networkpolicies" in call.path and call.body["metadata"]["name"] == GATEWAY
    )
    operator = world.operator(WITH_GATEWAYS)
    await operator.start()
    await world.create("alice", **BROKERED)
    told = await world.said("alice", "Ready", "False")
    assert f"create NetworkPolicy {GATEWAY}" in told["message"], told
    assert part(world, r.SERVICES) is not None
    assert part(world, r.DEPLOYMENTS) is None
    assert world.child(r.PODS, "alice") is None
    world.gate.refuses = lambda _: False
    await world.ready("alice")
    world.assert_always_isolated()


# Changed by somebody

Edit = Callable[[dict[str, Any]], None]


def setting(*path: str | int, to: Any) -> Edit:
    """Put something there."""

    def edit(obj: dict[str, Any]) -> None:
        place: Any = obj
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return edit


POD, CONTAINER = ("spec", "template", "spec"), ("spec", "template", "spec", "containers", 0)
DAMAGES: dict[str, tuple[r.Resource, Edit]] = {
    "no replicas": (r.DEPLOYMENTS, setting("spec", "replicas", to=0)),
    "another image": (r.DEPLOYMENTS, setting(*CONTAINER, "image", to="example.org/other")),
    "other arguments": (r.DEPLOYMENTS, setting(*CONTAINER, "args", to=["--help"])),
    "a further container": (
        r.DEPLOYMENTS,
        lambda obj: obj["spec"]["template"]["spec"]["containers"].append({"name": "more", "image": "example.org/m"}),
    ),
    "the node's network": (r.DEPLOYMENTS, setting(*POD, "hostNetwork", to=True)),
    "another configuration": (
        r.DEPLOYMENTS,
        setting("spec", "template", "metadata", "annotations", meta.ANNOTATION_GATEWAY, to="{}"),
    ),
    "all at once": (r.DEPLOYMENTS, setting("spec", "strategy", to={"type": "Recreate", "rollingUpdate": None})),
    "a wider Role": (r.ROLES, setting("rules", to=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}])),
    "another's Role": (r.ROLE_BINDINGS, setting("subjects", 0, "name", to="default")),
    "everybody may connect": (r.NETWORK_POLICIES, setting("spec", "ingress", to=[{}])),
    "a policy of other pods": (r.NETWORK_POLICIES, setting("spec", "podSelector", "matchLabels", to={"no": "pod"})),
    "a Service of other pods": (r.SERVICES, setting("spec", "selector", to={"app": "theirs"})),
    "a Service for the world": (r.SERVICES, setting("spec", "externalIPs", to=["192.0.2.7"])),
    "no budget": (r.DISRUPTION_BUDGETS, setting("spec", "minAvailable", to=0)),
    "a token": (r.SERVICE_ACCOUNTS, setting("automountServiceAccountToken", to=True)),
    "another certificate": (r.SECRETS, setting("data", "tls.crt", to="bm9uc2Vuc2U=")),
}
NO_LABELS = setting("metadata", "labels", to=dict.fromkeys((meta.LABEL_MANAGED_BY, meta.LABEL_COMPONENT)))
NO_LABEL = setting("metadata", "labels", to={meta.LABEL_MANAGED_BY: None})
UNLABELLED = {
    f"{kind.kind} without {what}": (kind, edit)
    for kind in OWN
    if kind is not r.SECRETS
    for what, edit in (("labels", NO_LABELS), ("a label", NO_LABEL))
}


def rounds() -> Iterator[dict[str, tuple[r.Resource, Edit]]]:
    """All of them, of each kind one at a time."""
    left = dict(DAMAGES | UNLABELLED)
    while left:
        now = {kind: what for what, (kind, _) in left.items()}
        if len(now) > 1:
            # With another certificate the Deployment is another one anyway.
            now.pop(r.SECRETS, None)
        yield {what: left.pop(what) for what in now.values()}


async def test_what_is_changed_of_it_is_put_back_and_told(world: World) -> None:
    await running(world)
    await world.ledger.until(lambda: whole(world), "all of it")
    pod, address = world.child(r.PODS, "alice"), part(world, r.SERVICES)["spec"]["clusterIP"]
    before = {kind: content(part(world, kind)) for kind in OWN}
    for damages in rounds():
        heals, live = world.heals("alice"), {kind: part(world, kind) for kind, _ in damages.values()}
        await asyncio.gather(*(damage(world, kind, live[kind], edit) for kind, edit in damages.values()))
        # Each by itself is told, whether it was put back in one pass with others or in several.
        count = heals + len(damages)
        await world.ledger.until(lambda count=count: world.heals("alice") >= count, f"told: {[*damages]}")
        await world.ledger.until(
            lambda live=live: whole(world) and all(content(part(world, kind)) == before[kind] for kind in live),
            f"put back: {[*damages]}",
        )
        assert part(world, r.SERVICES)["spec"]["clusterIP"] == address, damages
    # The last of them alone.
    assert TLS in world.sandbox("alice")["status"]["heals"]["last"]["what"]  # type: ignore[index]
    await world.told("alice", "Healed")
    await world.ready("alice")
    after = world.child(r.PODS, "alice")
    assert pod is not None
    assert after is not None
    assert after["metadata"]["uid"] == pod["metadata"]["uid"], "nothing of that is a reason to end what runs"
    await world.said("alice", "Drifted", "False")


async def damage(world: World, kind: r.Resource, live: Mapping[str, Any], edit: Edit) -> None:
    """As `kubectl edit` does, but for what is not touched."""
    changed = copy.deepcopy(dict(live))
    edit(changed)
    patch = {key: value for key, value in changed.items() if value != live[key] and key != "metadata"}
    if changed["metadata"] != live["metadata"]:
        patch["metadata"] = {"labels": changed["metadata"]["labels"]}
    name = live["metadata"]["name"]
    await world.api.patch(kind, name, world.namespace, patch, field_manager="user")


# Namespaces, and operators


async def test_the_last_sandbox_goes_as_another_comes(world: World) -> None:
    await running(world)
    for number in range(4):
        before, after = ("alice", "bob") if number % 2 == 0 else ("bob", "alice")
        deleted = asyncio.create_task(world.api.delete(r.SANDBOXES, before, world.namespace))
        await asyncio.sleep(number * 0.04)
        await world.create(after, **BROKERED)
        await deleted
        await world.ready(after)
        gone = partial(world.sandbox, before)
        await world.ledger.until(lambda gone=gone: whole(world) and gone() is None, "one gateway, one sandbox")
    await world.delete("alice")
    await world.gone()
    world.assert_always_isolated()


def _named(call: Call) -> str:
    """The object that is written."""
    made = call.method == "POST" and (call.body.get("metadata") or {}).get("name")
    return made or call.path.partition("?")[0].rpartition("/")[2]


async def test_many_at_once_have_one_and_it_is_written_once(world: World) -> None:
    operator = world.operator(WITH_GATEWAYS)
    await operator.start()
    names = [f"s{number}" for number in range(15)]
    await asyncio.gather(*(world.create(name, **BROKERED) for name in names))
    for name in names:
        await world.ready(name)
    until = f'claudesandbox_gateway_certificate_end_timestamp_seconds{{namespace="{world.namespace}"}}'
    assert time.time() + 80 * 86400 < (await operator.metrics())[until]
    of_it = [str(call) for call in world.gate.writes if _named(call) in (GATEWAY, TLS)]
    assert len(of_it) <= len(OWN) + 2, of_it
    await asyncio.gather(*(world.api.delete(r.SANDBOXES, name, world.namespace) for name in names))
    await world.gone()
    world.assert_always_isolated()


@pytest.mark.slow
async def test_it_goes_with_its_namespace(world: World, worlds: Worlds) -> None:
    operator = await running(world)
    await world.api.delete(r.NAMESPACES, world.namespace)
    await world.gone()
    # It is looked at again by whoever comes next, and nothing of it is written any more.
    writes = len(world.gate.writes)
    await asyncio.sleep(2)
    assert [call for call in map(str, world.gate.writes[writes:]) if "/events" not in call] == []
    assert operator.alive
    assert "Traceback" not in operator.said()


async def test_what_an_operator_left_is_removed_by_the_next_though_no_sandbox_is_left(world: World) -> None:
    operator = await running(world)
    await operator.crash()
    await world.delete("alice")
    await world.ledger.until(lambda: world.sandbox("alice") is None, "the sandbox is gone")
    assert whole(world)
    await operator.start()
    await world.gone()


async def test_another_operator_goes_on_where_the_first_one_led(world: World) -> None:
    options = (WITH_GATEWAYS, f"--lease-namespace={world.namespace}")
    first, second = (world.operator(*options, elect=True) for _ in range(2))
    await first.start()
    await world.create("alice", **BROKERED)
    await world.ready("alice")
    await second.start()
    written, before = len(world.gate.writes), {kind: part(world, kind)["metadata"]["uid"] for kind in OWN}
    await first.stop()
    await world.create("bob", **BROKERED)
    await world.ready("bob")
    assert {kind: part(world, kind)["metadata"]["uid"] for kind in OWN} == before
    again = [str(call) for call in world.gate.writes[written:] if call.path.partition("?")[0].endswith(GATEWAY)]
    assert again == [], "what is as it should be is not written"
    await world.delete("alice")
    await world.delete("bob")
    await world.gone()
    world.assert_always_isolated()


# With the rights of an installation, and no others


@pytest.fixture
async def no_rights_stay(api: Api) -> AsyncIterator[None]:
    """No test gives the next one rights."""
    yield
    await withdraw(api)


def read_by_it(world: World) -> list[str]:
    """The Secrets that its Role names."""
    rules = part(world, r.ROLES)["rules"]
    return [name for rule in rules if "secrets" in rule["resources"] for name in rule["resourceNames"]]


def sees_pods(world: World) -> bool:
    return any("pods" in rule["resources"] for rule in part(world, r.ROLES)["rules"])


def mounted(world: World) -> set[str]:
    volumes = part(world, r.DEPLOYMENTS)["spec"]["template"]["spec"]["volumes"]
    return {one["secret"]["secretName"] for one in volumes if "secret" in one} - {TLS}


@pytest.mark.usefixtures("no_rights_stay")
async def test_with_the_rights_of_an_installation_it_reads_the_secrets_that_are_named(
    world: World, api: Api, ground: Cluster
) -> None:
    await world.log_in(await account(api, ground, Installation(namespaces=(world.namespace,))))
    operator = await running(world)
    assert (read_by_it(world), mounted(world)) == ([SECRET], set())
    # For a service it reads one more, and sees the pods by whose addresses that is lent.
    data = {"token": "eA==", "host": "aXNzdWVzLmV4YW1wbGUub3Jn"}
    secret = {"metadata": {"name": "service"}, "type": meta.SERVICE_SECRET_TYPE, "data": data}
    await api.create(r.SECRETS, secret, world.namespace)
    header = {"valueFrom": {"secretKeyRef": {"name": "service"}}}
    service = {"name": "issues", "host": "issues.example.org", "header": header, "paths": ["/*"]}
    await world.edit("alice", services=[service])
    await world.ledger.until(lambda: read_by_it(world) == [SECRET, "service"] and sees_pods(world), "its Role has them")
    await world.edit("alice", services=None)
    await world.ledger.until(
        lambda: read_by_it(world) == [SECRET] and not sees_pods(world), "its Role has them no more"
    )
    # The right is lost, and the operator begins anew without it: what the gateway has it keeps.
    binding = "claude-sandbox-operator-secrets"
    await api.delete(r.ROLE_BINDINGS, binding, world.namespace)
    before = part(world, r.DEPLOYMENTS)["metadata"]["uid"], part(world, r.DEPLOYMENTS)["metadata"]["generation"]
    await operator.restart()
    await operator.has_looked(2)
    assert world.gate.refused, "the operator asked for what it has no right to any more"
    assert (read_by_it(world), mounted(world)) == ([SECRET], set())
    now = part(world, r.DEPLOYMENTS)["metadata"]
    assert (now["uid"], now["generation"]) == before
    await world.delete("alice")
    await world.gone()


@pytest.mark.usefixtures("no_rights_stay")
@pytest.mark.parametrize(
    "option",
    [pytest.param(("--without-secrets",), id="told so", marks=pytest.mark.slow), pytest.param((), id="refused")],
)
async def test_without_any_permission_on_secrets_those_that_the_namespace_names_are_mounted(
    world: World, api: Api, ground: Cluster, option: tuple[str, ...]
) -> None:
    wanted = Installation(namespaces=(world.namespace,), secrets=False)
    await world.log_in(await account(api, ground, wanted))
    await world.operator(WITH_GATEWAYS, "--resync=1", *option).start()
    await world.create("alice", **BROKERED)
    stalled = await world.said("alice", "Stalled", "True", "SecretNotOptedIn")
    assert f"kubectl annotate namespace {world.namespace} {meta.ANNOTATION_NAMESPACE_SECRETS}" in stalled["message"]
    annotations = {meta.ANNOTATION_NAMESPACE_SECRETS: SECRET}
    await world.api.patch(r.NAMESPACES, world.namespace, None, {"metadata": {"annotations": annotations}})
    await world.ledger.until(lambda: mounted(world) == {SECRET}, "the Secret is mounted")
    await world.ready("alice")
    assert read_by_it(world) == []
    refused = [str(call) for call in world.gate.refused if "/secrets" not in call.path]
    assert refused == [], "it asks for nothing else that it has no right to"
    await world.delete("alice")
    await world.gone()
