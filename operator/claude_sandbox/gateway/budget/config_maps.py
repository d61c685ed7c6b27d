"""Accounts in the cluster's API server: a ConfigMap for each sandbox, beside the sandbox and gone with it.

Of a ConfigMap each has its own, and not the namespace one for all: writes of one sandbox never wait for those of
another, the limit of 1 MiB is each one's own (an account is a few KiB, and 90 bytes more for each request under way),
and the garbage collector takes it away with the ClaudeSandbox that owns it.

What makes it exact is `metadata.resourceVersion`: the API server replaces an object only if it is the one that was
read, and refuses (409) otherwise. A read without `resourceVersion` is never from a cache that is behind
(https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list).

The Role that this needs: `get`, `create` and `update` of `configmaps`; where the operator makes the empty ConfigMaps,
`get` and `update` of those by their names. Who else may write ConfigMaps in the namespace can change the counts.
"""

from collections.abc import Callable
from typing import Any

from claude_sandbox.gateway.budget.api_server import APIServer, APIServerError
from claude_sandbox.gateway.budget.ledger import Account, dumps, loads
from claude_sandbox.gateway.budget.store import NEW, StoreError

PREFIX = "claude-sandbox-usage-"
KEY = "account"


class ConfigMapStore:
    """See Store. `name_of`: the ClaudeSandbox's name by its UID, None where it is not known."""

    # At most some 50 writes a second for one sandbox by one gateway; a request that comes after a rest does not wait.
    pace = 0.02

    def __init__(self, api: APIServer, name_of: Callable[[str], str | None]) -> None:
        self._api = api
        self._name_of = name_of

    async def load(self, sandbox: str) -> tuple[Account, str]:
        """See Store."""
        status, found = await self._call("GET", f"/{PREFIX}{sandbox}")
        if status == 404:
            return Account(), NEW
        self._expect(sandbox, status, found, 200)
        version = _version(found)
        data = found.get("data") or {}
        if KEY not in data:
            # As the operator makes it.
            return Account(), version
        try:
            return loads(data[KEY]), version
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"the ConfigMap {PREFIX}{sandbox} holds no account ({error}): delete it to count anew from nothing"
            ) from error

    async def swap(self, sandbox: str, version: str, account: Account) -> str | None:
        """See Store."""
        document = self._document(sandbox, account)
        if version == NEW:
            status, found = await self._call("POST", "", document)
        else:
            document["metadata"]["resourceVersion"] = version
            status, found = await self._call("PUT", f"/{PREFIX}{sandbox}", document)
        if status == 409 or (status == 404 and version != NEW):
            return None
        self._expect(sandbox, status, found, 200, 201)
        return _version(found)

    def _document(self, sandbox: str, account: Account) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": f"{PREFIX}{sandbox}",
            "labels": {"app.kubernetes.io/managed-by": "claude-sandbox-gateway"},
        }
        name = self._name_of(sandbox)
        if name:
            # Without blockOwnerDeletion, for which a right on the sandbox would be needed.
            metadata["ownerReferences"] = [
                {"apiVersion": "claudesandbox.dev/v1alpha1", "kind": "ClaudeSandbox", "name": name, "uid": sandbox}
            ]
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: dumps(account)}}

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        try:
            return await self._api.call(method, f"/api/v1/namespaces/{self._api.namespace()}/configmaps{path}", body)
        except APIServerError as error:
            raise StoreError(str(error)) from error

    def _expect(self, sandbox: str, status: int, found: dict[str, Any], *expected: int) -> None:
        if status in expected:
            return
        said = str(found.get("message", ""))[:300]
        remedy = " (the gateway's Role needs get, create and update of configmaps)" if status == 403 else ""
        raise StoreError(f"the API server answers {status} for the ConfigMap {PREFIX}{sandbox}{remedy}: {said}")


def _version(found: dict[str, Any]) -> str:
    version = (found.get("metadata") or {}).get("resourceVersion")
    if not isinstance(version, str) or not version:
        raise StoreError("the API server's answer is no ConfigMap")
    return version
