"""RES: how much of its host the sandbox can use up."""

from collections.abc import Callable

from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.containers import witness
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.control import (
    OPTIONAL,
    PRODUCTION,
    ContainerCheck,
    Control,
    Evidence,
    Level,
    PodCheck,
    Unmeasured,
    maps,
)
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, decided, failed, judged, passed, unknown

_MOST_RESTARTS = 5
"""After failures, as the CIS Docker Benchmark has it (5.15)."""


def pod_limited(resource: str) -> Callable[[View], Verdict]:
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


def container_memory(container: Container) -> Verdict:
    """In bytes; 0, and for the command line -1, mean none."""
    limit = container.number("HostConfig.Memory")
    if limit is None:
        return unknown(untold("HostConfig.Memory"))
    return _enforced(container, "MemoryLimit", f"{limit} bytes") if limit > 0 else failed("it has no memory limit")


def container_cpu(container: Container) -> Verdict:
    """By either of the two ways of setting a quota."""
    nano, quota = container.number("HostConfig.NanoCpus"), container.number("HostConfig.CpuQuota")
    if nano is not None and nano > 0:
        return _enforced(container, "CpuCfsQuota", f"{nano / 1e9:g} CPUs")
    if quota is not None and quota > 0:
        return _enforced(container, "CpuCfsQuota", f"quota of {quota} µs")
    doubts = list(doubts_of(("HostConfig.NanoCpus", nano), ("HostConfig.CpuQuota", quota)))
    return unknown("; ".join(doubts)) if doubts else failed("it has no CPU limit")


def container_processes(container: Container) -> Verdict:
    """Null, 0 and -1 all mean none."""
    limit = container.number("HostConfig.PidsLimit")
    if limit is None:
        return unknown(untold("HostConfig.PidsLimit"))
    return _enforced(container, "PidsLimit", str(limit)) if limit > 0 else failed("it has no process limit")


def container_ulimits(container: Container) -> Verdict:
    """A bound on open files of its own: what it inherits otherwise is the engine's, often a million."""
    limits = container.objects("HostConfig.Ulimits")
    if limits is None:
        return unknown(untold("HostConfig.Ulimits"))
    problems, doubts, seen = [], [], []
    for limit in limits:
        name, hard = limit.get("Name"), limit.get("Hard")
        if not isinstance(name, str) or not isinstance(hard, int):
            doubts.append("the document does not tell all of HostConfig.Ulimits")
        elif hard < 0:
            problems.append(f"the ulimit {name} is unlimited")
        else:
            seen.append(f"{name}={hard}")
    if not doubts and all(limit["Name"] != "nofile" for limit in limits):
        problems.append("it has no ulimit for open files (nofile)")
    return decided(problems, doubts, ", ".join(seen))


def pod_lifetime(view: View) -> Verdict:
    """An end to it."""
    deadline = view.spec.get("activeDeadlineSeconds")
    if deadline is None:
        return failed("the pod may run, and be restarted, for ever", f"restartPolicy: {view.spec.get('restartPolicy')}")
    return passed(f"activeDeadlineSeconds: {deadline}")


def container_restarts(container: Container) -> Verdict:
    """It is not started again and again: at most five times after failures (CIS Docker Benchmark, 5.15)."""
    policy = container.mapping("HostConfig.RestartPolicy")
    name, retries = (policy or {}).get("Name"), container.number("HostConfig.RestartPolicy.MaximumRetryCount")
    if not isinstance(name, str):
        return unknown(untold("HostConfig.RestartPolicy.Name"))
    if name in ("", "no"):
        return passed("no restart")
    if name != "on-failure":
        return failed(f"it is restarted for ever ({name})", name)
    if retries is None:
        return unknown(untold("HostConfig.RestartPolicy.MaximumRetryCount"))
    if retries <= 0:
        return failed("it is restarted after each failure, for ever", name)
    told = f"on-failure:{retries}"
    return passed(told) if retries <= _MOST_RESTARTS else failed(f"it is restarted up to {retries} times", told)


def pod_quota(view: View) -> Verdict:
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


def _enforced(container: Container, limit: str, value: str) -> Verdict:
    """An engine without control groups of its own keeps in mind what it was asked for, and does nothing about it."""
    if limit in container.engine.unenforced:
        return failed("its engine can't enforce the limit (control HOST-06 of the host)", value)
    return passed(value)


CONTROLS: tuple[Control, ...] = (
    Control(
        "RES-01",
        "Memory limit",
        Severity.HIGH,
        Level.SANDBOX,
        pod=PodCheck(
            pod_limited("memory"),
            "Set resources.limits.memory for all containers.",
        ),
        container=ContainerCheck(
            container_memory,
            "Run it with --memory, for example --memory 2g.",
            kernel=witness.memory,
        ),
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
        pod=PodCheck(
            pod_limited("cpu"),
            "Set resources.limits.cpu for all containers.",
        ),
        container=ContainerCheck(
            container_cpu,
            "Run it with --cpus, for example --cpus 2.",
            kernel=witness.cpu,
        ),
        mappings=maps(
            cis_docker=("5.12",),
            kubescape=("C-0270",),
            trivy=("KSV-0011",),
        ),
    ),
    Control(
        "RES-03",
        "Process limit",
        Severity.MEDIUM,
        Level.SANDBOX,
        pod=Unmeasured(
            "pids.max of the sandbox's cgroup, which no API object holds",
            EvidenceSource.EXEC_PROBE,
            "Set podPidsLimit in the configuration of the nodes' kubelets.",
        ),
        container=ContainerCheck(
            container_processes,
            "Run it with --pids-limit, for example --pids-limit 512.",
            kernel=witness.processes,
        ),
        mappings=maps(cis_docker=("5.29",)),
    ),
    Control(
        "RES-04",
        "Open files limited",
        Severity.LOW,
        Level.SANDBOX,
        container=ContainerCheck(
            container_ulimits,
            "Run it with --ulimit, for example --ulimit nofile=4096:8192.",
            kernel=witness.open_files,
        ),
        required=PRODUCTION,
        mappings=maps(cis_docker=("5.19",)),
    ),
    Control(
        "RES-05",
        "Bounded lifetime",
        Severity.LOW,
        Level.HARDENED,
        pod=PodCheck(
            pod_lifetime,
            "Give the sandbox a time after which it ends.",
        ),
        container=ContainerCheck(
            container_restarts,
            "Run it with --restart=on-failure:5, or without --restart.",
        ),
        required=OPTIONAL,
        mappings=maps(cis_docker=("5.15",)),
    ),
    Control(
        "RES-06",
        "Namespace quota or limit range",
        Severity.LOW,
        Level.HARDENED,
        pod=PodCheck(
            pod_quota,
            "Create a ResourceQuota or a LimitRange in the namespace.",
            needs=(Evidence.QUOTAS,),
        ),
        required=OPTIONAL,
        mappings=maps(trivy=("KSV-0039", "KSV-0040")),
    ),
)
