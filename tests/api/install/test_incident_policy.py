"""Who may edit ClaudeSandboxes declares an incident and can't undo it, by the API server's own admission."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
import yaml
from gateway_place import define

from claude_sandbox.api import meta
from claude_sandbox.install.manifests import sources
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Authorization, Credentials, from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

SPACE = "incident-policy"
QUARANTINED = {"state": "Quarantined", "note": "it pushed to main"}
_ADMISSION = "admissionregistration.k8s.io"
KINDS = {
    "ValidatingAdmissionPolicy": r.Resource(_ADMISSION, "v1", "validatingadmissionpolicies", False, ""),
    "ValidatingAdmissionPolicyBinding": r.Resource(_ADMISSION, "v1", "validatingadmissionpolicybindings", False, ""),
    "ClusterRole": r.CLUSTER_ROLES,
    "ClusterRoleBinding": r.CLUSTER_ROLE_BINDINGS,
}


@pytest.fixture
async def admin(control_plane: Cluster) -> AsyncIterator[Api]:
    """An administrator, in a cluster that has the policy."""
    async with Api(from_kubeconfig(str(control_plane.kubeconfig)), user_agent="tests") as api:
        await define(api, r.SANDBOXES)
        await api.apply(r.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
        users = yaml.safe_load_all((sources() / "rbac/users/users.yaml").read_text())
        policy = list(yaml.safe_load_all((sources() / "incidents/incidents.yaml").read_text()))
        for manifest in [*users, *policy]:
            await api.apply(KINDS[manifest["kind"]], manifest)
        try:
            await in_force(api)
            yield api
        finally:
            for manifest in policy:
                await api.delete(KINDS[manifest["kind"]], manifest["metadata"]["name"])
            for one in (await api.list(r.SANDBOXES, SPACE)).items:
                await gone(api, one["metadata"]["name"])


async def gone(api: Api, name: str) -> None:
    """Deleted, as soon as the policy, which was deleted, lets that happen."""
    async with asyncio.timeout(60):
        while True:
            try:
                await api.delete(r.SANDBOXES, name, SPACE)
                return
            except ApiError as error:
                if error.is_not_found:
                    return
                await asyncio.sleep(0.2)


async def in_force(api: Api) -> None:
    """Wait until the API server, which follows policies, knows of this one: an editor is refused by it."""
    probe = await api.create(r.SANDBOXES, sandbox("probe", QUARANTINED), SPACE)
    async with await account(api, "canary", "claudesandbox-editor") as canary, asyncio.timeout(60):
        while True:
            try:
                await canary.patch(r.SANDBOXES, "probe", SPACE, {"spec": {"incident": {"note": "changed"}}})
                await canary.patch(r.SANDBOXES, "probe", SPACE, {"spec": probe["spec"]})
            except ApiError as error:
                if "claudesandbox-incidents" in str(error):
                    return
            await asyncio.sleep(0.2)


def sandbox(name: str, incident: dict[str, Any] | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"credentials": {"apiKeySecretRef": {"name": "key"}}}
    spec |= {} if incident is None else {"incident": incident}
    return {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": name}, "spec": spec}


async def account(api: Api, name: str, *roles: str) -> Api:
    """A way to the server with these ClusterRoles in the namespace."""
    await api.apply(r.SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount",
                                         "metadata": {"name": name, "namespace": SPACE}})  # fmt: skip
    for role in roles:
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": f"{name}-{role}", "namespace": SPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SPACE}],
        }  # fmt: skip
        await api.apply(r.ROLE_BINDINGS, binding)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    answer = await api.create(r.SERVICE_ACCOUNTS, request, SPACE, name=name, subresource="token")
    value = f"Bearer {answer['status']['token']}"
    return Api(Credentials(SERVER[0], Authorization(value, lambda _: value), SERVER[1], namespace=SPACE))


SERVER: list[Any] = []


@pytest.fixture(autouse=True)
def server(control_plane: Cluster) -> None:
    tls = ssl.create_default_context(cafile=str(control_plane.layout.pki / "ca.crt"))
    SERVER[:] = [control_plane.server, tls]


async def test_an_editor_declares_an_incident_and_can_undo_nothing_of_it(admin: Api) -> None:
    async with await account(admin, "editor", "claudesandbox-editor") as editor:
        await editor.create(r.SANDBOXES, sandbox("alice"), SPACE)
        await editor.patch(r.SANDBOXES, "alice", SPACE, {"spec": {"incident": {"state": "None", "note": "well"}}})
        await editor.patch(r.SANDBOXES, "alice", SPACE, {"spec": {"incident": QUARANTINED}})
        # What is not about the incident goes on.
        await editor.patch(r.SANDBOXES, "alice", SPACE, {"spec": {"terminationGracePeriodSeconds": 20}})
        await editor.patch(r.SANDBOXES, "alice", SPACE, {"metadata": {"labels": {"team": "red"}}})
        lesser = (
            None,
            {"state": "None"},
            {"state": "KeyCompromised"},
            {"note": "nothing happened"},
            {"note": None},
        )
        for incident in lesser:
            with pytest.raises(ApiError, match="claudesandbox-incident-lifter"):
                await editor.patch(r.SANDBOXES, "alice", SPACE, {"spec": {"incident": incident}})
        live = await editor.get(r.SANDBOXES, "alice", SPACE)
        replaced = sandbox("alice") | {"metadata": live["metadata"]}
        with pytest.raises(ApiError, match="claudesandbox-incident-lifter"):
            await editor.replace(r.SANDBOXES, replaced)
        with pytest.raises(ApiError, match="claudesandbox-incident-lifter"):
            await editor.delete(r.SANDBOXES, "alice", SPACE)


async def test_who_has_the_right_lifts_it_and_then_everybody_may_delete_again(admin: Api) -> None:
    async with (
        await account(admin, "lifter", "claudesandbox-editor", "claudesandbox-incident-lifter") as lifter,
        await account(admin, "editor", "claudesandbox-editor") as editor,
    ):
        await editor.create(r.SANDBOXES, sandbox("bob", QUARANTINED), SPACE)
        await editor.create(r.SANDBOXES, sandbox("carol", QUARANTINED), SPACE)
        await lifter.patch(r.SANDBOXES, "bob", SPACE, {"spec": {"incident": None}})
        await editor.delete(r.SANDBOXES, "bob", SPACE)
        await lifter.delete(r.SANDBOXES, "carol", SPACE)


async def test_the_operators_own_writes_are_not_in_its_way(admin: Api) -> None:
    async with await account(admin, "editor", "claudesandbox-editor") as editor:
        await editor.create(r.SANDBOXES, sandbox("dora", QUARANTINED), SPACE)
        held = {"metadata": {"finalizers": [meta.FINALIZER]}}
        await editor.patch(r.SANDBOXES, "dora", SPACE, held)
        await admin.patch(r.SANDBOXES, "dora", SPACE, {"metadata": {"finalizers": []}})


async def test_who_may_change_docker_hosts_declares_one_compromised_and_can_undo_nothing_of_it(admin: Api) -> None:
    await define(admin, r.DOCKER_HOSTS)
    rules = [{"apiGroups": [meta.GROUP], "resources": ["dockerhosts"], "verbs": ["*"]}]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "host-keeper"}}
    await admin.apply(r.CLUSTER_ROLES, role | {"rules": rules})

    def host(name: str) -> dict[str, Any]:
        spec = {"endpoint": "unix:///var/run/docker.sock", "incident": {"state": "HostCompromised"}}
        return {"apiVersion": meta.API_VERSION, "kind": "DockerHost", "metadata": {"name": name}, "spec": spec}

    async def bound(name: str, *roles: str) -> Api:
        found = await account(admin, name)
        for one in roles:
            binding = {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{name}-{one}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": one},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SPACE}],
            }  # fmt: skip
            await admin.apply(r.CLUSTER_ROLE_BINDINGS, binding)
        return found

    async with (
        # The role for incidents of sandboxes is none for those of hosts.
        await bound("keeper", "host-keeper", "claudesandbox-incident-lifter") as keeper,
        await bound("host-lifter", "host-keeper", "claudesandbox-host-incident-lifter") as lifter,
    ):
        await keeper.create(r.DOCKER_HOSTS, host("build-1"))
        async with asyncio.timeout(60):
            for attempt in count():
                try:
                    await keeper.patch(r.DOCKER_HOSTS, "build-1", None, {"spec": {"incident": {"note": f"{attempt}"}}})
                except ApiError as error:
                    if "claudesandbox-host-incident-lifter" in str(error):
                        break
                await asyncio.sleep(0.2)
        await keeper.patch(r.DOCKER_HOSTS, "build-1", None, {"spec": {"unschedulable": True}})
        for incident in (None, {"state": "None"}, {"note": "nothing happened"}):
            with pytest.raises(ApiError, match="claudesandbox-host-incident-lifter"):
                await keeper.patch(r.DOCKER_HOSTS, "build-1", None, {"spec": {"incident": incident}})
        with pytest.raises(ApiError, match="claudesandbox-host-incident-lifter"):
            await keeper.delete(r.DOCKER_HOSTS, "build-1")
        await lifter.patch(r.DOCKER_HOSTS, "build-1", None, {"spec": {"incident": None}})
        await keeper.delete(r.DOCKER_HOSTS, "build-1")
