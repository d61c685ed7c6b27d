"""A namespace on a real API server in which a gateway runs as on Kubernetes: its ServiceAccount, sandboxes, Secrets.

Pods are only objects here: the API server makes tokens that are bound to them all the same.
"""

import asyncio
import base64
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from gatewaykit import KEY, LOOPBACK, Gateway, running, write
from tokenkit import AUDIENCE

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.localcluster.cluster import Cluster

_DEFINITIONS = Path(__file__).parents[3] / "crds"
_CRDS = r.Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition")
GATEWAY = "claude-sandbox-gateway"
SECRET = "anthropic-api-key"
BODY = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
_RBAC = {"apiVersion": "rbac.authorization.k8s.io/v1"}


@dataclass
class Place:
    """`api`: an administrator's way to the server."""

    cluster: Cluster
    api: Api
    namespace: str
    directory: Path

    async def make(self, *, secrets: tuple[str, ...] = (SECRET,), verbs: tuple[str, ...] = ("get", "watch")) -> None:
        """The gateway's account and rights, and what the kubelet mounts into its pod."""
        await self.account(GATEWAY)
        rules = [{"apiGroups": [meta.GROUP], "resources": [meta.PLURAL], "verbs": ["get", "list", "watch"]}]
        rules.append(
            {"apiGroups": [meta.GROUP], "resources": [meta.USAGE_PLURAL], "verbs": ["get", "create", "update"]}
        )
        rules.append({"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]})
        if secrets:
            rules.append({"apiGroups": [""], "resources": ["secrets"], "verbs": [*verbs], "resourceNames": [*secrets]})
        role = {**_RBAC, "kind": "Role", "metadata": {"name": GATEWAY}, "rules": rules}
        await self.api.create(r.ROLES, role, self.namespace)
        subject = {"kind": "ServiceAccount", "name": GATEWAY, "namespace": self.namespace}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": GATEWAY}
        binding = {**_RBAC, "kind": "RoleBinding", "metadata": {"name": GATEWAY}, "subjects": [subject]}
        await self.api.create(r.ROLE_BINDINGS, {**binding, "roleRef": reference}, self.namespace)
        # Stands for the default binding system:service-account-issuer-discovery, which every cluster has.
        self.mounted.mkdir()
        write(self.mounted / "namespace", self.namespace)
        kubeconfig = yaml.safe_load(self.cluster.kubeconfig.read_text())
        authority = kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]
        write(self.mounted / "ca.crt", base64.b64decode(authority).decode())
        await self.renew()

    @property
    def mounted(self) -> Path:
        """The directory of the gateway's ServiceAccount."""
        return self.directory / "account"

    async def renew(self) -> None:
        """Another token for the gateway itself, as the kubelet renews it."""
        write(self.mounted / "token", await self.token(GATEWAY, audience=None, pod=None))

    async def account(self, name: str, namespace: str | None = None) -> None:
        await self.api.create(r.SERVICE_ACCOUNTS, {"metadata": {"name": name}}, namespace or self.namespace)

    async def pod(self, name: str, account: str | None = None, namespace: str | None = None, **metadata: Any) -> str:
        """A pod that nobody runs; its UID."""
        spec = {"serviceAccountName": account or name, "containers": [{"name": "c", "image": "i"}]}
        pod = {"metadata": {"name": name, **metadata}, "spec": spec}
        made = await self.api.create(r.PODS, pod, namespace or self.namespace)
        return str(made["metadata"]["uid"])

    async def sandbox(self, name: str, secret: str = SECRET, **spec: Any) -> str:
        """A sandbox with its account and its pod, as the operator reports it; the pod's UID."""
        document = {
            "apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": name},
            "spec": {"credentials": {"apiKeySecretRef": {"name": secret}}, **spec},
        }  # fmt: skip
        await self.api.create(r.SANDBOXES, document, self.namespace)
        child = meta.child_name(name)
        await self.account(child)
        uid = await self.pod(child, labels={meta.LABEL_SANDBOX: name})
        await self.report(name, uid)
        return uid

    async def report(self, name: str, pod: str, *addresses: str) -> None:
        """That this pod runs the sandbox, with these addresses."""
        workload = {"name": meta.child_name(name), "uid": pod, "addresses": [*addresses] or None}
        status = {"observedGeneration": 1, "workload": workload}
        await self.api.patch_status(r.SANDBOXES, name, self.namespace, status)

    async def running(self, name: str, *addresses: str, **status: Any) -> None:
        """What a kubelet says of the sandbox's pod: that it runs, and has these addresses."""
        told = {"phase": "Running", "podIPs": [{"ip": one} for one in addresses], **status}
        if addresses:
            told["podIP"] = addresses[0]
        await self.api.patch_status(r.PODS, meta.child_name(name), self.namespace, told)

    async def token(
        self, account: str, audience: str | None = AUDIENCE, pod: str | None = "", namespace: str | None = None
    ) -> str:
        """A token of the API server's, bound to the pod of the account's name, to another, or (None) to none."""
        spec: dict[str, Any] = {"expirationSeconds": 3600}
        if audience is not None:
            spec["audiences"] = [audience]
        if pod is not None:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod or account}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        made = await self.api.create(
            r.SERVICE_ACCOUNTS, request, namespace or self.namespace, name=account, subresource="token"
        )
        return str(made["status"]["token"])

    async def secret(self, key: str = KEY, name: str = SECRET, *, opted_in: bool = True) -> None:
        """Make it, or put another key into it."""
        data = {"api-key": base64.b64encode(key.encode()).decode()}
        try:
            await self.api.patch(r.SECRETS, name, self.namespace, {"data": data})
        except ApiError as error:
            if not error.is_not_found:
                raise
            kind = meta.SECRET_TYPE if opted_in else "Opaque"
            await self.api.create(r.SECRETS, {"metadata": {"name": name}, "type": kind, "data": data}, self.namespace)

    def configuration(self, provider: str, **kubernetes: Any) -> dict[str, Any]:
        return {
            "version": 1, "listen": {}, "provider": {"baseURL": provider}, "egress": {"privateNetworks": LOOPBACK},
            "limits": {"drainSeconds": 2},
            "kubernetes": {
                "audience": AUDIENCE, "serviceAccountDirectory": str(self.mounted), "server": self.cluster.server,
                **kubernetes,
            },
        }  # fmt: skip

    @contextlib.contextmanager
    def gateway(self, provider: str, **kubernetes: Any) -> Iterator[Gateway]:
        with running(self.directory, self.configuration(provider, **kubernetes)) as found:
            yield found


async def ready(gateway: Gateway, **expected: Any) -> dict[str, Any]:
    """What `/readyz` says, once it says 200 and this."""
    found: dict[str, Any] = {}
    deadline = time.monotonic() + 30
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            async with session.get(f"http://{gateway.health}/readyz") as answer:
                found = await answer.json()
                if answer.status == 200 and all(found[name] == value for name, value in expected.items()):
                    return found
            await asyncio.sleep(0.05)
    raise AssertionError(found)


async def ask(gateway: Gateway, token: str) -> tuple[int, str]:
    """One request by the broker: the status, and the error's message; 0 where the connection was closed under way."""
    async with aiohttp.ClientSession() as session:
        try:
            url = f"http://{gateway.broker}/v1/messages"
            async with session.post(url, json=BODY, headers={"x-api-key": token}) as answer:
                found = json.loads(await answer.read())
                return answer.status, found.get("error", {}).get("message", "")
        except aiohttp.ServerDisconnectedError:
            return 0, ""


async def answered(gateway: Gateway, token: str, status: int = 200, seconds: float = 10.0) -> None:
    """Ask until it is answered so."""
    async with asyncio.timeout(seconds):
        while (await ask(gateway, token))[0] != status:  # noqa: ASYNC110  # in another process
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def place(cluster: Cluster, directory: Path) -> AsyncIterator[Place]:
    """A namespace of its own, with the CRDs on the server."""
    async with Api(from_kubeconfig(str(cluster.kubeconfig))) as api:
        await define(api, r.SANDBOXES, r.USAGES)
        name = f"g-{uuid.uuid4().hex[:10]}"
        await api.create(r.NAMESPACES, {"metadata": {"name": name}})
        yield Place(cluster, api, name, directory)
        for resource in (r.SANDBOXES, r.PODS):
            for item in (await api.list(resource, name)).items:
                await api.delete(resource, item["metadata"]["name"], name)


async def define(api: Api, *kinds: r.Resource) -> None:
    """Have the API server serve these kinds of ours."""
    for kind in kinds:
        path = _DEFINITIONS / f"{kind.group}_{kind.plural}.yaml"
        await api.apply(_CRDS, yaml.safe_load(path.read_text()))

    async def there(kind: r.Resource) -> bool:
        try:
            await api.list(kind, "default" if kind.namespaced else None)
        except ApiError:
            return False
        return True

    async with asyncio.timeout(30):
        for kind in kinds:
            while not await there(kind):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
