"""What an API server fills in by itself, of every supported release, is no change of what was asked for.

A default that nobody knew here would look like admission that changes pods, and stall every sandbox.
"""

import pytest

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.kubernetes import drift, objects
from claude_sandbox.blueprint.build import build
from claude_sandbox.blueprint.model import Identity, Image, Site
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.resources import (
    NAMESPACES,
    NETWORK_POLICIES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

PLACE = "defaults"
WHOLE = {
    "credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"},
    "network": {"ports": [{"name": "web", "containerPort": 8080}]},
    "workspace": {"type": "PersistentVolumeClaim", "size": "1Gi"},
    "command": ["sleep"],
    "args": ["1"],
    "env": [{"name": "COLOUR", "value": ""}],
}
SHORT_LIVED = WHOLE | {"workspace": {"type": "EmptyDir", "size": "1Gi"}}


@pytest.mark.parametrize("release", ["control_plane", "newer_control_plane"])
async def test_what_a_server_fills_in_is_no_change(request: pytest.FixtureRequest, release: str) -> None:
    plane: Cluster = request.getfixturevalue(release)
    async with Api(from_kubeconfig(str(plane.kubeconfig), None)) as api:
        await api.create(NAMESPACES, {"metadata": {"name": PLACE}})
        for name, document in (("whole", WHOLE), ("short-lived", SHORT_LIVED)):
            spec = ClaudeSandboxSpec.model_validate(document)
            blueprint = build(Identity(PLACE, name, "1"), spec, Site(Image("example.org/a:1", None, "Never")))
            account, policy = objects.service_account(blueprint), objects.network_policy(blueprint)
            made = await api.create(SERVICE_ACCOUNTS, account, PLACE)
            assert drift.account_differences(account, made) == ()
            assert drift.policy_differences(policy, await api.create(NETWORK_POLICIES, policy, PLACE)) == ()
            pod, service, claim = objects.pod(blueprint, "1"), objects.service(blueprint), objects.claim(blueprint)
            assert drift.pod_differences(pod, await api.create(PODS, pod, PLACE)) == ()
            assert service is not None
            assert drift.service_differences(service, await api.create(SERVICES, service, PLACE)) == ()
            if claim is not None:
                made = await api.create(PERSISTENT_VOLUME_CLAIMS, claim, PLACE)
                assert drift.claim_differences(claim, made) == ()
