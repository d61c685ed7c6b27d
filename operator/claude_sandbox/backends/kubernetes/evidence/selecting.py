"""Which sandboxes a NetworkPolicy or a Service may select: those that its selector names, or any. Pure.

Each sandbox has a policy of its own, and one with ports a Service. To look through all of them for each sandbox would
cost a namespace of n sandboxes n² looks at each round.
"""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.kubernetes_api.unstructured import Object


def selected_by_policy(policy: Object) -> Iterator[Hashable]:
    """The namespace, and the one sandbox whose pods can be selected; None: of no single one."""
    selector = (policy.get("spec") or {}).get("podSelector") or {}
    yield policy["metadata"]["namespace"], _sandbox(selector.get("matchLabels"))


def selected_by_service(service: Object) -> Iterator[Hashable]:
    """Likewise. One that is too large to be kept concerns every pod of its namespace."""
    selector = None if OUTSIZE in service else (service.get("spec") or {}).get("selector")
    yield service["metadata"]["namespace"], _sandbox(selector)


def _sandbox(labels: Mapping[str, Any] | None) -> str | None:
    found = (labels or {}).get(meta.LABEL_SANDBOX)
    return found if isinstance(found, str) else None
