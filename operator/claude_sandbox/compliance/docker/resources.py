"""RES on Docker: how much of the host the container can use up."""

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.control import ALWAYS, PRODUCTION, Level, Verdict, failed, maps, passed, unknown
from claude_sandbox.compliance.docker.measure import decided, docker_only, shared

_MOST_RESTARTS = 5
"""After failures, as the CIS Docker Benchmark has it (5.15)."""


def memory(container: Container) -> Verdict:
    """In bytes; 0, and for the command line -1, mean none."""
    limit = container.number("HostConfig.Memory")
    if limit is None:
        return unknown(untold("HostConfig.Memory"))
    return _enforced(container, "MemoryLimit", f"{limit} bytes") if limit > 0 else failed("it has no memory limit")


def cpu(container: Container) -> Verdict:
    """By either of the two ways of setting a quota."""
    nano, quota = container.number("HostConfig.NanoCpus"), container.number("HostConfig.CpuQuota")
    if nano is not None and nano > 0:
        return _enforced(container, "CpuCfsQuota", f"{nano / 1e9:g} CPUs")
    if quota is not None and quota > 0:
        return _enforced(container, "CpuCfsQuota", f"quota of {quota} µs")
    doubts = list(doubts_of(("HostConfig.NanoCpus", nano), ("HostConfig.CpuQuota", quota)))
    return unknown("; ".join(doubts)) if doubts else failed("it has no CPU limit")


def processes(container: Container) -> Verdict:
    """Null, 0 and -1 all mean none."""
    limit = container.number("HostConfig.PidsLimit")
    if limit is None:
        return unknown(untold("HostConfig.PidsLimit"))
    return _enforced(container, "PidsLimit", str(limit)) if limit > 0 else failed("it has no process limit")


def ulimits(container: Container) -> Verdict:
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


def restarts(container: Container) -> Verdict:
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


def _enforced(container: Container, limit: str, value: str) -> Verdict:
    """An engine without control groups of its own keeps in mind what it was asked for, and does nothing about it."""
    if limit in container.engine.unenforced:
        return failed("its engine can't enforce the limit (control HOST-06 of the host)", value)
    return passed(value)


MEASURES = (
    shared("RES-01", memory, "Run it with --memory, for example --memory 2g."),
    shared("RES-02", cpu, "Run it with --cpus, for example --cpus 2."),
    shared("RES-03", processes, "Run it with --pids-limit, for example --pids-limit 512.", required=ALWAYS),
    docker_only(
        "RES-04",
        "Open files limited",
        Severity.LOW,
        Level.SANDBOX,
        "Run it with --ulimit, for example --ulimit nofile=4096:8192.",
        ulimits,
        required=PRODUCTION,
        mappings=maps(cis_docker=("5.19",)),
    ),
    shared("RES-05", restarts, "Run it with --restart=on-failure:5, or without --restart."),
)
