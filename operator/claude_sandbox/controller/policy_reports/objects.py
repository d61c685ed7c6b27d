"""What is written of a sandbox, and what is kept of what is there. Pure."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Obj
from claude_sandbox.kubernetes_api.resources import OPEN_REPORTS, Resource
from claude_sandbox.report.formats.policy_reports import OPEN_REPORT, POLICY_REPORT, manifest, name_of
from claude_sandbox.report.reading import report

DIGEST = "digest"
"""The field of what is kept that stands for all that the object says."""
_KEPT = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences")
_SAID = ("scope", "summary", "source")
_OF_RESULTS = (
    *("source", "policy", "rule", "category", "severity", "result", "scored", "timestamp", "message", "properties"),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def file_name(sandbox: str) -> str:
    """The object's name: another one than `claude-sandbox report` gives, whose objects are somebody's own."""
    return name_of("sandbox", sandbox)


def wanted(raw: Mapping[str, Any], resource: Resource, now: datetime) -> Obj:
    """The object of a sandbox, the same for the same status. `now` decides which exceptions have ended."""
    read = report([raw], generated_at=now, version="", origin="", scope="")
    (sandbox,) = read.sandboxes
    return manifest(
        sandbox,
        read.controls,
        OPEN_REPORT if resource is OPEN_REPORTS else POLICY_REPORT,
        name=file_name(sandbox.name),
        writer=meta.MANAGED_BY,
        # Not of now, for then each look would be another report.
        at=sandbox.measured_at or _created(raw),
    )


def kept(obj: Obj) -> Obj:
    """Of an object that is there: whose it is, and what stands for what it says. Results are tens of kilobytes."""
    metadata = obj["metadata"]
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {name: metadata[name] for name in _KEPT if name in metadata},
        DIGEST: digest(obj),
    }


def digest(obj: Mapping[str, Any]) -> str:
    """Stands for what we say in it: fields that a schema adds, or a later edition, are none of ours."""
    results = obj.get("results")
    said = {
        **{name: obj.get(name) for name in _SAID},
        "results": [_said(one) for one in results] if isinstance(results, list) else results,
    }
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def is_of(obj: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
    """Whether the object belongs to just this sandbox, and not to an earlier one of its name or to somebody else."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return any(one.get("uid") == raw["metadata"]["uid"] for one in owners)


def _said(result: Any) -> Any:
    return {name: result.get(name) for name in _OF_RESULTS} if isinstance(result, Mapping) else result


def _created(raw: Mapping[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(raw["metadata"].get("creationTimestamp", ""))
    except ValueError:
        return _EPOCH
