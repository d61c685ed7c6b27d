"""The kernel as a second witness beside the engine's document.

Neither the container nor the engine's API can forge what it says. It can refute what the document says, and decide
what the document leaves to the image. Figures are those of proc(5), cgroups(7) and capabilities(7).
"""

from collections.abc import Callable, Mapping

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.control import Verdict, failed, passed, unknown
from claude_sandbox.compliance.docker.document import Document
from claude_sandbox.compliance.docker.measure import decided
from claude_sandbox.compliance.docker.process import Process
from claude_sandbox.compliance.evidence import Object
from claude_sandbox.compliance.kernel import PLAIN_HANDLERS
from claude_sandbox.compliance.privilege import FIRST_ORDINARY_GROUP

_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_NET_BIND_SERVICE = 1 << 10
_FILTERED = "2"
# The kernel counts memory in pages, of up to 64 KiB; and CPU quotas in whole microseconds of a period.
_PAGE = 64 * 1024
_HUNDREDTH = 1.01


Judge = Callable[[Process, Document], Verdict]


def tells(container: Object) -> bool:
    """Whether its first process on the host is the container's own, and not a runtime in user space or a hypervisor."""
    return Document(container).text("HostConfig.Runtime") in (*PLAIN_HANDLERS, "io.containerd.runc.v2", "")


def capabilities(process: Process, _: Document) -> Verdict:
    """No set has more than what may be added."""
    problems, doubts = [], []
    for name in _CAPABILITY_SETS:
        text = process.fields.get(name)
        if text is None:
            doubts.append(f"the kernel does not tell {name}")
        elif extra := int(text, 16) & ~_NET_BIND_SERVICE:
            problems.append(f"the kernel gives its first process capabilities ({name} {extra:016x})")
    return decided(problems, doubts, "kernel: none")


def no_new_privileges(process: Process, _: Document) -> Verdict:
    """The flag is set."""
    return _flag(process, "NoNewPrivs", "1", "the kernel lets its first process gain privileges")


def non_root(process: Process, _: Document) -> Verdict:
    """Neither its real nor its effective, saved or file system user is root, as the container calls it."""
    found = process.numbers("Uid", process.uid_map)
    if not found:
        return unknown("the kernel does not tell a user that the container knows")
    return decided(["the kernel runs its first process as uid 0"] if 0 in found else [], (), f"kernel: uid {found[0]}")


def groups(process: Process, _: Document) -> Verdict:
    """Neither root's group nor, beside its own, one of a system's."""
    own = process.numbers("Gid", process.gid_map)
    if not own:
        return unknown("the kernel does not tell a group that the container knows")
    problems = ["the kernel runs its first process in root's group"] if 0 in own else []
    added = set(process.numbers("Groups", process.gid_map)) - set(own)
    problems += [
        f"its first process is in the system group {gid}" for gid in sorted(added) if gid < FIRST_ORDINARY_GROUP
    ]
    return decided(problems, (), f"kernel: gid {own[0]}")


def seccomp(process: Process, _: Document) -> Verdict:
    """A filter is in place."""
    return _flag(process, "Seccomp", _FILTERED, "the kernel filters no system calls of its first process")


def memory(process: Process, container: Document) -> Verdict:
    """No more than the engine says."""
    return _held("memory", process.limits.memory, container.number("HostConfig.Memory"), "bytes", slack=_PAGE)


def cpu(process: Process, container: Document) -> Verdict:
    """No more than the engine says, in whichever of its two ways."""
    nano, quota = container.number("HostConfig.NanoCpus"), container.number("HostConfig.CpuQuota")
    period = container.number("HostConfig.CpuPeriod") or 100_000
    said = (nano or 0) / 1e9 or max(quota or 0, 0) / period
    return _held("CPU", process.limits.cpus, said * _HUNDREDTH, "CPUs")


def processes(process: Process, container: Document) -> Verdict:
    """No more than the engine says."""
    return _held("process", process.limits.processes, container.number("HostConfig.PidsLimit"), "processes")


JUDGES: Mapping[str, Judge] = {
    "PRIV-02": capabilities,
    "PRIV-03": no_new_privileges,
    "PRIV-04": non_root,
    "PRIV-05": groups,
    "KERN-01": seccomp,
    "RES-01": memory,
    "RES-02": cpu,
    "RES-03": processes,
}
"""The controls that the kernel is a second witness to."""

# Which user a name stands for is written in the image, and the engine looked it up to start the process.
_DECIDED_BY_KERNEL = frozenset({"PRIV-04", "PRIV-05"})


def weighed(id: str, document: Verdict, kernel: Verdict) -> Verdict:
    """The verdict of two witnesses: either's failure counts, and one doubt of the document's the kernel can settle."""
    if Result.FAIL in (document.result, kernel.result):
        said = [one.message for one in (document, kernel) if one.result is Result.FAIL]
        return failed("; ".join(said), kernel.value or document.value)
    if document.result is Result.PASS or id in _DECIDED_BY_KERNEL:
        return passed("; ".join(filter(None, (document.value, kernel.value))))
    return document


def _flag(process: Process, name: str, wanted: str, problem: str) -> Verdict:
    found = process.fields.get(name)
    if found is None:
        return unknown(f"the kernel does not tell {name}")
    return decided([] if found == wanted else [problem], (), f"kernel: {name} {found}")


def _held(what: str, actual: float | None, said: float | None, unit: str, slack: float = 0) -> Verdict:
    if actual is None or not said or said < 0:
        return unknown(f"the {what} limit of its control group could not be read, or the engine knows of none")
    problem = f"its control group's {what} limit is {actual:.15g} {unit}, more than the engine says"
    return decided([problem] if actual > said + slack else [], (), f"kernel: {actual:.15g} {unit}")
