"""The attack: a sandbox's ServiceAccount is given rights that nobody asks about: to list all Secrets, to exec into
pods, to write bindings, to impersonate.

What it gained: control ID-03 asked the API server three questions, and passed. What closes it: all rules are read of
all roles that reach the account, its user name or one of its groups, wherever they are granted; what Kubernetes grants
everybody is excepted by what it grants and not by its name; where roles can't be read the control is Unknown.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from access import may

from claude_sandbox.api.status import Result
from claude_sandbox.backends.kubernetes.evidence.single_pod import Standard, survey_pod
from claude_sandbox.backends.kubernetes.watches.rbac import Rights
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.pods import findings
from claude_sandbox.kubernetes_api import resources
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import Credentials, from_kubeconfig
from claude_sandbox.kubernetes_api.informers.informer import Informer
from claude_sandbox.kubernetes_api.resources import Resource
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

HOME, OTHER, ACCOUNT = "attack-rights", "attack-rights-other", "sandbox-mallory"
USER = f"system:serviceaccount:{HOME}:{ACCOUNT}"
RBAC = "rbac.authorization.k8s.io"
KINDS = {
    kind: Resource(RBAC, "v1", f"{kind.lower()}s", not kind.startswith("Cluster"), kind)
    for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
}
IT = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": HOME}


def group(name: str) -> Obj:
    return {"kind": "Group", "apiGroup": RBAC, "name": name}


def to(verbs: str, resources: str, group: str = "", **more: Any) -> Obj:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split(), **more}


EXEC = to("create", "pods/exec")
# The namespace of the binding, none for all of the cluster; the rule; whom it is for; and what then is allowed.
ATTACKS: dict[str, tuple[str | None, Obj, Obj, tuple[str, str]]] = {
    "all Secrets, everywhere": (None, to("list", "secrets"), IT, ("list", "/secrets")),
    "commands in pods": (HOME, EXEC, IT, ("create", "/pods/exec")),
    "bindings": (HOME, to("create", "rolebindings", RBAC), IT, ("create", f"{RBAC}/rolebindings")),
    "other roles' rights": (HOME, to("bind", "clusterroles", RBAC), IT, ("bind", f"{RBAC}/clusterroles")),
    "more rights for roles": (None, to("escalate", "clusterroles", RBAC), IT, ("escalate", f"{RBAC}/clusterroles")),
    "to be others": (None, to("impersonate", "users groups"), IT, ("impersonate", "/users")),
    "others' tokens": (HOME, to("create", "serviceaccounts/token"), IT, ("create", "/serviceaccounts/token")),
    "nodes": (None, to("get", "nodes/proxy"), IT, ("get", "/nodes/proxy")),
    "everything": (None, to("*", "*", "*"), IT, ("patch", "apps/deployments")),
    "all of one group": (HOME, to("*", "*", "apps"), IT, ("create", "apps/daemonsets")),
    "a resource of nobody's": (HOME, to("watch", "toys", "example.org"), IT, ("watch", "example.org/toys")),
    "one by its name": (HOME, to("get", "configmaps", resourceNames=["x"]), IT, ("get", "/configmaps/x")),
    "another namespace's": (OTHER, to("get", "secrets"), IT, ("get", "/secrets")),
    "by its namespace's accounts": (HOME, EXEC, group(f"system:serviceaccounts:{HOME}"), ("create", "/pods/exec")),
    "by all accounts": (HOME, EXEC, group("system:serviceaccounts"), ("create", "/pods/exec")),
    "by everybody": (HOME, EXEC, group("system:authenticated"), ("create", "/pods/exec")),
    "as a user": (HOME, EXEC, {"kind": "User", "apiGroup": RBAC, "name": USER}, ("create", "/pods/exec")),
    "of the binding's own namespace": (
        HOME,
        EXEC,
        {"kind": "ServiceAccount", "name": ACCOUNT},
        ("create", "/pods/exec"),
    ),
}
HARMLESS: dict[str, tuple[str | None, Obj, Obj]] = {
    "to ask about itself": (None, to("create", "selfsubjectaccessreviews", "authorization.k8s.io"), IT),
    "what everybody may read": (None, {"nonResourceURLs": ["/version", "/healthz"], "verbs": ["get"]}, IT),
    # Not for what is bound in a namespace, whatever it names.
    "a URL in a namespace": (HOME, {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}, IT),
    "another account of the namespace": (HOME, EXEC, IT | {"name": "sandbox-alice"}),
    "its namesake elsewhere": (HOME, EXEC, IT | {"namespace": OTHER}),
    "another namespace's accounts": (HOME, EXEC, group(f"system:serviceaccounts:{OTHER}")),
}


@pytest_asyncio.fixture
async def api(control_plane: Cluster) -> AsyncIterator[Api]:
    """With a pod of the account's, in a namespace of its own."""
    async with Api(from_kubeconfig(str(control_plane.kubeconfig), None)) as api:
        for name in (HOME, OTHER):
            await api.apply(resources.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": HOME}}
        await api.apply(resources.SERVICE_ACCOUNTS, account)
        spec = {"serviceAccountName": ACCOUNT, "containers": [{"name": "agent", "image": "x"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": ACCOUNT, "namespace": HOME}, "spec": spec}
        await api.apply(resources.PODS, pod)
        yield api
        await api.delete(resources.PODS, ACCOUNT, HOME, grace_seconds=0)


@asynccontextmanager
async def granted(api: Api, namespace: str | None, rule: Obj, subject: Obj) -> AsyncIterator[None]:
    """While a role with this rule is bound. In a namespace a ClusterRole is bound where the rule is about URLs."""
    role = "Role" if namespace and "resources" in rule else "ClusterRole"
    binding = "RoleBinding" if namespace else "ClusterRoleBinding"
    made = []
    for one, body in (
        (role, {"rules": [rule]}),
        (binding, {"roleRef": {"apiGroup": RBAC, "kind": role, "name": "attack"}, "subjects": [subject]}),
    ):
        where = namespace if one in ("Role", "RoleBinding") else None
        metadata = {"name": "attack", **({"namespace": where} if where else {})}
        await api.apply(KINDS[one], {"apiVersion": f"{RBAC}/v1", "kind": one, "metadata": metadata, **body})
        made.append((KINDS[one], where))
    try:
        yield
    finally:
        for resource, where in made:
            await api.delete(resource, "attack", where)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.02)


async def measured(api: Api) -> tuple[Result, str]:
    """What ID-03 says of the pod's account."""
    survey = await survey_pod(api, HOME, ACCOUNT, Standard())
    (found,) = (one for one in findings(survey.evidence, survey.controls) if one.control.id == "ID-03")
    return found.result, found.verdict.message


async def test_a_new_clusters_account_has_no_rights(api: Api) -> None:
    assert await measured(api) == (Result.PASS, "")


@pytest.mark.parametrize("name", ATTACKS)
async def test_whatever_the_account_is_given_is_found(api: Api, control_plane: Cluster, name: str) -> None:
    namespace, rule, subject, (verb, resource) = ATTACKS[name]
    credentials: Credentials = from_kubeconfig(str(control_plane.kubeconfig))
    async with granted(api, namespace, rule, subject):
        kind, _, of = resource.rpartition("/") if resource.endswith("/x") else (resource, "", "")

        def is_allowed() -> bool:
            return bool(may(credentials, USER, verb, kind, namespace or HOME, of or None))

        # The API server's authorizer learns of roles by a watch of its own; it says that the right is a real one.
        await until(lambda: asyncio.to_thread(is_allowed))
        result, message = await measured(api)
        assert result is Result.FAIL
        assert verb in message or "*" in message
        assert "Binding attack" in message


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_is_everybodys_or_anothers_is_no_right_of_its_own(api: Api, name: str) -> None:
    async with granted(api, *HARMLESS[name]):
        assert await measured(api) == (Result.PASS, "")


async def test_a_role_of_kubernetes_own_is_excepted_by_its_rules_and_not_by_its_name(api: Api) -> None:
    role = await api.get(KINDS["ClusterRole"], "system:discovery")
    body = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "system:discovery"}}
    await api.apply(KINDS["ClusterRole"], body | {"rules": [*role["rules"], to("list", "secrets")]}, force=True)
    try:
        result, message = await measured(api)
        assert result is Result.FAIL
        assert "list secrets (ClusterRoleBinding system:discovery)" in message
    finally:
        await api.apply(KINDS["ClusterRole"], body | {"rules": role["rules"]}, force=True)


WAKES: dict[str, list[tuple[str | None, str | None]]] = {
    "another namespace's": [],
    "by everybody": [(HOME, None)],
    "by its namespace's accounts": [(HOME, None)],
    "all Secrets, everywhere": [(HOME, ACCOUNT)],
}


async def test_the_operator_follows_the_same_and_has_who_is_concerned_looked_at(api: Api) -> None:
    woken: list[tuple[str | None, str | None]] = []

    def make(resource: Resource, changed: Callable[..., None], transform: Any, indexes: Any) -> Informer:
        return Informer(api, resource, transform=transform, indexes=indexes, on_change=changed)

    rights = Rights(make, lambda namespace, account: woken.append((namespace, account)))
    following = [asyncio.create_task(informer.run()) for informer in rights.informers.values()]

    def known() -> list[str]:
        reading = rights.of(HOME, ACCOUNT)
        assert isinstance(reading, Reading)
        return list(map(str, reading.value))

    async def is_followed() -> bool:
        return bool(known())

    async def is_forgotten() -> bool:
        stores = [informer.store for informer in rights.informers.values()]
        return not any(one["metadata"]["name"] == "attack" for store in stores for one in store)

    try:
        for informer in rights.informers.values():
            await asyncio.wait_for(informer.settled.wait(), 20)
        for name, expected in WAKES.items():
            woken.clear()
            async with granted(api, *ATTACKS[name][:3]):
                await until(is_followed)
                survey = await survey_pod(api, HOME, ACCOUNT, Standard())
                assert isinstance(survey.evidence.grants, Reading)
                assert known() == list(map(str, survey.evidence.grants.value))
                assert [one for one in dict.fromkeys(woken) if one[0] != OTHER] == expected
            await until(is_forgotten)
    finally:
        for task in following:
            task.cancel()
