"""What the kernel lets a process do that is confined as this one is: dangerous calls, each tried once.

Theory of operation. Each call is made in a child of its own, which ends with what the kernel said. It is made so that
it changes nothing even where it is let through: with arguments that the kernel looks at only after it has decided who
may, or on something that goes with the child. Nothing is opened that opening could start, nothing is read, and no other
process is touched. What the kernel says to it is either that it may not be made (`denied`), or something that only who
may make it is told (`possible`); anything else says nothing (`failed`), the child's death too, since others of the same
user can kill it. A crash leaves at most an empty file in /dev/shm, which goes with the container.

Needs no right, and is meant to be run where it has none.
"""

import ctypes
import errno
import os
import platform
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from signal import SIGKILL

ENOUGH = 2.0
"""Seconds for one call: none of them waits for anything."""
_DENIED = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})
"""What seccomp filters, capabilities, file modes and kernels without a call say."""
_NUMBERS = {
    "x86_64": {
        "keyctl": 250, "open_by_handle_at": 304, "finit_module": 313, "perf_event_open": 298, "bpf": 321,
        "userfaultfd": 323, "io_uring_setup": 425,
    },
    "aarch64": {
        "keyctl": 219, "open_by_handle_at": 265, "finit_module": 273, "perf_event_open": 241, "bpf": 280,
        "userfaultfd": 282, "io_uring_setup": 425,
    },
}  # fmt: skip
"""Of system calls (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)."""
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_PRIVATE, _MS_SHARED = 1 << 18, 1 << 20
_PR_GET_NO_NEW_PRIVS = 39
_SYSLOG_ACTION_SIZE_BUFFER = 10
_UFFD_USER_MODE_ONLY = 1
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, not trusted
_ORDINARY = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)})
"""Character devices that every container has: null, zero, full, random, urandom; tty, console, ptmx
(Documentation/admin-guide/devices.txt)."""
_PTS = range(136, 144)
_SETTING = "/proc/sys/kernel/core_pattern"
"""What is written there, the kernel starts as root on the host."""
_OF_THE_IMAGE = ("/", "/etc", "/usr/bin", "/usr/local/bin")


class May(StrEnum):
    """What came of one call. What it means is not decided here."""

    DENIED = "denied"
    POSSIBLE = "possible"
    FAILED = "failed"
    """It says nothing."""


@dataclass(frozen=True)
class Call:
    """One call and what came of it. `error` is the name of the kernel's, empty for none."""

    name: str
    may: May
    error: str = ""


@dataclass(frozen=True)
class _Attempt:
    """`make` returns the kernel's errno, 0 for none. `let`: errors that only who may make it is told."""

    make: Callable[[], int]
    let: frozenset[int] = frozenset()
    denied: frozenset[int] = _DENIED


def calls() -> list[Call]:
    """All of them, one after the other. From a process without other threads: it forks."""
    return [tried(name, one) for name, one in ATTEMPTS.items()]


def tried(name: str, one: "_Attempt") -> Call:
    """One of them, in a child."""
    code = _in_a_child(one.make)
    if code is None:
        return Call(name, May.FAILED, "it did not end by itself")
    if code == 0 or code in one.let:
        return Call(name, May.POSSIBLE, _name(code))
    return Call(name, May.DENIED if code in one.denied else May.FAILED, _name(code))


def _in_a_child(make: Callable[[], int]) -> int | None:
    """What it returned; None where the child did not get that far."""
    child = os.fork()
    if child == 0:
        code = _RAISED
        try:
            code = make()
        except OSError as error:
            code = error.errno or _RAISED
        finally:
            # Without what Python does at its end: the child has its parent's open files, and what these had not written
            # yet.
            os._exit(min(code, _RAISED))
    ends = time.monotonic() + ENOUGH
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        if time.monotonic() > ends:
            os.kill(child, SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.001)


_RAISED = 255
"""The exit code of a child that failed without an error of the system's; no errno is so large."""


def _name(code: int) -> str:
    return errno.errorcode.get(code, "" if code == 0 else "no error of the kernel's")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _errno(result: int) -> int:
    return ctypes.get_errno() if result < 0 else 0


def _call(name: str, *arguments: object) -> int:
    """A system call by its number, for which C libraries have no function."""
    number = _NUMBERS.get(platform.machine(), {}).get(name)
    if number is None:
        return _RAISED
    syscall = _libc().syscall
    syscall.restype = ctypes.c_long
    return _errno(syscall(ctypes.c_long(number), *arguments))


def _zero() -> ctypes.c_long:
    return ctypes.c_long(0)


def _unshare(flags: int) -> Callable[[], int]:
    return lambda: _errno(_libc().unshare(flags))


def _setns() -> int:
    """Enter the namespace that it is in already."""
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    return _errno(_libc().setns(own, _CLONE_NEWNS))


def _mount() -> int:
    """Two kinds of propagation at once, which nobody may ask for: who may mount is told EINVAL."""
    return _errno(_libc().mount(None, b"/", None, ctypes.c_ulong(_MS_PRIVATE | _MS_SHARED), None))


def _mknod() -> int:
    """Another /dev/null, where it can't be opened."""
    path = Path(_SHARED_MEMORY, f"probe-{os.getpid()}")
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    path.unlink()
    return 0


def _keyctl() -> int:
    """Which keyring is the session's: KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING, made by nobody."""
    return _call("keyctl", _zero(), ctypes.c_long(-3), _zero())


def _bpf() -> int:
    """BPF_MAP_CREATE of no kind of map."""
    return _call("bpf", _zero(), None, _zero())


def _io_uring() -> int:
    """Without parameters."""
    return _call("io_uring_setup", ctypes.c_long(1), None)


def _perf() -> int:
    """PERF_COUNT_SW_DUMMY of this process, not begun: type, size, config; then disabled, no kernel, no hypervisor."""
    wanted = bytearray(128)
    wanted[0:8] = (1).to_bytes(4, "little") + (128).to_bytes(4, "little")
    wanted[8:16] = (9).to_bytes(8, "little")
    wanted[40:48] = (1 | 1 << 5 | 1 << 6).to_bytes(8, "little")
    attributes = (ctypes.c_char * 128).from_buffer(wanted)
    return _call("perf_event_open", attributes, _zero(), ctypes.c_long(-1), ctypes.c_long(-1), _zero())


def _userfaultfd() -> int:
    return _call("userfaultfd", ctypes.c_long(os.O_CLOEXEC | _UFFD_USER_MODE_ONLY))


def _module() -> int:
    """From no file."""
    return _call("finit_module", ctypes.c_long(-1), b"", _zero())


def _handle() -> int:
    """By the handle of a file that there is not: eight bytes, of the kind with an inode's number."""
    handle = (8).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(8)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return _call("open_by_handle_at", ctypes.c_long(root), handle, ctypes.c_long(os.O_RDONLY))


def _syslog() -> int:
    """How large the kernel's log may get."""
    return _errno(_libc().klogctl(_SYSLOG_ACTION_SIZE_BUFFER, None, 0))


def _socket(family: int, protocol: int) -> Callable[[], int]:
    def make() -> int:
        socket.socket(family, socket.SOCK_RAW, protocol).close()
        return 0

    return make


def _memory() -> int:
    """Of any process of another namespace of processes: opened, not read. Those of its own are whoever's may run a
    command beside it, and as little as it is."""
    own, found = Path("/proc/self/ns/pid").readlink(), errno.EPERM
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(PermissionError, FileNotFoundError, ProcessLookupError):
            if (path / "ns/pid").readlink() != own:
                os.close(os.open(path / "mem", os.O_RDONLY | os.O_CLOEXEC))
                found = 0
    return found


def _devices() -> int:
    """Any beyond what every container has, and that this user may use: looked at, not opened."""
    for where, _, names in os.walk("/dev"):
        for name in names:
            path = Path(where, name)
            found = path.lstat()
            if _is_extraordinary(found) and os.access(path, os.R_OK | os.W_OK):
                return 0
    return errno.EACCES


def _is_extraordinary(found: os.stat_result) -> bool:
    number = os.major(found.st_rdev), os.minor(found.st_rdev)
    if stat.S_ISCHR(found.st_mode):
        return number not in _ORDINARY and number[0] not in _PTS
    return stat.S_ISBLK(found.st_mode)


def _setuid() -> int:
    """Whether a setuid program, if there is one, could become its owner (prctl(2), PR_SET_NO_NEW_PRIVS)."""
    return errno.EPERM if _libc().prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 else 0


def _setting() -> int:
    """Opened for writing, and nothing written."""
    os.close(os.open(_SETTING, os.O_WRONLY | os.O_CLOEXEC))
    return 0


def _image() -> int:
    """A file without a name, among the image's programs."""
    refused = errno.EROFS
    for where in _OF_THE_IMAGE:
        try:
            os.close(os.open(where, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            # Also a file system that has no such files would have had to be writable first.
            refused = error.errno or _RAISED
            if refused not in _READ_ONLY:
                return refused
        else:
            return 0
    return refused


_READ_ONLY = _DENIED | {errno.EROFS, errno.ENOENT}

ATTEMPTS: dict[str, _Attempt] = {
    "unshare of users": _Attempt(_unshare(_CLONE_NEWUSER)),
    "unshare of mounts": _Attempt(_unshare(_CLONE_NEWNS)),
    "setns": _Attempt(_setns),
    "mount": _Attempt(_mount, frozenset({errno.EINVAL})),
    "mknod": _Attempt(_mknod),
    "keyctl": _Attempt(_keyctl, frozenset({errno.ENOKEY})),
    "bpf": _Attempt(_bpf, frozenset({errno.EINVAL, errno.EFAULT, errno.E2BIG})),
    "io_uring_setup": _Attempt(_io_uring, frozenset({errno.EFAULT, errno.EINVAL})),
    "perf_event_open": _Attempt(_perf),
    "userfaultfd": _Attempt(_userfaultfd),
    "finit_module": _Attempt(_module, frozenset({errno.EBADF, errno.EINVAL, errno.ENOEXEC})),
    "open_by_handle_at": _Attempt(_handle, frozenset({errno.ESTALE, errno.EOPNOTSUPP})),
    "syslog": _Attempt(_syslog),
    "raw socket": _Attempt(_socket(socket.AF_INET, socket.IPPROTO_ICMP)),
    "packet socket": _Attempt(_socket(socket.AF_PACKET, 0)),
    "memory of others": _Attempt(_memory),
    "devices": _Attempt(_devices),
    "setuid programs": _Attempt(_setuid),
    "kernel settings": _Attempt(_setting, denied=_READ_ONLY),
    "files of the image": _Attempt(_image, frozenset({errno.EOPNOTSUPP}), denied=_READ_ONLY),
}
