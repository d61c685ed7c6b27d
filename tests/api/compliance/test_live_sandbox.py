"""The operator's own objects, as an API server answers them, pass; what is done to them there is seen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from claude_sandbox.api.spec import ClaudeSandboxSpec, Profile
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.backends.kubernetes.evidence.access_reviews import AccessReviews
from claude_sandbox.backends.kubernetes.evidence.declared import expected
from claude_sandbox.backends.kubernetes.evidence.pod_context import read_surroundings
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.compliance.evidence.pods import QUESTIONS, KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.pods import findings, isolation, measure
from claude_sandbox.kubernetes_api import resources
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.resources import ROLE_BINDINGS, ROLES, Resource
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

NAMESPACE = "live-sandboxes"
IMAGE = "registry.example/claude@sha256:" + "a" * 64


@dataclass(frozen=True)
class Sandbox:
    """A sandbox's objects in the API server."""

    api: Api
    blueprint: Blueprint

    @property
    def name(self) -> str:
        return f"sandbox-{self.blueprint.identity.name}"

    async def evidence(self) -> KubernetesEvidence:
        """Everything, read anew."""

        async def everything(resource: Resource) -> tuple[dict[str, Any], ...]:
            return tuple((await self.api.list(resource, NAMESPACE)).items)

        pod = await self.api.get(resources.PODS, self.name, NAMESPACE)
        reviews = AccessReviews(self.api, QUESTIONS)
        await reviews.ask(NAMESPACE, self.name)
        now = datetime.now(UTC)

        def read(value: Any) -> Reading[Any]:
            return Reading(value, EvidenceSource.LIVE_OBJECT, now)

        return KubernetesEvidence(
            expected=expected(self.blueprint, Profile.DEVELOPMENT, (), frozenset({IMAGE})),
            pod=read(pod),
            namespace=read(await self.api.get(resources.NAMESPACES, NAMESPACE)),
            policies=read(await everything(resources.NETWORK_POLICIES)),
            services=read(await everything(resources.SERVICES)),
            slices=read(()),
            service_account=read(await self.api.get(resources.SERVICE_ACCOUNTS, self.name, NAMESPACE)),
            access=reviews.known(NAMESPACE, self.name),
            grants=(await read_surroundings(self.api, pod)).grants,
            runtime_class=read(None),
            quotas=read(await everything(resources.RESOURCE_QUOTAS)),
            gateway=read(None),
            drift=read(()),
            now=now,
            max_age=timedelta(minutes=5),
        )

    async def failing(self) -> set[str]:
        """The required controls that fail."""
        found = findings(await self.evidence())
        return {finding.control.id for finding in found if finding.required and finding.result is Result.FAIL}


@pytest_asyncio.fixture
async def sandbox(control_plane: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """A sandbox with a port, in a namespace of its own that enforces the restricted standard."""
    spec = ClaudeSandboxSpec.model_validate(
        {
            "credentials": {"apiKeySecretRef": {"name": "anthropic-api-key"}, "delivery": "Mounted"},
            "network": {"ports": [{"name": "web", "containerPort": 8080}]},
        }
    )
    identity = Identity(NAMESPACE, "alice", "0b1c2d3e-0000-4000-8000-000000000000")
    blueprint = build(identity, spec, Site(parse_image(IMAGE, "IfNotPresent"), ()))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    service = objects.service(blueprint)
    assert service is not None
    made = (
        (resources.SERVICE_ACCOUNTS, objects.service_account(blueprint)),
        (resources.NETWORK_POLICIES, objects.baseline_policy(NAMESPACE)),
        (resources.NETWORK_POLICIES, objects.network_policy(blueprint)),
        (resources.SERVICES, service),
        (resources.PODS, objects.pod(blueprint, None)),
    )
    async with Api(from_kubeconfig(str(control_plane.kubeconfig), None)) as api:
        await api.apply(resources.NAMESPACES, namespace)
        for resource, manifest in made:
            await api.apply(resource, manifest)
        # What only a node tells, and which image runs it does not tell yet.
        user = {"linux": {"uid": 1000, "gid": 1000, "supplementalGroups": [1000]}}
        waiting = {"waiting": {"reason": "ContainerCreating"}}
        agent = {"name": "agent", "image": IMAGE, "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
        status = {"containerStatuses": [agent | {"user": user}]}
        await api.patch_status(resources.PODS, objects.pod(blueprint, None)["metadata"]["name"], NAMESPACE, status)
        yield Sandbox(api, blueprint)
        for resource in (*(one for one, _ in made), ROLE_BINDINGS, ROLES):
            for live in (await api.list(resource, NAMESPACE)).items:
                await api.delete(resource, live["metadata"]["name"], NAMESPACE, grace_seconds=0)


async def test_a_sandbox_as_the_operator_makes_it_is_compliant(sandbox: Sandbox) -> None:
    evidence = await sandbox.evidence()
    assert measure(evidence)[1][:2] == ("True", "AllControlsPass")
    assert isolation(evidence)[:2] == ("Unknown", "NotProbed")


async def test_in_production_the_image_that_has_not_started_and_the_key_are_open(sandbox: Sandbox) -> None:
    evidence = await sandbox.evidence()
    evidence = replace(evidence, expected=replace(evidence.expected, profile=Profile.PRODUCTION))
    found = findings(evidence)
    open_controls = {one.control.id: one.result for one in found if one.required and one.result is not Result.PASS}
    # No registry is named as the only allowed one, and no node has told yet which image runs.
    for one in ("NET-12", "NET-13", "ID-04"):
        # It has no gateway, and holds its key itself, which Production does not allow.
        assert open_controls.pop(one) is Result.NOT_APPLICABLE
    assert open_controls.pop("SEC-05") is Result.FAIL
    assert open_controls == {"IMG-01": Result.UNKNOWN, "IMG-02": Result.NOT_APPLICABLE}


async def add_policy(sandbox: Sandbox, **spec: Any) -> None:
    metadata = {"name": "other", "namespace": NAMESPACE}
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata}
    await sandbox.api.apply(resources.NETWORK_POLICIES, body | {"spec": {"podSelector": {}, **spec}})


async def widen_egress(sandbox: Sandbox) -> None:
    # policyTypes is left to the API server.
    await add_policy(sandbox, egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}])


async def widen_ingress(sandbox: Sandbox) -> None:
    await add_policy(sandbox, ingress=[{"from": [{"namespaceSelector": {}}], "ports": [{"port": "web"}]}])


async def allow_only_what_is_declared(sandbox: Sandbox) -> None:
    await add_policy(sandbox, ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": "web"}]}])


async def delete_policies(sandbox: Sandbox) -> None:
    for live in (await sandbox.api.list(resources.NETWORK_POLICIES, NAMESPACE)).items:
        await sandbox.api.delete(resources.NETWORK_POLICIES, live["metadata"]["name"], NAMESPACE)


async def delete_own_policy(sandbox: Sandbox) -> None:
    await sandbox.api.delete(resources.NETWORK_POLICIES, sandbox.name, NAMESPACE)


async def expose(sandbox: Sandbox) -> None:
    spec = {"selector": objects.labels(sandbox.blueprint), "ports": [{"port": 80}]}
    metadata = {"name": "other", "namespace": NAMESPACE}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    await sandbox.api.apply(resources.SERVICES, body)


async def attach_debugger(sandbox: Sandbox) -> None:
    hardened = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    container = {"name": "debug", "image": IMAGE, "targetContainerName": "agent", "securityContext": hardened}
    metadata = {"name": sandbox.name, "namespace": NAMESPACE}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"ephemeralContainers": [container]}}
    await sandbox.api.apply(resources.PODS, body, subresource="ephemeralcontainers")


async def test_rights_that_someone_gives_to_all_accounts_are_seen(sandbox: Sandbox) -> None:
    group = "rbac.authorization.k8s.io"
    metadata = {"name": "other", "namespace": NAMESPACE}
    rules = [{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get"]}]
    subjects = [{"kind": "Group", "apiGroup": group, "name": "system:serviceaccounts"}]
    reference = {"apiGroup": group, "kind": "Role", "name": "other"}
    common = {"apiVersion": f"{group}/v1", "metadata": metadata}
    await sandbox.api.apply(ROLES, common | {"kind": "Role", "rules": rules})
    await sandbox.api.apply(ROLE_BINDINGS, common | {"kind": "RoleBinding", "roleRef": reference, "subjects": subjects})
    # The API server's authorizer learns of roles by a watch of its own.
    async with asyncio.timeout(20):
        while await sandbox.failing() != {"ID-03"}:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)
    messages = [one.verdict.message for one in findings(await sandbox.evidence()) if one.control.id == "ID-03"]
    told = "the ServiceAccount may get pods, secrets in namespace live-sandboxes (RoleBinding other)"
    assert messages == [told]


@pytest.mark.parametrize(
    ("act", "failing"),
    [
        (widen_egress, {"NET-02", "NET-06"}),
        (widen_ingress, {"NET-11"}),
        (allow_only_what_is_declared, set()),
        (delete_policies, {"NET-01", "NET-02", "NET-06", "NET-11"}),
        # The namespace's default deny holds on.
        (delete_own_policy, set()),
        (expose, {"NET-10"}),
        (attach_debugger, {"PRIV-08", "NS-05", "RES-01", "RES-02"}),
    ],
)
async def test_what_is_done_to_a_sandbox_in_the_cluster_is_seen(
    sandbox: Sandbox, act: Callable[[Sandbox], Awaitable[None]], failing: set[str]
) -> None:
    await act(sandbox)
    assert await sandbox.failing() == failing
