"""RES: how much of the node the sandbox can use up."""

from collections.abc import Callable

from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.control import (
    OPTIONAL,
    Control,
    Evidence,
    Level,
    Verdict,
    failed,
    judged,
    listed,
    maps,
    passed,
)
from claude_sandbox.compliance.pods.evidence import Object
from claude_sandbox.compliance.pods.view import View


def limited(resource: str) -> Callable[[View], Verdict]:
    """Every container, or the pod as a whole, has a limit, and the node enforces it."""

    def judge(view: View) -> Verdict:
        whole = _limit(view.spec, resource)
        problems, seen = [], []
        for container in view.containers:
            asked, enforced = _limit(container.spec, resource), _limit(container.status, resource)
            if asked is None and whole is None:
                problems.append(f"container {container.name} has no {resource} limit")
            elif asked is not None and container.status.get("resources") and enforced is None:
                problems.append(f"the node enforces no {resource} limit on container {container.name}")
            seen.append(f"{container.name}: {enforced or asked or whole or 'none'}")
        return judged(problems, ", ".join(seen))

    return judge


def lifetime(view: View) -> Verdict:
    """An end to it."""
    deadline = view.spec.get("activeDeadlineSeconds")
    if deadline is None:
        return failed("the pod may run, and be restarted, for ever", f"restartPolicy: {view.spec.get('restartPolicy')}")
    return passed(f"activeDeadlineSeconds: {deadline}")


def quota(view: View) -> Verdict:
    """Bounds for all sandboxes of the namespace together, or for each."""
    bounds = [
        one for one in view.quotas if (one.get("spec") or {}).get("hard") or (one.get("spec") or {}).get("limits")
    ]
    if not bounds:
        return failed("the namespace has neither a ResourceQuota nor a LimitRange")
    return passed(", ".join(sorted(str(one["metadata"]["name"]) for one in bounds)))


def _limit(of: Object, resource: str) -> str | None:
    limit: str | None = ((of.get("resources") or {}).get("limits") or {}).get(resource)
    return limit


CONTROLS = (
    Control(
        "RES-01",
        "Memory limit",
        Severity.HIGH,
        Level.SANDBOX,
        "Set resources.limits.memory for all containers.",
        limited("memory"),
        mappings=maps(
            cis_docker=("5.11",),
            kubescape=("C-0271",),
            trivy=("KSV-0018",),
        ),
    ),
    Control(
        "RES-02",
        "CPU limit",
        Severity.MEDIUM,
        Level.SANDBOX,
        "Set resources.limits.cpu for all containers.",
        limited("cpu"),
        mappings=maps(
            cis_docker=("5.12",),
            kubescape=("C-0270",),
            trivy=("KSV-0011",),
        ),
    ),
    listed(
        "RES-03",
        "Process limit",
        Severity.MEDIUM,
        by=EvidenceSource.EXEC_PROBE,
        how="pids.max of the sandbox's cgroup, which no API object holds",
        remedy="Set podPidsLimit in the configuration of the nodes' kubelets.",
        mappings=maps(cis_docker=("5.29",)),
    ),
    Control(
        "RES-05",
        "Bounded lifetime",
        Severity.LOW,
        Level.HARDENED,
        "Give the sandbox a time after which it ends.",
        lifetime,
        required=OPTIONAL,
        mappings=maps(cis_docker=("5.15",)),
    ),
    Control(
        "RES-06",
        "Namespace quota or limit range",
        Severity.LOW,
        Level.HARDENED,
        "Create a ResourceQuota or a LimitRange in the namespace.",
        quota,
        needs=(Evidence.QUOTAS,),
        required=OPTIONAL,
        mappings=maps(trivy=("KSV-0039", "KSV-0040")),
    ),
)
