"""The kernel as a second witness beside the engine's document.

Neither the container nor the engine's API can forge what it says. It can refute what the document says, and decide
what the document leaves to the image or to the engine. Figures are those of proc(5), cgroups(7) and capabilities(7).
"""

import re
from collections.abc import Callable

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.conventions import FIRST_ORDINARY_GROUP, PLAIN_HANDLERS
from claude_sandbox.compliance.evidence.process import Process, ranges
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.verdict import Verdict, decided, failed, passed, unknown

_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_NET_BIND_SERVICE = 1 << 10
# Up to CAP_AUDIT_READ, which every kernel has that containers run on; newer ones add to them.
_ALL_CAPABILITIES = (1 << 38) - 1
_FILTERED = "2"
_ENFORCED = re.compile(r"(.+) \((?:enforce|kill)\)")
# The kernel counts memory in pages, of up to 64 KiB; and CPU quotas in whole microseconds of a period.
_PAGE = 64 * 1024
_HUNDREDTH = 1.01


Judge = Callable[[Process, Container], Verdict]


def tells(container: Object) -> bool:
    """Whether its first process on the host is the container's own, and not a runtime in user space or a hypervisor."""
    return Document(container).text("HostConfig.Runtime") in (*PLAIN_HANDLERS, "io.containerd.runc.v2", "")


def not_privileged(process: Process, _: Container) -> Verdict:
    """It can't be given all capabilities."""
    bounding = process.fields.get("CapBnd")
    if bounding is None:
        return unknown("the kernel does not tell CapBnd")
    full = int(bounding, 16) & _ALL_CAPABILITIES == _ALL_CAPABILITIES
    return decided(["the kernel lets it have all capabilities"] if full else [], (), f"kernel: CapBnd {bounding}")


def capabilities(process: Process, _: Container) -> Verdict:
    """No set has more than what may be added."""
    problems, doubts = [], []
    for name in _CAPABILITY_SETS:
        text = process.fields.get(name)
        if text is None:
            doubts.append(f"the kernel does not tell {name}")
        elif extra := int(text, 16) & ~_NET_BIND_SERVICE:
            problems.append(f"the kernel gives its first process capabilities ({name} {extra:016x})")
    return decided(problems, doubts, "kernel: none")


def no_new_privileges(process: Process, _: Container) -> Verdict:
    """The flag is set."""
    return _flag(process, "NoNewPrivs", "1", "the kernel lets its first process gain privileges")


def non_root(process: Process, _: Container) -> Verdict:
    """Neither its real nor its effective, saved or file system user is root, as the container calls it."""
    found = process.numbers("Uid", process.uid_map)
    if not found:
        return unknown("the kernel does not tell a user that the container knows")
    return decided(["the kernel runs its first process as uid 0"] if 0 in found else [], (), f"kernel: uid {found[0]}")


def groups(process: Process, _: Container) -> Verdict:
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


def user_namespace(process: Process, _: Container) -> Verdict:
    """Root in it is nobody, or somebody else, on the host."""
    if not process.maps_are_the_hosts:
        return unknown("the users of this process are not the host's own")
    root = [first_outside for first, first_outside, _ in ranges(process.uid_map) if first == 0]
    if not root:
        return unknown("the kernel does not tell who root in it is")
    problem = "root in it is root on the host, as the kernel has it"
    return decided([problem] if root[0] == 0 else [], (), f"kernel: root is uid {root[0]}")


def app_armor(process: Process, _: Container) -> Verdict:
    """A profile is enforced."""
    if process.confinement is None:
        return unknown("the kernel tells of no AppArmor profile")
    confined = _ENFORCED.fullmatch(process.confinement)
    problem = f"AppArmor does not confine its first process: {process.confinement}"
    return decided([] if confined else [problem], (), f"kernel: {process.confinement}")


def of_its_own(*names: str) -> Judge:
    """Fails where one of these namespaces is the host's."""

    def judge(process: Process, _: Container) -> Verdict:
        told = {name: process.namespaces.get(name) for name in names}
        problems = [f"the kernel has it in the host's {name} namespace" for name, shared in told.items() if shared]
        doubts = [f"the kernel does not tell its {name} namespace" for name, shared in told.items() if shared is None]
        return decided(problems, doubts, "kernel: its own")

    return judge


def open_files(process: Process, container: Container) -> Verdict:
    """No more than the engine says."""
    limits = container.objects("HostConfig.Ulimits") or ()
    said = [limit.get("Hard") for limit in limits if limit.get("Name") == "nofile"]
    most = said[-1] if said and isinstance(said[-1], int) else None
    return _held("its limit of open files", process.open_files, most, "files")


def seccomp(process: Process, _: Container) -> Verdict:
    """A filter is in place."""
    return _flag(process, "Seccomp", _FILTERED, "the kernel filters no system calls of its first process")


def memory(process: Process, container: Container) -> Verdict:
    """No more than the engine says."""
    said = container.number("HostConfig.Memory")
    return _held("its control group's memory limit", process.limits.memory, said, "bytes", slack=_PAGE)


def cpu(process: Process, container: Container) -> Verdict:
    """No more than the engine says, in whichever of its two ways."""
    nano, quota = container.number("HostConfig.NanoCpus"), container.number("HostConfig.CpuQuota")
    period = container.number("HostConfig.CpuPeriod") or 100_000
    said = (nano or 0) / 1e9 or max(quota or 0, 0) / period
    return _held("its control group's CPU limit", process.limits.cpus, said * _HUNDREDTH, "CPUs")


def processes(process: Process, container: Container) -> Verdict:
    """No more than the engine says."""
    said = container.number("HostConfig.PidsLimit")
    return _held("its control group's process limit", process.limits.processes, said, "processes")


def weighed(document: Verdict, kernel: Verdict, *, decides: bool) -> Verdict:
    """The verdict of two witnesses: either's failure counts, and the kernel settles a doubt where it `decides`."""
    values = "; ".join(filter(None, (document.value, kernel.value)))
    if Result.FAIL in (document.result, kernel.result):
        said = [one.message for one in (document, kernel) if one.result is Result.FAIL]
        if document.result is Result.PASS:
            said.append("the engine's document says that it is as it should be")
        return failed("; ".join(said), values)
    if document.result is Result.PASS or decides:
        return passed(values)
    return document


def _flag(process: Process, name: str, wanted: str, problem: str) -> Verdict:
    found = process.fields.get(name)
    if found is None:
        return unknown(f"the kernel does not tell {name}")
    return decided([] if found == wanted else [problem], (), f"kernel: {name} {found}")


def _held(what: str, actual: float | None, said: float | None, unit: str, slack: float = 0) -> Verdict:
    if actual is None or not said or said < 0:
        return unknown(f"{what} could not be read, or the engine knows of none")
    problem = f"{what} is {actual:.15g} {unit}, more than the engine says"
    return decided([problem] if actual > said + slack else [], (), f"kernel: {actual:.15g} {unit}")
