"""A sandbox in quarantine in a cluster: its pod ends, what can be had of it is kept, and nothing makes another."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from kubelet import Kubelet
from ledger import says
from revocation_hook import TOKEN, revocation_server
from world import SECRET, World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

EVIDENCE = "quarantine-evidence"
OPTION = f"--lease-namespace={EVIDENCE}"
VOLUME = {"workspace": {"type": "PersistentVolumeClaim", "size": "1Gi"}}
QUARANTINED = {"state": "Quarantined", "note": "it pushed to main"}
OF_A_TENANT = {
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "allow-all"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]},
}  # fmt: skip


@pytest.fixture(autouse=True)
async def place(api: Api) -> None:
    await api.apply(r.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": EVIDENCE}})


def incident(world: World) -> dict[str, Any]:
    return dict(((world.sandbox("alice") or {}).get("status") or {}).get("incident") or {})


async def kept(world: World) -> dict[str, bytes]:
    """What is in the evidence, as the status says where that is."""
    await world.ledger.until(lambda: bool(incident(world).get("evidence")), "evidence")
    said = incident(world)["evidence"]
    where, _, file = said["place"].partition(":")
    found = await world.api.get(r.CONFIG_MAPS, where.partition("/")[2], EVIDENCE)
    assert found["immutable"] is True
    content = gzip.decompress(base64.b64decode(found["binaryData"][file]))
    assert hashlib.sha256(content).hexdigest() == said["sha256"]
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


async def test_its_pod_ends_though_a_tenant_allows_everything_and_none_is_made(world: World, kubelet: Kubelet) -> None:
    operator = world.operator(OPTION)
    await operator.start()
    await world.api.create(r.NETWORK_POLICIES, OF_A_TENANT, world.namespace)
    await world.create("alice", **VOLUME)
    await world.ready("alice")
    claim = world.child(r.PERSISTENT_VOLUME_CLAIMS, "alice")
    pod = world.child(r.PODS, "alice")
    assert pod is not None
    assert claim is not None
    await world.edit("alice", incident=QUARANTINED)
    await world.said("alice", "Contained", "True", "Quarantined")
    await world.told("alice", "Quarantined")
    assert world.child(r.PODS, "alice") is None
    policy = world.child(r.NETWORK_POLICIES, "alice")
    assert policy is not None
    assert policy["spec"].get("ingress") is None
    assert policy["spec"].get("egress") is None
    files = await kept(world)
    assert json.loads(files["pod.json"])["metadata"]["uid"] == pod["metadata"]["uid"]
    assert json.loads(files["claudesandbox.json"])["spec"]["incident"] == QUARANTINED
    assert b"only a pod's node knows" in files["NOT-KEPT.txt"]
    # A restart of the operator, and a change of the spec, bring nothing back.
    await operator.crash()
    await world.operator(OPTION).start()
    await world.edit("alice", terminationGracePeriodSeconds=20)
    generation = world.sandbox("alice")["metadata"]["generation"]  # type: ignore[index]
    await world.ledger.until(
        lambda: world.sandbox("alice")["status"]["observedGeneration"] == generation,  # type: ignore[index]
        "a look at the change",
    )
    assert world.child(r.PODS, "alice") is None
    assert says(world.sandbox("alice"), "Contained", "True")
    assert world.child(r.PERSISTENT_VOLUME_CLAIMS, "alice")["metadata"]["uid"] == claim["metadata"]["uid"]  # type: ignore[index]

    await world.edit("alice", incident=None)
    await world.ready("alice")
    again = world.child(r.PODS, "alice")
    assert again is not None
    assert again["metadata"]["uid"] != pod["metadata"]["uid"]
    assert world.heals("alice") == 0
    assert not incident(world)
    await world.api.delete(r.NETWORK_POLICIES, "allow-all", world.namespace)
    world.assert_always_isolated()


async def command(ground: Cluster, *arguments: str) -> tuple[int, str]:
    """The command as a person calls it: its exit code, and all that it writes."""
    program = (sys.executable, "-m", "claude_sandbox.cli.main", "incident", *arguments)
    process = await asyncio.create_subprocess_exec(
        *program, f"--kubeconfig={ground.kubeconfig}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    written, _ = await process.communicate()
    return process.returncode or 0, written.decode()


async def test_by_the_command_it_is_contained_and_its_evidence_fetched_and_it_is_lifted(
    world: World, kubelet: Kubelet, ground: Cluster, tmp_path: Path
) -> None:
    await world.operator(OPTION).start()
    await world.create("alice")
    await world.ready("alice")
    name, archive = f"{world.namespace}/alice", tmp_path / "evidence.tar"
    code, written = await command(ground, "collect", name, "-o", str(archive))
    assert (code, archive.exists()) == (1, False), written
    code, written = await command(ground, "quarantine", name, "--note", "it pushed to main")
    assert code == 0, written
    assert "Contained  True" in written
    assert "sha256" in written
    assert "it pushed to main" in written
    code, written = await command(ground, "collect", name, "-o", str(archive))
    assert code == 0, written
    assert archive.stat().st_mode & 0o777 == 0o600
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == incident(world)["evidence"]["sha256"]
    code, written = await command(ground, "collect", name, "-o", str(archive))
    assert code == 2, written
    code, written = await command(ground, "lift", name)
    assert code == 0, written
    assert "no incident" in written
    await world.ready("alice")


async def test_a_compromised_key_ends_who_holds_it_until_another_is_there(world: World, kubelet: Kubelet) -> None:
    await world.operator(OPTION).start()
    await world.create("alice")
    await world.create("bob")
    await world.ready("alice")
    await world.ready("bob")
    await world.edit("alice", incident={"state": "KeyCompromised"})
    for name in ("alice", "bob"):
        said = await world.said(name, "CredentialsCurrent", "False", "KeyCompromised")
        assert "of ClaudeSandbox alice" in said["message"]
        await world.ledger.until(lambda name=name: world.child(r.PODS, name) is None, f"the end of {name}'s pod")  # type: ignore[misc]
    await world.told("bob", "Refused", "is compromised")
    secret = await world.api.get(r.SECRETS, SECRET, world.namespace)
    await world.ledger.until(lambda: bool(incident(world).get("generation")), "the generation")
    assert incident(world)["generation"] == secret["metadata"]["resourceVersion"]
    assert [one["name"] for one in incident(world)["users"]] == ["alice", "bob"]
    assert "endedAt" not in incident(world)
    await world.change_secret(b"another-key-that-is-none")
    await world.ready("alice")
    await world.ready("bob")
    await world.ledger.until(lambda: bool(incident(world).get("endedAt")), "the end of the incident")
    await world.edit("alice", incident=None)
    await world.ledger.until(lambda: not incident(world), "nothing said of an incident")


async def test_a_hook_of_the_administrator_s_is_told_of_a_compromised_key_and_the_status_has_its_answer(
    world: World, kubelet: Kubelet, tmp_path: Path
) -> None:
    async with revocation_server(tmp_path) as hook:
        hook.answers = [503, 204]
        await world.operator(OPTION, *hook.options).start()
        await world.create("alice")
        await world.ready("alice")
        await world.edit("alice", incident={"state": "KeyCompromised"})
        await world.ledger.until(
            lambda: (incident(world).get("revocation") or {}).get("state") == "Revoked", "the revocation"
        )
        assert len(hook.asked) == 2
        login, document = hook.asked[-1]
        assert login == f"Bearer {TOKEN}"
        assert (document["namespace"], document["secret"]) == (world.namespace, SECRET)
        assert document["generation"] == incident(world)["generation"]
        assert TOKEN not in str(world.sandbox("alice"))
        # Another key ends the incident, and it stays said that the old one is revoked.
        await world.change_secret(b"another-key-that-is-none")
        await world.ledger.until(lambda: bool(incident(world).get("endedAt")), "the end of the incident")
        assert incident(world)["revocation"]["state"] == "Revoked"
        assert len(hook.asked) == 2


async def test_one_whose_spec_is_refused_and_one_that_was_never_made_are_contained(
    world: World, kubelet: Kubelet
) -> None:
    await world.operator(OPTION).start()
    await world.create("alice", secret="nobody-has-this", incident=QUARANTINED)
    await world.said("alice", "Contained", "True", "Quarantined")
    assert world.child(r.PODS, "alice") is None
    assert says(world.sandbox("alice"), "Ready", "False", "Quarantined")
    assert meta.KIND in (await kept(world))["claudesandbox.json"].decode()


async def test_rebuilt_with_a_fresh_workspace_nothing_mounts_the_one_before_unasked(
    world: World, kubelet: Kubelet, ground: Cluster
) -> None:
    await world.operator(OPTION).start()
    await world.create("alice", **VOLUME)
    await world.ready("alice")
    await world.edit("alice", incident=QUARANTINED)
    await world.said("alice", "Contained", "True", "Quarantined")
    code, written = await command(ground, "lift", f"{world.namespace}/alice", "--fresh-workspace")
    assert code == 0, written
    await world.ready("alice")
    first, second = (world.ledger.get(r.PERSISTENT_VOLUME_CLAIMS, meta.workspace_name("alice", n)) for n in (1, 2))
    pod = world.child(r.PODS, "alice")
    assert first is not None
    assert second is not None
    assert pod is not None
    claims = [
        one["persistentVolumeClaim"]["claimName"] for one in pod["spec"]["volumes"] if "persistentVolumeClaim" in one
    ]
    assert claims == [second["metadata"]["name"]]
    assert says(world.sandbox("alice"), "Ready", "True")
    # The next of the name says no number.
    await world.delete("alice")
    await world.create("alice", **VOLUME)
    stalled = await world.said("alice", "Stalled", "True", "ForeignObject")
    assert "spec.workspace.instance" in stalled["message"]
    # Of the one before it may end later than the next one is looked at.
    await world.ledger.until(lambda: world.child(r.PODS, "alice") is None, "no pod mounts it")
    await world.edit("alice", workspace={"instance": 2})
    await world.ready("alice")
    again = world.ledger.get(r.PERSISTENT_VOLUME_CLAIMS, meta.workspace_name("alice", 2))
    assert again is not None
    assert again["metadata"]["uid"] == second["metadata"]["uid"]
    # Back at the first one, a fresh one is not the second, which there was; nor is it one that is gone since.
    await world.edit("alice", workspace={"instance": 1})
    await world.ready("alice")
    await world.edit("alice", incident=QUARANTINED)
    await world.said("alice", "Contained", "True", "Quarantined")
    await world.api.delete(r.PERSISTENT_VOLUME_CLAIMS, meta.workspace_name("alice", 2), world.namespace)
    code, written = await command(ground, "lift", f"{world.namespace}/alice", "--fresh-workspace")
    assert code == 0, written
    assert (world.sandbox("alice") or {})["spec"]["workspace"]["instance"] == 3
    await world.ready("alice")
