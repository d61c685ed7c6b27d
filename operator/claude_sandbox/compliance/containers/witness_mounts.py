"""The kernel as a second witness of what a container can write to. A part of `witness`, which says what that means."""

from collections.abc import Callable, Iterable, Iterator

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.evidence.mountinfo import KernelMount
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import ManagedSettings
from claude_sandbox.compliance.verdict import Verdict, decided, passed, unknown

# File systems in which the kernel shows itself; what may be done with them is not a matter of files.
_KERNELS_OWN = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"})
# Root's, and without files: where version 1 of the control groups is mounted.
_CGROUPS = "/sys/fs/cgroup"
# What an engine writes for each container, and mounts as it does the root.
_ENGINES_OWN = frozenset({"/", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
# Devices that every container has (OCI runtime specification, default devices). In a user namespace none can be made,
# so that runtimes mount those of the host.
_DEVICES = frozenset({"null", "zero", "full", "random", "urandom", "tty"})

_SHOWN = 8
_UNREAD = "what is mounted in it could not be read from the kernel"


def read_only_root(process: Process, _: object) -> Verdict:
    """The root file system is mounted read-only."""
    roots = [mount for mount in process.mounts or () if mount.place == "/"]
    if not roots:
        return unknown(_UNREAD)
    return decided(["the kernel lets it write to its root file system"] if roots[-1].writable else [], (), "kernel: ro")


def system_paths(process: Process, _: object) -> Verdict:
    """/sys and /proc/sys are read-only, and what of /proc engines mask is covered."""
    if process.mounts is None:
        return unknown(_UNREAD)
    last = {mount.place: mount for mount in process.mounts}
    problems = [
        f"the kernel lets it write to {place}"
        for place in ("/sys", "/proc/sys")
        if place not in last or last[place].writable
    ]
    problems += [
        f"the kernel shows it /proc/{name}" for name in sorted(process.system_files) if f"/proc/{name}" not in last
    ]
    return decided(problems, (), "kernel: covered")


def propagation(process: Process, _: object) -> Verdict:
    """No mount that is made in it is seen elsewhere."""
    return _each(process, process.mounts, lambda one: one.shared, "the kernel shares what is mounted at {}")


def scratch(process: Process, container: Container) -> Verdict:
    """Every tmpfs of its own that can be written to is bounded, and no file in it has a privilege or is a device.

    Nor can a program in it be run, where none is meant to be.
    """
    if process.mounts is None:
        return unknown(_UNREAD)

    def is_loose(mount: KernelMount) -> bool:
        return not (mount.sized and {"nosuid", "nodev"} <= mount.options)

    own = (one for one in written(process) if one.kind == "tmpfs" and one.root == "/" and one.place != _CGROUPS)
    problems = [
        f"the kernel has the tmpfs at {one.place} without a size, or not nosuid and nodev"
        for one in own
        if is_loose(one)
    ]
    last = {mount.place: mount for mount in process.mounts}
    problems += [
        f"the kernel lets programs in {place} be run"
        for place in sorted(container.declared.without_programs)
        if place not in last or "noexec" not in last[place].options
    ]
    return decided(problems, (), "kernel: so mounted")


def settings(process: Process, container: Container) -> Verdict:
    """What is mounted where the managed settings are is read-only, the last that was, and nothing is over it."""
    return settings_in(process, container.declared.managed_settings)


def settings_in(process: Process, wanted: ManagedSettings | None) -> Verdict:
    """The same of a process, wherever what is wanted is declared."""
    if process.mounts is None or wanted is None:
        return unknown(_UNREAD)
    here = [mount for mount in process.mounts if mount.place == wanted.directory]
    if not here:
        return decided([f"the kernel has nothing mounted at {wanted.directory}"])
    last = len(process.mounts) - 1 - process.mounts[::-1].index(here[-1])
    later = [mount.place for mount in process.mounts[last + 1 :]]
    over = [place for place in later if wanted.directory.startswith(f"{place.rstrip('/')}/")]
    over += [mount.place for mount in process.mounts if mount.place.startswith(f"{wanted.directory}/")]
    problems = [f"the kernel lets it write to {wanted.directory}"] if here[-1].writable else []
    problems += [f"the kernel has something mounted over the managed settings, at {place}" for place in over]
    problems += ["the kernel has two things mounted where the managed settings are"] if len(here) > 1 else []
    return decided(problems, (), "kernel: ro")


def writable(process: Process, container: Container) -> Verdict:
    """Nothing but the workspaces, of what is not the kernel's own and not in memory."""
    workspaces = container.declared.workspaces
    if not (workspaces or container.declared.keeps_nothing):
        return unknown("nothing declares where it may write")
    kept = (
        one
        for one in written(process)
        if one.place not in _ENGINES_OWN and not (one.kind == "tmpfs" and one.root == "/")
    )
    found = _each(process, kept, lambda one: one.place not in workspaces, "the kernel lets it write to {}")
    return found if found.result is not Result.PASS else passed(runnable(process))


def runnable(process: Process) -> str:
    """Where it can write programs and run them: told as evidence, since a workspace is for just that."""
    places = [one.place for one in written(process) if "noexec" not in one.options]
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    shown = ", ".join(places[:_SHOWN]) + more
    return f"kernel: so mounted; what it writes it can run in {shown or 'no place'}"


def written(process: Process) -> Iterator[KernelMount]:
    """What can be written to, but for devices: /dev, and what is covered with one of them."""
    mounts = process.mounts or ()
    own = {mount.device for mount in mounts if mount.place == "/dev"}
    hosts = {(mount.device, mount.root) for mount in mounts if _is_device(mount)}
    for mount in mounts:
        is_file = mount.device not in own and (mount.device, mount.root) not in hosts
        if mount.writable and mount.kind not in _KERNELS_OWN and is_file:
            yield mount


def _is_device(mount: KernelMount) -> bool:
    """One of the host's own devices under its own name, from where the host has its devices."""
    name = mount.root.lstrip("/")
    return name in _DEVICES and mount.place == f"/dev/{name}" and mount.kind in ("devtmpfs", "tmpfs")


def _each(
    process: Process, mounts: Iterable[KernelMount] | None, is_wrong: Callable[[KernelMount], bool], problem: str
) -> Verdict:
    if process.mounts is None or mounts is None:
        return unknown(_UNREAD)
    return decided([problem.format(one.place) for one in mounts if is_wrong(one)], (), "kernel: so mounted")
