"""The operator's own account, with the rights that an installation gives it and no others."""

import ssl
from contextlib import suppress

from claude_sandbox.install.manifests import NAMESPACE, OPERATOR, Installation, render
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Authorization, Credentials
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import Resource
from claude_sandbox.localcluster.cluster import Cluster

_RBAC = "rbac.authorization.k8s.io"
_KINDS = {
    "Namespace": r.NAMESPACES,
    "ServiceAccount": r.SERVICE_ACCOUNTS,
    "Role": Resource(_RBAC, "v1", "roles", True, "Role"),
    "RoleBinding": Resource(_RBAC, "v1", "rolebindings", True, "RoleBinding"),
    "ClusterRole": Resource(_RBAC, "v1", "clusterroles", False, "ClusterRole"),
    "ClusterRoleBinding": Resource(_RBAC, "v1", "clusterrolebindings", False, "ClusterRoleBinding"),
}
TOKEN_SECONDS = 3600


async def account(api: Api, cluster: Cluster, installation: Installation) -> Credentials:
    """Install everything but the CRD and the Deployment; what the operator's pod would log in with."""
    for manifest in render(installation):
        if manifest["kind"] in _KINDS:
            await api.apply(_KINDS[manifest["kind"]], manifest)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    wanted = request | {"spec": {"expirationSeconds": TOKEN_SECONDS}}
    answer = await api.create(r.SERVICE_ACCOUNTS, wanted, NAMESPACE, name=OPERATOR, subresource="token")
    value = f"Bearer {answer['status']['token']}"
    # Without the administrator's certificate, which would win over the token.
    tls = ssl.create_default_context(cafile=str(cluster.layout.pki / "ca.crt"))
    return Credentials(cluster.server, Authorization(value, lambda _: value), tls, namespace=NAMESPACE)


async def withdraw(api: Api) -> None:
    """Take back what an installation granted for the whole cluster."""
    for manifest in render(Installation(plugin_policies=True)):
        if manifest["kind"] == "ClusterRoleBinding":
            with suppress(ApiError):
                await api.delete(_KINDS["ClusterRoleBinding"], manifest["metadata"]["name"])
