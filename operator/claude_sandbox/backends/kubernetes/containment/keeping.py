"""Where evidence of a cluster's sandboxes is kept: in ConfigMaps of the operator's own namespace.

Who may do anything in a sandbox's namespace can't reach it there. The operator itself may only create them, so it can
neither change nor read what it kept. No Secrets: who may create these can have a token of any account of the namespace.
A ConfigMap holds a MiB: what does not fit is cut off a log's beginning, and that is said.
"""

import asyncio
import base64
import gzip
import logging
from collections.abc import Callable
from datetime import datetime

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.mishap import mishap
from claude_sandbox.backends.base import Failure
from claude_sandbox.backends.containment import Evidence, Kept, Packed, as_kept, packed
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import CONFIG_MAPS

logger = logging.getLogger(__name__)

LARGEST = 900 << 10
"""Bytes of a compressed archive."""
FILE = "evidence.tar.gz"
_KIND = f"{meta.GROUP}/evidence"


async def keep(api: Api, namespace: str, identity: Identity, what: Evidence, since: datetime) -> tuple[str, Packed]:
    """`NAMESPACE/NAME:FILE` of the ConfigMap, and what is in it. Raises ApiError."""
    # In a thread: it takes seconds of a log that can't be compressed.
    whole, content = await asyncio.to_thread(fitting, what, since)
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        # Whoever gets into the namespace later can delete it, and not change it unnoticed.
        "immutable": True,
        "metadata": {
            "generateName": f"evidence-{identity.namespace[:20].rstrip('-')}-{identity.name[:20].rstrip('-')}-",
            "labels": {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, meta.LABEL_COMPONENT: "evidence"},
            "annotations": {f"{_KIND}-of": f"{identity.namespace}/{identity.name}", f"{_KIND}-uid": identity.uid},
        },
        "binaryData": {FILE: base64.b64encode(content).decode()},
    }
    made = await api.create(CONFIG_MAPS, body, namespace)
    return f"{namespace}/{made['metadata']['name']}:{FILE}", whole


async def as_said(
    api: Api, namespace: str, identity: Identity, what: Evidence, since: datetime, now: Callable[[], datetime]
) -> Kept:
    """What came of keeping it, whatever is in it: the pod is ended all the same, so that nothing is raised."""
    try:
        place, whole = await keep(api, namespace, identity, what, since)
        return as_kept(what, whole, place, now())
    except ApiError as error:
        if error.is_forbidden:
            message = (
                f"Evidence is kept in ConfigMaps of namespace {namespace}, and the operator may not"
                " create any there: give its account the role of manifests/operator."
            )
            return Failure(Reason.PERMISSION_DENIED, message, permanent=True)
        return Failure(Reason.RETRYING, f"Evidence could not be kept yet: {error}.", permanent=False)
    except Exception as error:
        # What is in it was written by a hostile program, or told by a node that may be lost.
        logger.warning("evidence could not be kept", exc_info=True)
        return Failure(Reason.REJECTED, f"Evidence could not be kept: {mishap(error)}.", permanent=True)


def fitting(what: Evidence, since: datetime) -> tuple[Packed, bytes]:
    """The archive, and its compressed form, as long as a ConfigMap may be."""
    files, cut = dict(what.files), set[str]()
    while True:
        lost = [f"{path}: all but its end, since it does not fit" for path in sorted(cut)]
        whole = packed(Evidence(files, [*what.missing, *lost]), since)
        # Without a time, so that the same evidence is the same bytes.
        content = gzip.compress(whole.content, 6, mtime=0)
        if len(content) <= LARGEST:
            return whole, content
        # Half of the longest each time: a log is longer than all else, and its end tells the most.
        longest = max(files, key=lambda path: len(files[path]))
        files[longest] = files[longest][(len(files[longest]) + 1) // 2 :]
        cut.add(longest)
