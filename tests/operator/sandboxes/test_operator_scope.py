"""An operator for one namespace: works with rights in that one alone, and is blind to all others."""

import re
from collections.abc import AsyncIterator

import pytest
from limited import account, withdraw
from oracle import complaints
from world import PORTS
from worlds import Worlds

from claude_sandbox.install.manifests import Installation
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

# Which version the server has, what it serves, the node of a pod that does not end, classes that are named, who was
# given which rights, and which images may run.
CLUSTER_WIDE = re.compile(
    r"/version|/apis?(/[^/]+){0,2}|/api/v1/nodes/[^/]+|/apis/rbac.authorization.k8s.io/v1/(cluster)?role(binding)?s"
    r"|/apis/storage.k8s.io/v1/storageclasses/[^/]+|/apis/node.k8s.io/v1/runtimeclasses/[^/]+"
    r"|/apis/claudesandbox.dev/v1alpha1/claudeimagepolicies"
)


@pytest.fixture(autouse=True)
async def no_rights_stay(api: Api) -> AsyncIterator[None]:
    """No test gives the next one rights."""
    yield
    await withdraw(api)


async def test_an_operator_for_one_namespace_needs_no_rights_in_others(
    worlds: Worlds, api: Api, ground: Cluster
) -> None:
    mine, other = await worlds(), await worlds()
    await mine.log_in(await account(api, ground, Installation(namespaces=(mine.namespace,))))
    operator = mine.operator("--lease-namespace=claude-sandbox-system", elect=True)
    await operator.start()
    await other.create("alice", **PORTS)
    await mine.create("alice", **PORTS, workspace={"type": "PersistentVolumeClaim", "size": "1Gi"})
    await mine.ready("alice")
    await mine.said("alice", "Compliant", "True")
    assert complaints(mine.ledger, "alice") == []
    await mine.change_secret(b"another")
    await mine.edit("alice", operatingMode="Suspended")
    await mine.said("alice", "Ready", "False", "Suspended")
    await mine.edit("alice", operatingMode="Running")
    await mine.ready("alice")
    await mine.delete("alice")
    await mine.gone(but=("sandbox-alice-workspace",))
    assert other.leftovers() == []
    assert other.sandbox("alice")["status"] == {"observedGeneration": -1}  # type: ignore[index]
    own = (f"/namespaces/{mine.namespace}", "/namespaces/claude-sandbox-system/leases")
    strange = [
        str(call)
        for call in mine.gate.calls
        if not any(part in call.path for part in own) and not CLUSTER_WIDE.fullmatch(call.path.partition("?")[0])
    ]
    assert strange == []
    assert mine.gate.refused == [], "it asks for nothing that it has no right to"
    mine.assert_always_isolated()


async def test_an_operator_for_the_cluster_looks_after_all_namespaces(
    worlds: Worlds, api: Api, ground: Cluster
) -> None:
    first, second = await worlds(), await worlds()
    await first.log_in(await account(api, ground, Installation()))
    await first.operator(cluster_wide=True).start()
    for world in (first, second):
        await world.create("alice", **PORTS)
    for world in (first, second):
        await world.ready("alice")
        await world.said("alice", "Compliant", "True")
        assert complaints(world.ledger, "alice") == []
    for world in (first, second):
        await world.delete("alice")
        await world.gone()
        world.assert_always_isolated()
    # Another namespace may be on its way out: nothing can be created in it.
    assert [call for call in first.gate.refused if any(world.namespace in call.path for world in (first, second))] == []


async def test_without_the_right_to_do_something_the_status_says_which(
    worlds: Worlds, api: Api, ground: Cluster
) -> None:
    world = await worlds()
    nothing = await worlds()
    # Rights in another namespace, none in this one.
    await world.log_in(await account(api, ground, Installation(namespaces=(nothing.namespace,))))
    operator = world.operator()
    await operator.start()
    operator.expect_end()
    await operator.ended()
    assert "kubectl apply -k manifests/" in operator.said()
