"""Which Secrets a sandbox may use, how a new key gets to it, and that the operator never sees one."""

import asyncio
import time
import uuid
from collections.abc import Callable

import pytest
from ledger import says
from limited import account
from world import KEY, SECRET, World
from worlds import Worlds

from claude_sandbox.api import meta
from claude_sandbox.install.manifests import Installation
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

OPT_IN = {meta.LABEL_SECRET_OPT_IN: "true"}


def _generation(world: World) -> str | None:
    pod = world.child(r.PODS, "alice") or {"metadata": {}}
    return (pod["metadata"].get("annotations") or {}).get(meta.ANNOTATION_KEY_GENERATION)


def _credentials(world: World) -> object:
    return ((world.sandbox("alice") or {}).get("status") or {}).get("credentials")


def _looks(world: World) -> int:
    return len([call for call in world.gate.calls if call.path.endswith(f"/secrets/{SECRET}")])


def _asked_for_metadata_only(world: World) -> None:
    secrets = [call for call in world.gate.calls if "/secrets" in call.path]
    assert secrets, "the operator looked at no Secret at all"
    assert {call.method for call in secrets} == {"GET"}
    assert all("as=PartialObjectMetadata" in call.accept for call in secrets), secrets


@pytest.mark.parametrize("how", ["type", "label"])
async def test_a_secret_opts_in_by_its_type_or_by_a_label(worlds: Worlds, how: str) -> None:
    world = await worlds(secret=False)
    if how == "type":
        await world.add_secret()
    else:
        await world.add_secret(kind="Opaque", **OPT_IN)
    await world.operator().start()
    await world.create("alice")
    await world.ready("alice")
    _asked_for_metadata_only(world)


async def test_a_sandbox_waits_for_its_key_and_starts_by_itself(worlds: Worlds) -> None:
    world = await worlds(secret=False)
    await world.operator().start()
    await world.create("alice")
    stalled = await world.said("alice", "Stalled", "True", "SecretNotFound")
    command = f"kubectl create secret generic -n {world.namespace} {SECRET} --type={meta.SECRET_TYPE}"
    assert command in stalled["message"]
    assert world.child(r.PODS, "alice") is None
    assert world.child(r.NETWORK_POLICIES, "alice") is not None, "what isolates is there first"
    await world.add_secret()
    await world.ready("alice")
    assert world.heals("alice") == 0
    _asked_for_metadata_only(world)


# Whoever may create sandboxes must not be able to read any Secret of the namespace through one.
@pytest.mark.parametrize(
    ("kind", "labels"),
    [("Opaque", {}), ("Opaque", {meta.LABEL_SECRET_OPT_IN: "false"}), ("example.org/password", {})],
    ids=["of no special type", "with another value of the label", "of another type"],
)
async def test_a_secret_that_did_not_opt_in_can_not_be_used(worlds: Worlds, kind: str, labels: dict[str, str]) -> None:
    world = await worlds(secret=False)
    secret = await world.add_secret("database-password", kind, **labels)
    await world.operator().start()
    await world.create("alice", secret="database-password")
    stalled = await world.said("alice", "Stalled", "True", "SecretNotOptedIn")
    assert "database-password" in stalled["message"]
    assert f"kubectl label secret -n {world.namespace} database-password" in stalled["message"]
    assert world.child(r.PODS, "alice") is None
    untouched = await world.api.get(r.SECRETS, "database-password", world.namespace)
    assert untouched["metadata"]["resourceVersion"] == secret["metadata"]["resourceVersion"]
    await world.change(r.SECRETS, "database-password", {"metadata": {"labels": OPT_IN}})
    await world.ready("alice")
    _asked_for_metadata_only(world)


# No watch tells of a Secret that did not opt in, so it is looked for now and then.
async def test_a_secret_that_did_not_opt_in_is_told_of_soon_and_nothing_is_written_before(worlds: Worlds) -> None:
    world = await worlds(secret=False)
    await world.operator().start()
    await world.create("alice")
    await world.said("alice", "Stalled", "True", "SecretNotFound")
    looks, before = _looks(world), world.sandbox("alice")
    async with asyncio.timeout(30):
        while _looks(world) == looks:  # noqa: ASYNC110 - that it is looked at leaves no trace
            await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    assert world.sandbox("alice") == before
    await world.add_secret(kind="Opaque")
    await world.said("alice", "Stalled", "True", "SecretNotOptedIn")
    await world.delete(SECRET, r.SECRETS)
    await world.said("alice", "Stalled", "True", "SecretNotFound")


# The kubelet mounts whatever the Secret that a pod names holds by now, opted in or not.
@pytest.mark.parametrize("how", ["unlabelled", "deleted", "swapped"])
async def test_what_runs_with_a_secret_that_is_withdrawn_ends_at_once(worlds: Worlds, how: str) -> None:
    world = await worlds(secret=False)
    await world.add_secret(kind="Opaque", **OPT_IN)
    await world.operator().start()
    await world.create("alice")
    await world.ready("alice")
    before = world.child(r.PODS, "alice")
    began = time.monotonic()
    if how == "unlabelled":
        await world.change(r.SECRETS, SECRET, {"metadata": {"labels": {meta.LABEL_SECRET_OPT_IN: None}}})
    else:
        await world.delete(SECRET, r.SECRETS)
        if how == "swapped":
            await world.add_secret(kind="Opaque")
    why = "SecretNotFound" if how == "deleted" else "SecretNotOptedIn"
    await world.said("alice", "Ready", "False", why)
    await world.said("alice", "Stalled", "True", why)
    async with asyncio.timeout(20):
        while (now := world.child(r.PODS, "alice")) is not None and not now["metadata"].get("deletionTimestamp"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    print(f"{how}: the pod was told to end {time.monotonic() - began:.2f} s after the change")
    assert before is not None
    assert now is None or now["metadata"]["deletionGracePeriodSeconds"] <= 1
    async with asyncio.timeout(20):
        while world.child(r.PODS, "alice") is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    if how == "unlabelled":
        await world.change(r.SECRETS, SECRET, {"metadata": {"labels": OPT_IN}})
        await world.ready("alice")


async def test_a_secret_that_is_made_again_at_once_ends_nothing(worlds: Worlds) -> None:
    """As `kubectl replace --force` does, and what brings Secrets from elsewhere."""
    world = await worlds(secret=False)
    await world.add_secret()
    await world.operator().start()
    await world.create("alice")
    await world.ready("alice")
    before = world.child(r.PODS, "alice")
    await world.delete(SECRET, r.SECRETS)
    made = await world.add_secret()
    await world.said("alice", "CredentialsCurrent", "True", "KeyMounted")
    await asyncio.sleep(1.5)
    after = world.child(r.PODS, "alice")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["annotations"][meta.ANNOTATION_KEY_GENERATION] == made["metadata"]["resourceVersion"]


async def test_a_new_key_is_told_to_the_kubelet_without_a_restart(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    await world.operator().start()
    await world.create("alice")
    await world.said("alice", "CredentialsCurrent", "True", "KeyMounted")
    before = world.child(r.PODS, "alice")
    times = []
    for _ in range(5):
        started = time.monotonic()
        secret = await world.change_secret(uuid.uuid4().bytes)
        wanted = secret["metadata"]["resourceVersion"]
        await world.ledger.until(lambda wanted=wanted: _generation(world) == wanted, "the pod's annotation")
        times.append(time.monotonic() - started)
    expected = {"secret": SECRET, "generation": wanted, "mountedGeneration": wanted}
    await world.ledger.until(lambda: _credentials(world) == expected, "the status")
    await world.said("alice", "CredentialsCurrent", "True", "KeyMounted")
    record_property("seconds from a Secret's change to the pod's annotation", sorted(times))
    print("seconds from a Secret's change to the pod's annotation:", [f"{t:.3f}" for t in sorted(times)])
    after = world.child(r.PODS, "alice")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert world.heals("alice") == 0
    _asked_for_metadata_only(world)


async def test_the_key_is_nowhere_but_in_its_secret(world: World) -> None:
    operator = world.operator("--log-level=DEBUG")
    await operator.start()
    await world.create("alice")
    await world.said("alice", "CredentialsCurrent", "True", "KeyMounted")
    await world.change_secret(KEY + b"-new")
    await world.said("alice", "CredentialsCurrent", "True", "KeyMounted")
    key = KEY.decode()
    assert key not in operator.said()
    assert key not in str([call.body for call in world.gate.calls])
    assert key not in str(world.ledger.history())


async def _without_rights(worlds: Worlds, api: Api, ground: Cluster) -> World:
    """A world whose operator has no permission on Secrets."""
    world = await worlds()
    wanted = Installation(namespaces=(world.namespace,), secrets=False)
    await world.log_in(await account(api, ground, wanted))
    return world


@pytest.mark.parametrize("option", [("--without-secrets",), ()], ids=["told so", "refused"])
async def test_it_works_without_any_permission_on_secrets(
    worlds: Worlds, api: Api, ground: Cluster, option: tuple[str, ...]
) -> None:
    world = await _without_rights(worlds, api, ground)
    # The namespace is asked for at the pace of the resync.
    await world.operator("--resync=1", *option).start()
    await world.create("alice")
    stalled = await world.said("alice", "Stalled", "True", "SecretNotOptedIn")
    annotate = f"kubectl annotate namespace {world.namespace} {meta.ANNOTATION_NAMESPACE_SECRETS}={SECRET}"
    assert annotate in stalled["message"]
    assert world.child(r.PODS, "alice") is None
    annotations = {meta.ANNOTATION_NAMESPACE_SECRETS: f"another, {SECRET}"}
    await world.api.patch(r.NAMESPACES, world.namespace, None, {"metadata": {"annotations": annotations}})
    await world.ready("alice")
    assert says(world.sandbox("alice"), "CredentialsCurrent", "Unknown", "KeyNotObserved")
    assert _generation(world) is None
    if option:
        assert not [call for call in world.gate.calls if "/secrets" in call.path]
