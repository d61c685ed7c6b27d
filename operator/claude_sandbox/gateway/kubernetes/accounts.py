"""Accounts in the cluster's API server: a ClaudeSandboxUsage for each sandbox, beside the sandbox and gone with it.

Of these objects each sandbox has its own, and not the namespace one for all: writes of one sandbox never wait for those
of another, the limit of an object is each one's own (an account is a few KiB, and 90 bytes more for each request under
way), and the garbage collector takes it away with the ClaudeSandbox that owns it. It is a kind of its own, so that the
right to write it is a right to nothing else.

What makes it exact is `metadata.resourceVersion`: the API server replaces an object only if it is the one that was
read, and refuses (409) otherwise. A read without `resourceVersion` is never from a cache that is behind
(https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list). The account is one text in
it: what the API server notes of who wrote which field does not grow with it, and it prunes nothing of it.

The Role that this needs: `get`, `create` and `update` of `claudesandboxusages`; where somebody else makes them, empty
(`spec: {}`), `get` and `update` of those by their names. Who else may write them can change the counts.
"""

from collections.abc import Callable
from typing import Any

from claude_sandbox.gateway.budget.ledger import Account, dumps, loads
from claude_sandbox.gateway.budget.store import NEW, StoreError
from claude_sandbox.gateway.kubernetes import names
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError, Obj, version_of
from claude_sandbox.gateway.telemetry.usage import clock, usd

_API_VERSION = f"{names.GROUP}/{names.VERSION}"
SECONDS = 3.0
"""Seconds that the API server has for an answer: a request for the model waits for it."""


class UsageStore:
    """See Store. `name_of`: the ClaudeSandbox's name by its UID, None where it is not known."""

    # At most some 50 writes a second for one sandbox by one gateway; a request that comes after a rest does not wait.
    pace = 0.02

    def __init__(self, api: ApiServer, name_of: Callable[[str], str | None]) -> None:
        self._api = api
        self._name_of = name_of

    async def load(self, sandbox: str) -> tuple[Account, str]:
        """See Store."""
        try:
            found = await self._api.get(f"{self._path()}/{sandbox}", seconds=SECONDS)
            version = version_of(found)
        except ApiServerError as error:
            if error.status == 404:
                return Account(), NEW
            raise refused(error) from error
        text = (found.get("spec") or {}).get("account")
        if text is None:
            # Nothing was used yet of what somebody else made.
            return Account(), version
        try:
            return loads(text), version
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"the {names.USAGE_KIND} {sandbox} holds no account ({error}): delete it to count anew from nothing"
            ) from error

    async def swap(self, sandbox: str, version: str, account: Account) -> str | None:
        """See Store."""
        document = self._document(sandbox, account)
        try:
            if version == NEW:
                return version_of(await self._api.write("POST", self._path(), document, SECONDS))
            document["metadata"]["resourceVersion"] = version
            return version_of(await self._api.write("PUT", f"{self._path()}/{sandbox}", document, SECONDS))
        except ApiServerError as error:
            # Another gateway was faster, or somebody has deleted it: what there is now is read, and the changes are
            # made on that.
            if error.status == 409 or (error.status == 404 and version != NEW):
                return None
            raise refused(error) from error

    def _path(self) -> str:
        return usages_path(self._api)

    def _document(self, sandbox: str, account: Account) -> Obj:
        metadata: dict[str, Any] = {
            "name": sandbox,
            "labels": {"app.kubernetes.io/managed-by": "claude-sandbox-gateway"},
        }
        name = self._name_of(sandbox)
        if name:
            metadata["ownerReferences"] = [owner_of(name, sandbox)]
        spec = {"account": dumps(account), **({"sandbox": name} if name else {}), **_told_to_people(account)}
        return {"apiVersion": _API_VERSION, "kind": names.USAGE_KIND, "metadata": metadata, "spec": spec}


def _told_to_people(account: Account) -> Obj:
    since = "" if account.since is None else clock(account.since)
    return {
        **({"windowBegan": since} if since else {}),
        "costUSD": usd(account.spent),
        "outputTokens": account.written,
        "requests": sum(one.requests for one in account.models.values()),
        "underWay": len(account.reserved),
    }


def usages_path(api: ApiServer) -> str:
    """The path of the ClaudeSandboxUsages of the gateway's namespace."""
    return f"/apis/{_API_VERSION}/namespaces/{api.namespace()}/{names.USAGE_PLURAL}"


def owner_of(name: str, uid: str) -> Obj:
    """The sandbox as an owner; without blockOwnerDeletion, for which a right on the sandbox would be needed."""
    return {"apiVersion": _API_VERSION, "kind": names.KIND, "name": name, "uid": uid}


def refused(error: ApiServerError, what: str = "the account") -> StoreError:
    """Why what is kept in the API server can't be had, with the remedy."""
    remedy = f": the gateway's Role needs get, create and update of {names.USAGE_PLURAL}" if error.status == 403 else ""
    return StoreError(f"{what} is not to be had ({error}){remedy}")
