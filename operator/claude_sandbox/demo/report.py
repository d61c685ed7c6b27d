"""What the demo shows in the end: how the sandbox is, from what the cluster says of it."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from claude_sandbox.api import meta
from claude_sandbox.install.manifests import Manifest

CONTAINER = "agent"


def progress(found: Manifest | None) -> str | None:
    """What a sandbox is waiting for; None where it is Ready and Compliant."""
    if found is None:
        return "The sandbox is not there."
    conditions = {one["type"]: one for one in found.get("status", {}).get("conditions") or ()}
    if found.get("status", {}).get("observedGeneration") != found["metadata"]["generation"]:
        return "The operator has not looked at the sandbox yet."
    for kind in ("Ready", "Compliant"):
        one = conditions.get(kind)
        if one is None or one["status"] != "True":
            what = f"{one['reason']}: {one['message']}" if one else "not reported yet"
            return f"{kind} is {one['status'] if one else 'Unknown'}: {what}"
    return None


def controls(found: Manifest) -> Iterator[str]:
    """The controls' summary, and those that don't pass without being required to."""
    compliance = found["status"]["compliance"]
    summary = compliance["summary"]
    total = sum(summary[result] for result in ("pass", "fail", "unknown", "notApplicable"))
    yield (
        f"{summary['required']} required controls pass. Of all {total}: {summary['pass']} pass, "
        f"{summary['fail']} fail, {summary['unknown']} unknown, {summary['notApplicable']} not applicable."
    )
    for control in compliance["controls"]:
        if control["result"] == "Fail":
            yield f"  {control['id']} {control['title']}: fails, not required. {control.get('remedy', '')}".rstrip()


def further(kubeconfig: str | None, kubectl: str, namespace: str, name: str) -> Iterator[str]:
    """Commands to look further with."""
    pod = f"pod/{meta.child_name(name)}"
    if kubectl != "kubectl":
        yield f"alias kubectl={shlex.quote(kubectl)}"
    if kubeconfig:
        yield f"export KUBECONFIG={shlex.quote(kubeconfig)}"
    yield f"kubectl describe claudesandbox {name} --namespace {namespace}     # conditions, every control, Events"
    yield f"kubectl exec -it --namespace {namespace} {pod} -- claude     # Claude Code in the sandbox"
    yield f"{own_program()} audit {namespace}/{name} --follow     # what it asks its gateway for"
    yield f"kubectl delete networkpolicy --namespace {namespace} {meta.child_name(name)}     # comes back by itself"


def own_program() -> str:
    """`claude-sandbox`, where the shell finds it; else by its path."""
    beside = Path(sys.executable).with_name("claude-sandbox")
    return "claude-sandbox" if shutil.which("claude-sandbox") or not beside.exists() else shlex.quote(str(beside))
