"""Which kinds of policies of network plugins a cluster serves, and reading what there is of them once."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.pods.plugin_policies import KINDS
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import Resource
from claude_sandbox.kubernetes_api.unstructured import Object


async def served_kinds(api: Api) -> tuple[Resource, ...]:
    """Each kind that is served, in the version that is preferred of those that have it. Raises ApiError."""
    groups = (await api.get_path("/apis")).get("groups") or ()
    wanted = {group for group, _ in KINDS}
    found: dict[tuple[str, str], Resource] = {}
    for group in groups:
        if (name := str(group.get("name"))) in wanted:
            for version in _versions(group):
                told = await api.get_path(f"/apis/{name}/{version}")
                for one in told.get("resources") or ():
                    if (key := (name, str(one.get("kind")))) in KINDS and "list" in (one.get("verbs") or ()):
                        resource = Resource(name, version, str(one["name"]), bool(one.get("namespaced")), key[1])
                        found.setdefault(key, resource)
    return tuple(found.values())


async def read_plugin_policies(api: Api, namespace: str) -> Reading[tuple[Object, ...]] | Unread:
    """What there is of them in a namespace and for the whole cluster. Never raises ApiError."""
    try:
        kinds = await served_kinds(api)
        lists = await asyncio.gather(*(api.list(one, namespace if one.namespaced else None) for one in kinds))
    except ApiError as error:
        return Unread(error.reason)
    # Items of a list come without a kind.
    found = tuple(
        {**one, "apiVersion": kind.api_version, "kind": kind.kind}
        for kind, listing in zip(kinds, lists, strict=True)
        for one in listing.items
    )
    return Reading(found, EvidenceSource.LIVE_OBJECT, datetime.now(UTC))


def _versions(group: dict[str, Any]) -> Iterator[str]:
    """The preferred one first: a kind need not be of that."""
    preferred = (group.get("preferredVersion") or {}).get("version")
    named = [str(one["version"]) for one in group.get("versions") or ()]
    yield from sorted(named, key=lambda one: one != preferred)
