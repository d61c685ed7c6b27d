"""A report as objects of Kubernetes, for `kubectl apply`: what viewers of policies, such as Policy Reporter, show.

One for each sandbox, in its namespace and owned by it, so that it goes with it. Either of two kinds, which have the
same fields: OpenReports' Report (openreports.io/v1alpha1) and, older, the policy working group's PolicyReport
(wgpolicyk8s.io/v1alpha2).

What is Unknown is an error: it could not be evaluated. What fails and is not required, or is excepted, is a warning,
which counts for nothing there either. Only what does not apply is skipped.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.clip import clip
from claude_sandbox.api.status import Result
from claude_sandbox.report.formats.words import excepted
from claude_sandbox.report.model import ControlEntry, Outcome, Report, Sandbox

SOURCE = "claude-sandbox"
OPEN_REPORT = ("openreports.io/v1alpha1", "Report")
POLICY_REPORT = ("wgpolicyk8s.io/v1alpha2", "PolicyReport")
"""Which has no source but that of each result."""
MAX_RESULTS = 96
"""The worst are kept. A sandbox has some 60, since a status has no room for more."""
MAX_TEXT = 512
"""Bytes of a message, a remedy, and so on: with `MAX_RESULTS` an object is below 256 KiB whatever a status says."""
_LONGEST_NAME = 253
_RESULTS = {Result.PASS: "pass", Result.UNKNOWN: "error", Result.NOT_APPLICABLE: "skip"}
_ALL = ("pass", "fail", "warn", "error", "skip")
_WORST = ("fail", "error", "warn", "pass", "skip")


def openreports(report: Report) -> str:
    """A List of openreports.io/v1alpha1 Reports."""
    return _listed(report, OPEN_REPORT)


def policy_reports(report: Report) -> str:
    """A List of wgpolicyk8s.io/v1alpha2 PolicyReports."""
    return _listed(report, POLICY_REPORT)


def _listed(report: Report, kind: tuple[str, str]) -> str:
    # When it was read, since it says what was so then: a doubt can be newer than the measurement.
    items = [
        manifest(
            sandbox,
            report.controls,
            kind,
            name=name_of("claude-sandbox", sandbox.name),
            writer="claude-sandbox-report",
            at=report.generated_at,
        )
        for sandbox in report.sandboxes
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2, ensure_ascii=False)


def manifest(
    sandbox: Sandbox,
    controls: Mapping[str, ControlEntry],
    kind: tuple[str, str],
    *,
    name: str,
    writer: str,
    at: datetime,
) -> dict[str, Any]:
    """The object of a sandbox. `kind`: its apiVersion and kind; `at`: of when its results are."""
    read_at = {"seconds": int(at.timestamp()), "nanos": 0}
    results = _worst([_result(one, controls[one.control], read_at) for one in sandbox.outcomes])
    count = Counter(one["result"] for one in results)
    owner = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "name": sandbox.name, "uid": sandbox.uid}
    return {
        "apiVersion": kind[0],
        "kind": kind[1],
        "metadata": {
            "name": name,
            "namespace": sandbox.namespace,
            "labels": {meta.LABEL_MANAGED_BY: writer},
            **({"ownerReferences": [owner]} if sandbox.uid else {}),
        },
        "scope": owner | {"namespace": sandbox.namespace},
        "summary": {result: count[result] for result in _ALL},
        "results": results,
        **({"source": SOURCE} if kind == OPEN_REPORT else {}),
    }


def name_of(prefix: str, sandbox: str) -> str:
    """As the sandbox with a prefix, and a fingerprint of what is cut off."""
    name = f"{prefix}-{sandbox}"
    if len(name) <= _LONGEST_NAME:
        return name
    fingerprint = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: _LONGEST_NAME - 17].rstrip('-.')}-{fingerprint}"


def _worst(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(results) <= MAX_RESULTS:
        return results
    return sorted(results, key=lambda one: _WORST.index(one["result"]))[:MAX_RESULTS]


def _result(outcome: Outcome, control: ControlEntry, read_at: dict[str, int]) -> dict[str, Any]:
    evidence = outcome.evidence
    properties = {
        "required": str(outcome.required).lower(),
        "remedy": outcome.remedy,
        "exception": excepted(outcome),
        "evidence": ": ".join(filter(None, (evidence.source, evidence.value))) if evidence else "",
        "more": control.page if _RESULTS.get(outcome.result) != "pass" else "",
    }
    return {
        "source": SOURCE,
        "policy": SOURCE,
        "rule": clip(control.id, MAX_TEXT),
        "category": control.family,
        "severity": control.severity.value.lower(),
        "result": _word(outcome),
        "scored": outcome.decides,
        "timestamp": read_at,
        "message": clip(f"{control.title}: {outcome.message}" if outcome.message else control.title, MAX_TEXT),
        "properties": {name: clip(value, MAX_TEXT) for name, value in properties.items() if value},
    }


def _word(outcome: Outcome) -> str:
    if outcome.result is Result.FAIL:
        return "fail" if outcome.decides else "warn"
    return _RESULTS[outcome.result]
