"""The kernel as a second witness beside a pod's object, by the same judges as of a container on Docker.

Neither the pod nor whoever writes objects can forge what it says. All processes of a container are asked, not just the
first: what is in there with more than the container was given is no less there for having come later.
"""

from collections.abc import Callable, Iterator
from typing import Any

from claude_sandbox.api.quantity import parse
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.containers import witness_mounts
from claude_sandbox.compliance.containers.witness import ProcessJudge, enforced, listens
from claude_sandbox.compliance.evidence.pod_processes import ContainerProcesses, PodProcesses
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.view import PodContainer, View
from claude_sandbox.compliance.verdict import Verdict, decided, unknown

PodKernelJudge = Callable[[PodProcesses, View], Verdict]
_ContainerJudge = Callable[[Process, PodContainer, View], Verdict]

_PAGE = 64 * 1024
"""Bytes. The kernel counts memory in pages, of up to 64 KiB."""
_HUNDREDTH = 1.01
_LEAST_CPUS = 0.011
"""The kernel gives no quota below a hundredth of a CPU."""
MOST_KEPT = 1 << 30
"""Bytes of one container's output: twenty times what the kubelet keeps by default."""
_KUBELETS_OWN = frozenset({"/", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"})
_TERMINATION_LOG = "/dev/termination-log"


def each(judge: ProcessJudge) -> PodKernelJudge:
    """What `judge` says of the processes of all containers."""
    return _each(lambda process, _container, _view: judge(process, None))


def app_armor(told: PodProcesses, view: View) -> Verdict:
    """A profile is enforced for the processes of all containers; where the sandbox names one, that one."""
    wanted = view.expected.app_armor
    return each(lambda process, _: enforced(process, wanted))(told, view)


def each_everywhere(judge: ProcessJudge) -> PodKernelJudge:
    """The same, and of processes that are in the pod and in no container that the API knows."""
    in_containers = each(judge)

    def judge_all(told: PodProcesses, view: View) -> Verdict:
        verdict = in_containers(told, view)
        known = _identifiers(view)
        others = (process for one in told.containers if one.container not in known for process in one.processes)
        found = (judge(process, None) for process in others)
        problems = [f"in none of its containers: {one.message}" for one in found if one.result is Result.FAIL]
        if not problems:
            return verdict
        return decided([verdict.message, *problems] if verdict.result is Result.FAIL else problems)

    return judge_all


def settings(told: PodProcesses, view: View) -> Verdict:
    """Of the agent's container: what is mounted where the managed settings are is read-only, and nothing is over it."""
    wanted = view.expected.managed_settings
    judge: _ContainerJudge = lambda process, _container, _view: witness_mounts.settings_in(process, wanted)  # noqa: E731
    return _each(judge, view.expected.container)(told, view)


def writable(told: PodProcesses, view: View) -> Verdict:
    """Nothing but the places of volumes that the pod's object shows, and of those what it says is written to."""
    return _each(_writable)(told, view)


def memory(told: PodProcesses, view: View) -> Verdict:
    """No more than the pod's object says."""
    return _held("memory", "bytes", lambda process: process.limits.memory, 1.0, _PAGE)(told, view)


def cpu(told: PodProcesses, view: View) -> Verdict:
    """No more than the pod's object says."""
    return _held("cpu", "CPUs", lambda process: process.limits.cpus, _HUNDREDTH, _LEAST_CPUS)(told, view)


def processes(told: PodProcesses, view: View) -> Verdict:
    """There is a limit: no object tells one."""

    def judge(process: Process, _container: PodContainer, _view: View) -> Verdict:
        most = process.limits.processes
        if most is None:
            return unknown("the kernel does not tell a limit of processes")
        problem = "the kernel lets it have any number of processes"
        return decided([problem] if most == float("inf") else [], (), f"kernel: {most:.15g} processes")

    return _each(judge)(told, view)


def listening(told: PodProcesses, view: View) -> Verdict:
    """On declared ports alone. In the node's network its own listeners can't be told from the node's."""
    if any(process.namespaces.get("net") is not False for one in told.containers for process in one.processes):
        return unknown("the kernel has it, or may have it, in its node's network, where others listen as well")
    return listens(told.listeners, frozenset(view.expected.ports))


def log(told: PodProcesses, view: View) -> Verdict:
    """No container has more on its node than MOST_KEPT, and its node's kubelet has been seen to drop what is older."""
    if told.logs is None:
        return unknown("what its node keeps of its output no agent sees (docs/operations.md says what lets one)")
    doubts = [
        f"its node tells of no output of container {container.name}"
        for container, _ in _told_of(told, view)
        if container.name not in told.logs.containers
    ]
    problems = [
        f"its node keeps more than {MOST_KEPT >> 20} MiB of what container {name} wrote"
        for name, kept in sorted(told.logs.containers.items())
        if kept.size > MOST_KEPT
    ]
    if not told.logs.rotates:
        doubts.append("its node has not rotated anybody's output yet, so that nobody knows whether it does")
    most = max((kept.size for kept in told.logs.containers.values()), default=0)
    own = "its own" if any(kept.rotated for kept in told.logs.containers.values()) else "others'"
    return decided(problems, doubts, f"up to {most >> 20} MiB are kept; its node rotates {own}")


def foreign(told: PodProcesses, view: View) -> Verdict:
    """Beside the containers that the API knows there is what holds the pod's network, one process, and nothing else."""
    known = _identifiers(view)
    others = [one for one in told.containers if one.container not in known and one.processes]
    loose = [one for one in others if not one.container]
    holders = [one for one in others if one.container]
    problems = ["the kernel has processes in the pod that are in none of its containers"] if loose else []
    # What holds the pod's network (its pause container) is one, of one process, and no API object names it.
    if len(holders) > 1 or any(one.count > 1 for one in holders):
        problems.append("the kernel has a container in the pod that the API does not know")
    if not problems and not any(one.container in known and one.processes for one in told.containers):
        return unknown("the kernel does not tell of its containers")
    return decided(problems, (), "kernel: no other")


def tells_all(told: PodProcesses) -> bool:
    """Whether nothing of the pod was too much to be told."""
    return told.whole and all(one.whole for one in told.containers)


def _each(judge: _ContainerJudge, only: str | None = None) -> PodKernelJudge:
    def judge_each(told: PodProcesses, view: View) -> Verdict:
        said: dict[Result, list[str]] = {result: [] for result in Result}
        for container, found in _told_of(told, view):
            if only is not None and container.name != only:
                continue
            processes = found.processes if found is not None else ()
            if not processes:
                said[Result.UNKNOWN].append(f"the kernel does not tell of container {container.name}")
            for process in processes:
                verdict = judge(process, container, view)
                said[verdict.result].append(f"container {container.name}: {verdict.message or verdict.value}")
        if not any(said.values()):
            return unknown("the kernel tells of no container")
        seen = ", ".join(dict.fromkeys(said[Result.PASS]))
        return decided(said[Result.FAIL], said[Result.UNKNOWN], seen)

    return judge_each


def _held(
    resource: str, unit: str, actual: Callable[[Process], float | None], factor: float, slack: float
) -> PodKernelJudge:
    def judge(process: Process, container: PodContainer, view: View) -> Verdict:
        said = [_limit(one, resource) for one in (container.spec, container.status)]
        most = max((one for one in said if one is not None), default=_limit(view.spec, resource))
        found = actual(process)
        if found is None or most is None:
            return unknown(f"its control group's {resource} limit could not be read, or the pod's object has none")
        problem = f"its control group's {resource} limit is {found:.15g} {unit}, more than the pod's object says"
        return decided(
            [problem] if found > max(most * factor, most + slack) else [], (), f"kernel: {found:.15g} {unit}"
        )

    return _each(judge)


def _writable(process: Process, container: PodContainer, _view: View) -> Verdict:
    if process.mounts is None:
        return unknown("what is mounted in it could not be read from the kernel")
    log = container.spec.get("terminationMessagePath") or _TERMINATION_LOG
    shown = {_plain(one.get("mountPath")) for one in _mounts(container) if one.get("readOnly") is not True}
    allowed = shown | _KUBELETS_OWN | {_plain(log)}
    found = (
        one.place
        for one in witness_mounts.written(process)
        if one.place not in allowed and not (one.kind == "tmpfs" and one.root == "/")
    )
    problems = [f"the kernel lets it write to {place}" for place in found]
    return decided(problems, (), witness_mounts.runnable(process))


def _mounts(container: PodContainer) -> Iterator[Object]:
    yield from container.spec.get("volumeMounts") or ()


def _plain(path: object) -> str:
    return "/" + str(path).strip("/")


def _limit(of: Object, resource: str) -> float | None:
    told = ((of.get("resources") or {}).get("limits") or {}).get(resource)
    try:
        return None if told is None else float(parse(told))
    except ValueError:
        # One in a notation that sandboxes' specs don't have.
        return None


def _told_of(told: PodProcesses, view: View) -> Iterator[tuple[PodContainer, ContainerProcesses | None]]:
    """The containers that the API says run, each with what the kernel says of it."""
    by_identifier = {one.container: one for one in told.containers}
    for container in view.containers:
        if _state(container).get("running") is not None:
            yield container, by_identifier.get(_identifier(container))


def _identifiers(view: View) -> frozenset[str]:
    return frozenset(found for container in view.containers if (found := _identifier(container)))


def _identifier(container: PodContainer) -> str:
    return str(container.status.get("containerID") or "").rpartition("://")[2]


def _state(container: PodContainer) -> Any:
    return container.status.get("state") or {}
