"""Reports in the cluster's API server, for the operator: one ClaudeSandboxUsage for each sandbox, beside its account.

They are not in the account's own object, though it is the same kind: an account may be written fifty times a second and
have hundreds of KiB, and whoever follows reports must not be sent each of these. A label tells the two apart, so that
the API server sends the operator reports alone.

Each gateway has a part of its own in it, under its pod's name, and leaves the others' as they are: which of several
facts is the newest is for who reads them. PARTS of them are kept, those that were written last; a pod that is gone
leaves what it knew, until there are as many newer ones. The object is replaced only if it is still the one that was
read (409 otherwise). Needs the same Role as the accounts.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from claude_sandbox.gateway.budget.store import StoreError
from claude_sandbox.gateway.kubernetes import names
from claude_sandbox.gateway.kubernetes.accounts import SECONDS, owner_of, refused, usages_path
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError, Obj, version_of

PARTS = 4
"""Gateways whose reports are kept: two replicas, and those that a rollout brings."""
_TRIES = 5
"""For one report, where others have written in between."""


class ReportStore:
    """See Reports. `writer`: this pod's name. `name_of`: the ClaudeSandbox's by its UID, None where it is not known."""

    def __init__(self, api: ApiServer, writer: str, name_of: Callable[[str], str | None]) -> None:
        self._api = api
        self._writer = writer
        self._name_of = name_of

    async def write(self, sandbox: str, text: str) -> None:
        """See Reports."""
        name = self._name_of(sandbox)
        # A sandbox that is gone: its report would belong to nobody, and stay.
        if name is None:
            return
        try:
            for _ in range(_TRIES):
                if await self._swap(sandbox, name, text):
                    return
        except ApiServerError as error:
            raise refused(error, "the report") from error
        raise StoreError("the report is being changed by others all the time")

    async def _swap(self, sandbox: str, name: str, text: str) -> bool:
        """Whether it was still as it was read."""
        path = f"{usages_path(self._api)}/{names.report_name(sandbox)}"
        try:
            before: Obj | None = await self._api.get(path, seconds=SECONDS)
        except ApiServerError as error:
            if error.status != 404:
                raise
            before = None
        parts = (((before or {}).get("spec") or {}).get("reports")) or {}
        document = _document(sandbox, name, kept(parts, self._writer, text))
        try:
            if before is None:
                await self._api.write("POST", usages_path(self._api), document, SECONDS)
            else:
                document["metadata"]["resourceVersion"] = version_of(before)
                await self._api.write("PUT", path, document, SECONDS)
        except ApiServerError as error:
            if error.status == 409 or (error.status == 404 and before is not None):
                return False
            raise
        return True


def kept(parts: Mapping[str, Any], writer: str, text: str) -> dict[str, str]:
    """The parts with this one's, and of the others those that were written last."""
    others = {key: part for key, part in parts.items() if key != writer and isinstance(part, str)}
    newest = sorted(others, key=lambda key: (_at(others[key]), key), reverse=True)[: PARTS - 1]
    return {writer: text, **{key: others[key] for key in newest}}


def _at(part: str) -> str:
    try:
        found = json.loads(part)
    except (ValueError, RecursionError):
        return ""
    return str(found.get("at", "")) if isinstance(found, dict) else ""


def _document(sandbox: str, name: str, parts: Mapping[str, str]) -> Obj:
    labels = {"app.kubernetes.io/managed-by": "claude-sandbox-gateway", names.LABEL_COMPONENT: names.REPORT}
    return {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": names.USAGE_KIND,
        "metadata": {
            "name": names.report_name(sandbox),
            "labels": labels,
            "ownerReferences": [owner_of(name, sandbox)],
        },
        "spec": {"sandbox": name, "reports": dict(parts)},
    }
