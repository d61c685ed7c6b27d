"""The kernel as a second witness beside the engine's document.

Neither the container nor the engine's API can forge what it says. It can refute what the document says, and decide
what the document leaves to the image or to the engine. Figures are those of proc(5), cgroups(7) and capabilities(7).
"""

import re
from collections.abc import Callable
from dataclasses import replace

from claude_sandbox.api.spec import AppArmorProfile
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.conventions import FIRST_ORDINARY_GROUP, PLAIN_HANDLERS
from claude_sandbox.compliance.evidence.process import Process, ranges
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.verdict import Verdict, decided, failed, passed, unknown
from claude_sandbox.procfs.listeners import Listener

_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_NET_BIND_SERVICE = 1 << 10
"""The only one that the restricted Pod Security Standard lets be added."""
# Up to CAP_AUDIT_READ, which every kernel has that containers run on; newer ones add to them.
_ALL_CAPABILITIES = (1 << 38) - 1
_FILTERED = "2"
_ENFORCED = re.compile(r"(.+) \((?:enforce|kill)\)")
# The kernel counts memory in pages, of up to 64 KiB; and CPU quotas in whole microseconds of a period.
_PAGE = 64 * 1024
_HUNDREDTH = 1.01
_SHOWN = 8


Judge = Callable[[Process, Container], Verdict]
ProcessJudge = Callable[[Process, object], Verdict]
"""One that asks of nothing but the process."""


def tells(container: Object) -> bool:
    """Whether its first process on the host is the container's own, and not a runtime in user space or a hypervisor."""
    return Document(container).text("HostConfig.Runtime") in (*PLAIN_HANDLERS, "io.containerd.runc.v2", "")


def not_privileged(process: Process, _: object) -> Verdict:
    """It can't be given all capabilities."""
    bounding = process.fields.get("CapBnd")
    if bounding is None:
        return unknown("the kernel does not tell CapBnd")
    # The bounding set, not the effective one: it is what could ever be gained.
    full = int(bounding, 16) & _ALL_CAPABILITIES == _ALL_CAPABILITIES
    return decided(["the kernel lets it have all capabilities"] if full else [], (), f"kernel: CapBnd {bounding}")


def capabilities(process: Process, _: object) -> Verdict:
    """No set has more than what may be added."""
    problems, doubts = [], []
    for name in _CAPABILITY_SETS:
        text = process.fields.get(name)
        if text is None:
            doubts.append(f"the kernel does not tell {name}")
        elif extra := int(text, 16) & ~_NET_BIND_SERVICE:
            problems.append(f"the kernel gives its process capabilities ({name} {extra:016x})")
    return decided(problems, doubts, "kernel: none")


def no_new_privileges(process: Process, _: object) -> Verdict:
    """The flag is set. Then programs of its image that would give privileges have no effect, and are told all the same;
    where it isn't they are what gives them."""
    verdict = _flag(process, "NoNewPrivs", "1", "the kernel lets its process gain privileges")
    files = process.files
    if files is None or not (files.privileged_count or not files.whole):
        none = "" if files is None else "; no program of its image would give any"
        return replace(verdict, value=f"{verdict.value}{none}") if verdict.result is Result.PASS else verdict
    told = _some(files.privileged, files.privileged_count) or "none seen"
    if not files.whole:
        told += ", and more than is looked at"
    if verdict.result is Result.FAIL:
        return failed(f"{verdict.message}, for example by programs of its image: {told}", verdict.value)
    return replace(verdict, value=f"{verdict.value}; without effect then: {told}")


def setuid_files(process: Process, _: object) -> Verdict:
    """None among its image's own files, all of which were looked at."""
    files = process.files
    if files is None:
        return unknown("nobody looked at its files")
    if files.privileged_count:
        told = _some(files.privileged, files.privileged_count)
        return failed(f"programs of its image would give privileges: {told}")
    return passed("kernel: none among its files") if files.whole else unknown("there are more files than are looked at")


def devices(process: Process, _: object) -> Verdict:
    """None but those that every container has is among its own files and in /dev. It can refute only: they are looked
    at some time after the start, and where nobody looked the document says the same of what is meant to be there."""
    files = process.files
    if files is None:
        return unknown("nobody looked at its files")
    if files.device_count:
        return failed(f"there are devices among its files: {_some(files.devices, files.device_count)}")
    return unknown("no device was seen" if files.whole else "there are more files than are looked at")


def _some(names: tuple[str, ...], count: int) -> str:
    return ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")


def non_root(process: Process, _: object) -> Verdict:
    """Neither its real nor its effective, saved or file system user is root, as the container calls it."""
    found = process.numbers("Uid", process.uid_map)
    if not found:
        return unknown("the kernel does not tell a user that the container knows")
    # A process may have made a namespace of its own, in which it calls itself as it likes.
    root = 0 in found or _is_the_machines_root(process)
    doubts = _other_roots(process)
    return decided(["the kernel runs its process as uid 0"] if root else [], doubts, f"kernel: uid {found[0]}")


def _is_the_machines_root(process: Process) -> bool:
    return process.maps_are_the_hosts and "0" in process.fields.get("Uid", "").split()


def _other_roots(process: Process) -> list[str]:
    """Whoever is let in from outside may be root for a moment. So this refutes nothing, and what the document leaves
    open stays open."""
    there = process.maps_are_the_hosts and 0 in process.users
    return ["another of its processes is the machine's root"] if there else []


def groups(process: Process, _: object) -> Verdict:
    """Neither root's group nor, beside its own, one of a system's."""
    own = process.numbers("Gid", process.gid_map)
    if not own:
        return unknown("the kernel does not tell a group that the container knows")
    problems = ["the kernel runs its process in root's group"] if 0 in own else []
    added = set(process.numbers("Groups", process.gid_map)) - set(own)
    problems += [f"its process is in the system group {gid}" for gid in sorted(added) if gid < FIRST_ORDINARY_GROUP]
    return decided(problems, _other_roots(process), f"kernel: gid {own[0]}")


def user_namespace(process: Process, _: object) -> Verdict:
    """Root in it is nobody, or somebody else, on the host."""
    if not process.maps_are_the_hosts:
        return unknown("the users of this process are not the host's own")
    root = [first_outside for first, first_outside, _ in ranges(process.uid_map) if first == 0]
    if not root:
        return unknown("the kernel does not tell who root in it is")
    problem = "root in it is root on the host, as the kernel has it"
    same = root[0] == 0 or _is_the_machines_root(process)
    return decided([problem] if same else [], _other_roots(process), f"kernel: root is uid {root[0]}")


def app_armor(process: Process, container: Container) -> Verdict:
    """A profile is enforced; where the sandbox names one, that one."""
    return enforced(process, container.declared.app_armor)


def enforced(process: Process, wanted: AppArmorProfile | None) -> Verdict:
    """The same, whoever declares it."""
    if process.confinement is None:
        return unknown("the kernel tells of no AppArmor profile")
    confined = _ENFORCED.fullmatch(process.confinement)
    problems = [] if confined else [f"AppArmor does not confine its process: {process.confinement}"]
    name = wanted.localhost_profile if wanted is not None else None
    if confined and name not in (None, confined[1]):
        problems.append(f"the kernel holds its process to the AppArmor profile {confined[1]}, and not to {name}")
    return decided(problems, (), f"kernel: {process.confinement}")


def of_its_own(*names: str) -> ProcessJudge:
    """Fails where one of these namespaces is the host's."""

    def judge(process: Process, _: object) -> Verdict:
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


def seccomp(process: Process, _: object) -> Verdict:
    """A filter is in place."""
    return _flag(process, "Seccomp", _FILTERED, "the kernel filters no system calls of its process")


def listening(process: Process, container: Container) -> Verdict:
    """On declared ports alone."""
    if process.namespaces.get("net"):
        return unknown("the kernel has it in the host's network, where others listen as well")
    if container.declared.ports is None:
        return unknown("nothing declares on which ports it may listen")
    return listens(process.listeners, frozenset(port.number for port in container.declared.ports))


def listens(told: tuple[Listener, ...] | None, declared: frozenset[int]) -> Verdict:
    """Whether nothing does but by TCP on the `declared` ports. What only itself can reach is not among what is told."""
    if told is None:
        return unknown("the kernel does not tell what listens in it")
    others = [one for one in told if one.protocol != "tcp" or one.port not in declared]
    shown = ", ".join(f"{one.protocol} {_at(one)}" for one in others[:_SHOWN])
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    seen = ", ".join(f"{one.protocol} {_at(one)}" for one in told)
    problem = f"something listens in it where no port is declared: {shown}{more}"
    return decided([problem] if others else [], (), f"kernel: {seen or 'nothing listens'}")


def _at(one: Listener) -> str:
    return f"[{one.address}]:{one.port}" if ":" in one.address else f"{one.address}:{one.port}"


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


def weighed(document: Verdict, kernel: Verdict, *, decides: bool, of: str = "the engine's document") -> Verdict:
    """The verdict of two witnesses: either's failure counts, and the kernel settles a doubt where it `decides`.

    `of`: what the first one is the word of.
    """
    values = "; ".join(filter(None, (document.value, kernel.value)))
    if Result.FAIL in (document.result, kernel.result):
        said = "; ".join(one.message for one in (document, kernel) if one.result is Result.FAIL)
        # First, because a status has room for the beginning of a message only.
        return failed(f"{of} says it is well, but {said}" if document.result is Result.PASS else said, values)
    # By here the kernel has passed it: where it can't tell, the document's word stays as it is (`reports`).
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
