"""Policies for images: what they refuse never runs, and what they permit runs by the digest that was verified."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from image_registry import ImageRegistry, PrivateRegistry
from kubelet import Kubelet
from signing import sign
from tagged import AT_ONCE, BESIDE, CANARY, CRASHES, ENDS, HANGS, OURS, THEIRS, Policies, Tag, image_of, signed_by
from world import World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api

pytestmark = pytest.mark.controlplane


async def test_only_what_is_signed_runs_and_by_the_digest_that_was_verified(
    world: World, kubelet: Kubelet, registry: ImageRegistry, policies: Policies
) -> None:
    for name, key in (("good", OURS), ("wrong", THEIRS)):
        sign(registry, name, registry.put(name, "1", name), key)
    registry.put("unsigned", "1", "unsigned")
    await policies.make(**signed_by(registry, OURS))
    await world.operator().start()
    for name in ("good", "wrong", "unsigned"):
        await world.create(name, image={"repository": f"{registry.host}/{name}", "tag": "1"})
    await world.ready("good")
    digest = registry.manifests["good", "1"]
    told = (world.sandbox("good") or {})["status"]["image"]
    assert image_of(world, "good") == f"{registry.host}/good:1@{told['digest']}"
    assert registry.manifests["good", told["digest"]] == digest
    assert told["verified"]
    for name in ("wrong", "unsigned"):
        refused = await world.said(name, "Stalled", "True", "ImageNotAllowed")
        assert policies.name in refused["message"]
        await world.said(name, "Ready", "False", "ImageNotAllowed")
        assert image_of(world, name) is None
    # The tag moves, and what runs stays. Who names what is signed runs that.
    newer = registry.put("good", "1", "newer")
    sign(registry, "good", newer, OURS)
    await world.edit("wrong", image={"repository": f"{registry.host}/good", "tag": None, "digest": newer})
    await world.ready("wrong")
    assert image_of(world, "wrong") == f"{registry.host}/good@{newer}"
    await world.edit("good", env=[{"name": "MORE", "value": "1"}], updateStrategy={"type": "Recreate"})
    await world.ledger.until(lambda: "MORE" in str(world.child(r.PODS, "good")), "another pod")
    assert image_of(world, "good") == f"{registry.host}/good:1@{told['digest']}"


async def test_what_runs_when_a_policy_comes_is_told_of_and_ends_only_if_the_policy_says_so(
    world: World, kubelet: Kubelet, api: Api, policies: Policies
) -> None:
    await world.operator().start()
    await world.create(
        "alice", image={"repository": "registry.test/a", "tag": "1"}, updateStrategy={"type": "Recreate"}
    )
    await world.ready("alice")
    before = (world.child(r.PODS, "alice") or {})["metadata"]["uid"]
    await policies.make(permitted=[{"repository": "registry.test/b"}])
    refused = await world.said("alice", "Stalled", "True", "ImageNotAllowed")
    assert "registry.test/b" in refused["message"]
    await world.said("alice", "Ready", "True")

    def fails() -> bool:
        controls = ((world.sandbox("alice") or {})["status"].get("compliance") or {}).get("controls") or ()
        return any((one["id"], one["result"]) == ("IMG-02", "Fail") for one in controls)

    await world.ledger.until(fails, "the failure of IMG-02")
    await world.said("alice", "Compliant", "False")
    assert (world.child(r.PODS, "alice") or {})["metadata"]["uid"] == before
    # What is lost now does not come back.
    await api.delete(r.PODS, "sandbox-alice", world.namespace)
    await world.said("alice", "Ready", "False", "ImageNotAllowed")
    assert world.child(r.PODS, "alice") is None
    await policies.make(permitted=[{"repository": "registry.test"}])
    await world.ready("alice")
    await policies.make(permitted=[{"repository": "registry.test/b"}], running="End")
    await world.said("alice", "Ready", "False", "ImageNotAllowed")
    await world.ledger.until(lambda: world.child(r.PODS, "alice") is None, "the end of what is refused")


async def test_a_newer_image_rolls_if_it_is_signed_and_works_and_else_the_one_before_is_back(
    world: World, kubelet: Kubelet, registry: ImageRegistry, policies: Policies
) -> None:
    tag = Tag(world, kubelet, registry)
    first = tag.push("first")
    await policies.make(**signed_by(registry, OURS))
    await world.operator("--image-check-interval=1").start()
    await world.create("alice", image={"repository": f"{registry.host}/a", "tag": "1"}, updatePolicy=AT_ONCE)
    await tag.runs(first)
    good = tag.push("good")
    await tag.comes_to("Rolled", good)
    await tag.runs(good)
    await world.told("alice", "ImageRolled", good)
    for content, state in (("crashes", CRASHES), ("hangs", HANGS)):
        broken = tag.push(content, state=state)
        said = await tag.comes_to("RolledBack", broken)
        assert (said["digest"], said["last"]["from"]) == (good, good)
        assert broken in said["failed"]
        await tag.runs(good)
        await world.told("alice", "ImageRolledBack", broken)
        await tag.is_told(broken, "not tried again")
    unsigned = tag.push("unsigned", key=None)
    await tag.is_told(unsigned, "is not signed")
    wrong = tag.push("wrong", key=THEIRS)
    await tag.is_told(wrong, "no signature")
    await tag.runs(good)
    assert not [one for one in kubelet.images if unsigned in one or wrong in one]
    assert world.heals("alice") == 0
    # What is good again is taken again.
    last = tag.push("last")
    await tag.comes_to("Rolled", last)
    await tag.runs(last)


async def test_notify_tells_of_a_newer_image_and_leaves_what_runs(
    world: World, kubelet: Kubelet, registry: ImageRegistry, policies: Policies
) -> None:
    tag = Tag(world, kubelet, registry)
    first = tag.push("first")
    await world.operator("--image-check-interval=1").start()
    wish = {"image": {"repository": f"{registry.host}/a", "tag": "1"}, "updatePolicy": {"strategy": "Notify"}}
    await world.create("alice", updateStrategy={"type": "Recreate"}, **wish)
    # No policy says that the operator may ask this registry.
    refused = await world.said("alice", "Stalled", "True", "ImageNotAllowed")
    assert registry.host in refused["message"]
    assert registry.asked == []
    await policies.make(**{**signed_by(registry, OURS), "permitted": [{"repository": "*"}]})
    await tag.runs(first)
    newer = tag.push("newer", key=None)
    await tag.is_told(newer, "Notify")
    await world.told("alice", "ImageAvailable", newer)
    await tag.runs(first)
    # Who asks for the newer one by its digest has it.
    await world.edit("alice", image={"digest": newer})
    await tag.runs(newer)
    assert not [one for one in kubelet.images if f"{registry.host}/a:1@" not in one and registry.host in one]


async def test_a_private_registry_is_asked_with_the_administrators_login_and_with_no_tenants(
    world: World, kubelet: Kubelet, api: Api, policies: Policies, tmp_path: Path
) -> None:
    own = f"{world.namespace}-own"
    await api.create(r.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own}})
    async with PrivateRegistry(tmp_path, "Bearer") as registry:

        async def secret(namespace: str, kind: str) -> None:
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "type": kind}
            texts = dict(zip(("username", "password"), registry.login, strict=True))
            await api.create(r.SECRETS, {**body, "stringData": texts}, namespace)

        digest = registry.put("a", "1")
        sign(registry, "a", digest, OURS)
        asked = {
            "host": registry.host, "caCertificates": registry.authority, "credentialsSecretRef": {"name": "login"},
        }  # fmt: skip
        # Who may write Secrets beside the sandboxes gives the operator nothing to log in with.
        await secret(world.namespace, meta.HOST_SECRET_TYPE)
        await secret(own, "Opaque")
        await policies.make(**{**signed_by(registry, OURS), "registries": [asked]})
        operator = world.operator(f"--lease-namespace={own}")
        await operator.start()
        await world.create("alice", image={"repository": f"{registry.host}/a", "tag": "1"})
        told = await world.said("alice", "Ready", "False", "Retrying")
        assert "spec.registries" in told["message"]
        assert image_of(world, "alice") is None
        assert not any(registry.told)
        await api.delete(r.SECRETS, "login", own)
        await secret(own, meta.HOST_SECRET_TYPE)
        await world.ready("alice")
        assert image_of(world, "alice") == f"{registry.host}/a:1@{digest}"
        log = operator.log.read_text()
    assert f"Secret {own}/login is not for" in log
    assert registry.login[1] not in log + str(world.sandbox("alice"))


async def test_newer_images_spread_in_turns_and_one_that_fails_is_tried_once(
    world: World, kubelet: Kubelet, registry: ImageRegistry, policies: Policies
) -> None:
    names = ("alice", "bob", "carol")
    first = registry.put("a", "1", "first")
    permitted = {"permitted": [{"repository": registry.host}], "rollout": {"maxConcurrent": 1}}
    await policies.make(**{**signed_by(registry, OURS), **permitted})
    await world.operator("--image-check-interval=1").start()
    for name in names:
        await world.create(name, image={"repository": f"{registry.host}/a", "tag": "1"}, updatePolicy=AT_ONCE)

    def of(digest: str, name: str) -> bool:
        return image_of(world, name) == f"{registry.host}/a:1@{digest}" and world.is_ready(name)

    def said(name: str) -> dict[str, Any]:
        return dict(((world.sandbox(name) or {}).get("status") or {}).get("image") or {})

    most = 0

    def all_of(digest: str) -> bool:
        nonlocal most
        most = max(most, sum("rolling" in said(name) for name in names))
        return all(of(digest, name) and said(name).get("digest") == digest for name in names)

    await world.ledger.until(lambda: all_of(first), "all of them", 120.0)
    good = registry.put("a", "1", "good")
    await world.ledger.until(lambda: all_of(good), "all of them with the newer image", 180.0)
    broken = registry.put("a", "1", "broken")
    kubelet.broken[broken] = CRASHES

    def left_alone() -> bool:
        nonlocal most
        most = max(most, sum("rolling" in said(name) for name in names))
        told = [(said(name).get("available") or {}).get("message", "") for name in names]
        return all("not tried again" in one or "others leave it alone" in one for one in told)

    await world.ledger.until(left_alone, "what is broken left alone", 180.0)
    assert sum(broken in (said(name).get("failed") or ()) for name in names) == 1
    assert most == 1
    await world.ledger.until(lambda: all_of(good), "all of them with what works", 120.0)


async def test_what_does_not_work_beside_the_workload_never_touches_it_and_what_works_takes_its_place(
    world: World, kubelet: Kubelet, registry: ImageRegistry, policies: Policies
) -> None:
    tag = Tag(world, kubelet, registry)
    first = tag.push("first")
    await policies.make(**signed_by(registry, OURS))
    await world.operator("--image-check-interval=1").start()
    await world.create("alice", image={"repository": f"{registry.host}/a", "tag": "1"}, updatePolicy=BESIDE)
    await tag.runs(first)
    uid = (world.child(r.PODS, "alice") or {})["metadata"]["uid"]
    broken = tag.push("crashes", state=ENDS)
    said = await tag.comes_to("NotRolled", broken)
    assert (said["digest"], said["failed"]) == (first, [broken])
    await world.told("alice", "ImageNotRolled", broken)
    assert (world.child(r.PODS, "alice") or {})["metadata"]["uid"] == uid
    good = tag.push("good")
    await tag.comes_to("Rolled", good)
    await tag.runs(good)
    assert "beside the workload" in tag.said["last"]["message"]
    await world.ledger.until(lambda: CANARY not in str(world.leftovers()), "nothing of what was tried")
    assert world.heals("alice") == 0
    world.assert_always_isolated()
    history = world.ledger.history()
    tried = [one.obj for one in history if (one.type, one.kind, one.name) == ("ADDED", "Pod", CANARY)]
    assert [one["spec"]["containers"][0]["image"].partition("@")[2] for one in tried][-1] == good
    assert len(tried) == 2
    account = (world.child(r.PODS, "alice") or {})["spec"]["serviceAccountName"]
    for one in tried:
        # It is no sandbox's pod, so that nothing but its own policy, which denies all, is about it.
        assert meta.LABEL_SANDBOX not in one["metadata"]["labels"]
        assert one["spec"]["serviceAccountName"] == account
        assert not {"secret", "projected", "persistentVolumeClaim"} & {key for v in one["spec"]["volumes"] for key in v}
        made = int(one["metadata"]["resourceVersion"])
        policies_of = [past for past in history if (past.kind, past.name) == ("NetworkPolicy", CANARY)]
        last = [past for past in policies_of if past.version < made][-1]
        assert (last.type, last.obj["spec"].get("ingress"), last.obj["spec"].get("egress")) == ("ADDED", None, None)


@pytest.mark.slow
async def test_a_newer_image_with_which_a_control_fails_that_did_not_gives_way_to_the_one_before(
    world: World, kubelet: Kubelet, api: Api, registry: ImageRegistry, policies: Policies
) -> None:
    tag = Tag(world, kubelet, registry)
    first = tag.push("first")
    await policies.make(**signed_by(registry, OURS))
    await world.operator("--image-check-interval=1").start()
    asked = {**AT_ONCE, "healthGate": {"readyWithin": "60s", "stableFor": "5s", "requires": "Compliant"}}
    await world.create("alice", image={"repository": f"{registry.host}/a", "tag": "1"}, updatePolicy=asked)
    await tag.runs(first)
    worse = tag.push("worse")
    await world.ledger.until(lambda: "rolling" in tag.said, "a newer image that is tried", 120.0)
    # Somebody opens the namespace meanwhile.
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "open"}, "spec": spec}
    await api.create(r.NETWORK_POLICIES, policy, world.namespace)
    said = await tag.comes_to("RolledBack", worse)
    assert "NET-02" in said["last"]["message"]
    assert (said["digest"], said["failed"]) == (first, [worse])
    await tag.runs(first)
    # What fails before as well says nothing of the next.
    good = tag.push("good")
    await tag.comes_to("Rolled", good)


@pytest.mark.slow
async def test_where_a_quota_has_no_room_beside_the_workload_it_goes_on_without_and_says_so(
    world: World, kubelet: Kubelet, api: Api, registry: ImageRegistry, policies: Policies
) -> None:
    tag = Tag(world, kubelet, registry)
    first = tag.push("first")
    await policies.make(**signed_by(registry, OURS))
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}}
    await api.create(r.RESOURCE_QUOTAS, quota, world.namespace)
    await world.quota_is_counted("one")
    await world.operator("--image-check-interval=1").start()
    await world.create("alice", image={"repository": f"{registry.host}/a", "tag": "1"}, updatePolicy=BESIDE)
    await tag.runs(first)
    good = tag.push("good")
    said = await tag.comes_to("Rolled", good)
    assert "not tried beside the workload" in said["last"]["message"]
    assert "exceeded quota" in said["last"]["message"]
    assert not [one for one in world.ledger.history() if (one.kind, one.name) == ("Pod", CANARY)]


@pytest.mark.slow
async def test_time_without_an_operator_is_no_time_in_which_what_is_tried_was_ready(
    world: World, kubelet: Kubelet, registry: ImageRegistry, policies: Policies
) -> None:
    tag, lasts = Tag(world, kubelet, registry), timedelta(seconds=8)
    first = tag.push("first")
    await policies.make(**signed_by(registry, OURS))
    operator = world.operator("--image-check-interval=1")
    await operator.start()
    watched = {**BESIDE, "healthGate": {"stableFor": f"{lasts.seconds}s"}}
    await world.create("alice", image={"repository": f"{registry.host}/a", "tag": "1"}, updatePolicy=watched)
    await tag.runs(first)
    good = tag.push("good")
    await world.ledger.until(lambda: "readyAt" in tag.said.get("canary", {}), "what is tried is ready", 120.0)
    await operator.crash()
    world.operators.remove(operator)
    # Longer than the gate asks for.
    await asyncio.sleep(lasts.seconds + 4)
    came = datetime.now(UTC).replace(microsecond=0)
    await world.operator("--image-check-interval=1").start()
    await world.ledger.until(lambda: "endedAt" in tag.said.get("canary", {}), "the end of what is tried", 120.0)
    seen = [one.obj for one in world.ledger.history() if (one.kind, one.name) == ("ClaudeSandbox", "alice")]
    told = [canary for one in seen if (canary := ((one.get("status") or {}).get("image") or {}).get("canary"))]
    ready = max(datetime.fromisoformat(one["readyAt"]) for one in told if "readyAt" in one)
    assert ready >= came
    assert datetime.fromisoformat(tag.said["canary"]["endedAt"]) - ready >= lasts
    await tag.comes_to("Rolled", good)


@pytest.mark.slow
async def test_who_is_suspended_while_an_image_is_tried_leaves_nothing_of_it(
    world: World, kubelet: Kubelet, registry: ImageRegistry, policies: Policies
) -> None:
    tag = Tag(world, kubelet, registry)
    first = tag.push("first")
    await policies.make(**signed_by(registry, OURS))
    operator = world.operator("--image-check-interval=1")
    await operator.start()
    long = {**BESIDE, "healthGate": {"stableFor": "1h"}}
    await world.create("alice", image={"repository": f"{registry.host}/a", "tag": "1"}, updatePolicy=long)
    await tag.runs(first)
    tag.push("good")
    await world.ledger.until(lambda: "readyAt" in tag.said.get("canary", {}), "what is tried is ready", 120.0)
    tried = (world.ledger.get(r.PODS, CANARY) or {})["metadata"]["uid"]
    # Whoever comes next goes on with the same one.
    await operator.crash()
    world.operators.remove(operator)
    await world.operator("--image-check-interval=1").start()
    await world.edit("alice", env=[{"name": "MORE", "value": "1"}])
    await world.said("alice", "Ready", "True")
    assert (world.ledger.get(r.PODS, CANARY) or {})["metadata"]["uid"] == tried == tag.said["canary"]["uid"]
    await world.edit("alice", operatingMode="Suspended")
    await world.said("alice", "Ready", "False", "Suspended")
    await world.ledger.until(lambda: "canary" not in tag.said, "its end in the status")
    await world.ledger.until(lambda: CANARY not in str(world.leftovers()), "nothing of what was tried")
