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

from claude_sandbox.gateway.budget.ledger import Account, dumps, loads
from claude_sandbox.gateway.budget.store import NEW, StoreError
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError, Obj, version_of

PREFIX = "claude-sandbox-usage-"
KEY = "account"
SECONDS = 3.0
"""Seconds that the API server has for an answer: a request for the model waits for it."""


class ConfigMapStore:
    """See Store. `name_of`: the ClaudeSandbox's name by its UID, None where it is not known."""

    # At most some 50 writes a second for one sandbox by one gateway; a request that comes after a rest does not wait.
    pace = 0.02

    def __init__(self, api: ApiServer, name_of: Callable[[str], str | None]) -> None:
        self._api = api
        self._name_of = name_of

    async def load(self, sandbox: str) -> tuple[Account, str]:
        """See Store."""
        try:
            found = await self._api.get(f"{self._path()}/{PREFIX}{sandbox}", seconds=SECONDS)
            version = version_of(found)
        except ApiServerError as error:
            if error.status == 404:
                return Account(), NEW
            raise _told(error) from error
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
        try:
            if version == NEW:
                return version_of(await self._api.write("POST", self._path(), document, SECONDS))
            document["metadata"]["resourceVersion"] = version
            return version_of(await self._api.write("PUT", f"{self._path()}/{PREFIX}{sandbox}", document, SECONDS))
        except ApiServerError as error:
            if error.status == 409 or (error.status == 404 and version != NEW):
                return None
            raise _told(error) from error

    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._api.namespace()}/configmaps"

    def _document(self, sandbox: str, account: Account) -> Obj:
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


def _told(error: ApiServerError) -> StoreError:
    remedy = ": the gateway's Role needs get, create and update of configmaps" if error.status == 403 else ""
    return StoreError(f"the account is not to be had ({error}){remedy}")
