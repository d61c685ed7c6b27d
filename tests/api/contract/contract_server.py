"""The real API server as a judge of our resources: what it says to a strict create."""

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

from claude_sandbox.api import meta
from claude_sandbox.api.crds import definitions
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.localcluster.cluster import Cluster

Json = dict[str, Any]
NAMESPACE = "contract"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def collection(kind: definitions.Kind) -> str:
    """The path of all objects of the kind, of a sandbox in the tests' own namespace."""
    scope = f"/namespaces/{NAMESPACE}" if kind.namespaced else ""
    return f"/apis/{meta.API_VERSION}{scope}/{kind.plural}"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer of the API server."""

    code: int
    body: Json

    @property
    def accepted(self) -> bool:
        return self.code in {200, 201}

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def causes(self) -> list[tuple[str, str]]:
        """(field, message) of everything that is wrong."""
        causes = (self.body.get("details") or {}).get("causes") or ()
        return [(cause.get("field", ""), cause.get("message", "")) for cause in causes]


class Server:
    """A session with the API server of a cluster, about one kind. Use as an async context manager."""

    def __init__(self, cluster: Cluster, kind: definitions.Kind = definitions.SANDBOX) -> None:
        self._kind = kind
        self._collection = collection(kind)
        self._credentials = from_kubeconfig(str(cluster.kubeconfig))

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._credentials.ssl_context, limit=32)
        self._session = aiohttp.ClientSession(self._credentials.server, connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def create(self, document: Json | bytes, *, dry_run: bool = False) -> Answer:
        """Create as `kubectl apply` does: unknown and duplicate fields are refused. Bytes are taken as YAML."""
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        if isinstance(document, bytes):
            return await self._call("POST", self._collection, document, query, "application/yaml")
        return await self._call("POST", self._collection, json.dumps(document).encode(), query)

    async def apply(self, document: Json) -> Answer:
        """Server-side apply by a manager of its own."""
        path = f"{self._collection}/{document['metadata']['name']}"
        query = {"fieldManager": "somebody", "force": "true"}
        return await self._call("PATCH", path, json.dumps(document).encode(), query, "application/apply-patch+yaml")

    async def merge(self, name: str, patch: Json, *, subresource: str = "") -> Answer:
        """Change an object by a merge patch."""
        path = f"{self._collection}/{name}{subresource}"
        return await self._call("PATCH", path, json.dumps(patch).encode(), {}, "application/merge-patch+json")

    async def table(self, *, wide: bool) -> tuple[list[str], list[list[Any]]]:
        """The columns' names and the rows, as `kubectl get` shows them."""
        accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        async with self._session.get(self._collection, headers=accept) as response:
            table = await response.json()
        shown = [i for i, column in enumerate(table["columnDefinitions"]) if wide or column["priority"] == 0]
        names = [table["columnDefinitions"][i]["name"] for i in shown]
        return names, [[row["cells"][i] for i in shown] for row in table["rows"]]

    async def get(self, name: str) -> Json:
        """One object."""
        return (await self._call("GET", f"{self._collection}/{name}")).body

    async def names(self) -> list[str]:
        """All objects of the kind."""
        answer = await self._call("GET", self._collection)
        return [item["metadata"]["name"] for item in answer.body["items"]]

    async def delete(self, name: str) -> Answer:
        """Delete one object."""
        return await self._call("DELETE", f"{self._collection}/{name}")

    async def install(self) -> None:
        """Install the CRD as generated now, and wait until its objects can be written."""
        query = {"fieldManager": "tests", "force": "true", "fieldValidation": "Strict"}
        body = yaml.safe_dump(definitions.definition(self._kind), sort_keys=False).encode()
        path = f"{_CRDS}/{self._kind.crd_name}"
        answer = await self._call("PATCH", path, body, query, "application/apply-patch+yaml")
        assert answer.accepted, answer.message
        await self._call("POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": NAMESPACE}}).encode())
        probe = {"apiVersion": meta.API_VERSION, "kind": self._kind.kind, "metadata": {"name": "probe"}}
        for _ in range(100):
            # A served CRD answers that there is no spec; before that the path does not exist.
            if (await self.create(probe, dry_run=True)).code == 422:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("the CRD is not served")

    async def _call(
        self, method: str, path: str, body: bytes = b"", query: Json | None = None, kind: str = "application/json"
    ) -> Answer:
        headers = {"Content-Type": kind} if body else {}
        async with self._session.request(method, path, data=body, params=query, headers=headers) as response:
            # A path that is not served (yet) answers in plain text.
            return Answer(response.status, await response.json() if response.content_type == "application/json" else {})
