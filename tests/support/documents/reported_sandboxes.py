"""ClaudeSandboxes as `kubectl get -o json` has them, with the statuses that the operator writes, for reports."""

import copy
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import compliant_container
import compliant_sandbox
import engine_documents
import orjson

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status import Result
from claude_sandbox.backends.base import WorkloadState
from claude_sandbox.compliance.reports.docker_hosts import evaluate as evaluate_host
from claude_sandbox.compliance.reports.findings import compliance as as_status
from claude_sandbox.compliance.reports.pods import compliant
from claude_sandbox.compliance.reports.pods import findings as of_pod
from claude_sandbox.controller.sandboxes.reporting.findings import Findings, State
from claude_sandbox.controller.sandboxes.reporting.status import compose
from claude_sandbox.report.model import Report
from claude_sandbox.report.reading import report

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)

Object = dict[str, Any]

ATTACKS = [
    "<script>attacked = 1</script>",
    "</script><script>attacked = 1</script>",
    "--><img src=x onerror=attacked=1>",
    "\"><svg onload='attacked=1'>",
    "' onmouseover=attacked=1 x='",
    "</title></style></textarea><iframe src=javascript:attacked=1>",
    "</dd></dl></article><h2>Compliant</h2>",
    "<!--<script>",
    "\x1b[2J\x1b[1;1H\rCompliant",
    "]]><failure/>",
    "\u202etnailpmoC\u2028\ud800\x00",
]
"""What a text may be that wants to be more than text."""


def on_kubernetes(*mutations: compliant_sandbox.Mutation, name: str = "alice", namespace: str = "agents") -> Object:
    """One whose pod is compliant but for `mutations`."""
    findings = of_pod(compliant_sandbox.changed(*mutations).evidence())
    return _document(name, namespace, BackendType.KUBERNETES, findings)


def on_docker(*mutations: compliant_container.Mutation, name: str = "dora", namespace: str = "agents") -> Object:
    """One whose container is compliant but for `mutations`."""
    return _document(name, namespace, BackendType.DOCKER, compliant_container.changed(*mutations).found())


def docker_host(name: str = "build-1", **changes: Any) -> Object:
    """A DockerHost whose engine has everything but for `changes`, as `engine_documents.evidence` takes them."""
    engine = {
        "version": "29.0.1",
        "apiVersion": "1.52",
        "operatingSystem": "Debian GNU/Linux 13",
        "kernelVersion": "6.12.8",
        "architecture": "x86_64",
        "storageDriver": "overlay2",
        "cgroupVersion": "2",
        "cgroupDriver": "systemd",
        "securityOptions": {"seccomp": "builtin", "appArmor": True, "userNamespaces": True},
    }
    conditions = [
        {"type": "Ready", "status": "True", "reason": "HostReady", "message": "It answers."},
        {"type": "Compliant", "status": "True", "reason": "AllControlsPass", "message": ""},
        {"type": "Drained", "status": "False", "reason": "NotDraining", "message": ""},
    ]
    measured = engine_documents.evidence(**changes)
    compliance = orjson.loads(evaluate_host(measured).model_dump_json(by_alias=True, exclude_none=True))
    status = {"observedGeneration": 2, "conditions": conditions, "engine": engine, "sandboxes": 3}
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.HOST_KIND,
        "metadata": {"name": name, "uid": f"uid-of-{name}", "generation": 2},
        "spec": {"endpoint": f"ssh://sandboxes@{name}.example"},
        "status": status | {"compliance": compliance},
    }


def unmeasured(name: str = "new", namespace: str = "agents") -> Object:
    """One that no operator has seen."""
    document = on_kubernetes(name=name, namespace=namespace)
    del document["status"]
    return document


def _document(name: str, namespace: str, backend: BackendType, findings: Sequence[Any]) -> Object:
    measured = as_status(findings, NOW)
    found = Findings(
        backend=backend,
        compliance=measured,
        compliant=State(*compliant(findings, measured)),
        workload=WorkloadState(ConditionStatus.TRUE, Reason.SANDBOX_READY, "It runs."),
    )
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.KIND,
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-of-{namespace}-{name}", "generation": 3},
        "spec": {"profile": "Production", "backend": {"type": backend.value}},
        "status": compose({}, 3, found, NOW),
    }


def with_result(document: Object, control: str, result: Result, message: str = "", **fields: Any) -> Object:
    """The same with another result of one control, whatever it was before."""
    changed = copy.deepcopy(document)
    measured = changed["status"]["compliance"]
    for group in measured["passed"]:
        group["controls"] = [one for one in group["controls"] if one != control]
    measured["controls"] = [one for one in measured["controls"] if one["id"] != control]
    told = {"id": control, "title": "of a test", "result": result.value, "severity": "High", "message": message}
    measured["controls"].append(told | fields)
    return changed


def listed(*documents: Object) -> str:
    """As kubectl writes them."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})


def reported(*documents: Object, scope: str = "namespace agents", hosts: Sequence[Object] = ()) -> Report:
    """A report of them."""
    origin = "https://cluster.example"
    return report(documents, generated_at=LATER, version="1.2.3", origin=origin, scope=scope, hosts=hosts)


def fleet(sandboxes: int) -> list[Object]:
    """So many on Kubernetes, every seventh of which fails something, every fifth without a measurement."""
    whole = on_kubernetes()
    failing = on_kubernetes(lambda world: world.agent["securityContext"].update(privileged=True))
    found = []
    for number in range(sandboxes):
        document = copy.deepcopy(failing if number % 7 == 0 else whole)
        document["metadata"] |= {"name": f"sandbox-{number:03}", "uid": f"uid-{number}"}
        if number % 5 == 4:
            del document["status"]
        found.append(document)
    return found


@cache
def hostile_report(text: str) -> Report:
    """A report in which everything that may be any text is this one."""
    told = {"required": True, "title": text, "remedy": text, "evidence": {"source": text, "value": text}}
    document = with_result(on_kubernetes(), text, Result.FAIL, text, **told)
    document["metadata"]["uid"] = text
    document["status"]["workload"] = {"name": text, "node": text, "image": text}
    document["status"]["conditions"].append({"type": text, "status": text, "reason": text, "message": text})
    stale = with_result(on_kubernetes(name="stale"), text, Result.UNKNOWN, text, **told)
    for one in stale["status"]["conditions"]:
        if one["type"] == "Compliant":
            one |= {"reason": "EvaluationOverdue", "message": text}
    return reported(document, stale, scope=text)
