"""What the kernel lets a process do that is confined as this one is: dangerous calls, each tried once.

Theory of operation. Each is made (`trying`) so that it changes nothing even where it is let through: with arguments
that the kernel looks at only after it has decided who may, or on something that goes with the child. Nothing is opened
that opening could start, nothing is read, and no other process is touched. A crash leaves at most an empty file in
/dev/shm, which goes with the container.

Needs no right, and is meant to be run where it has none.
"""

import ctypes
import errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from claude_sandbox.probe.trying import DENIED, RAISED, Attempt, Call, call, errno_of, libc, tried, zero

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


def calls() -> list[Call]:
    """All of them, one after the other. From a process without other threads: it forks."""
    return [tried(name, one) for name, one in ATTEMPTS.items()]


def _unshare(flags: int) -> Callable[[], int]:
    return lambda: errno_of(libc().unshare(flags))


def _setns() -> int:
    """Enter the namespace that it is in already."""
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    return errno_of(libc().setns(own, _CLONE_NEWNS))


def _mount() -> int:
    """Two kinds of propagation at once, which nobody may ask for: who may mount is told EINVAL."""
    return errno_of(libc().mount(None, b"/", None, ctypes.c_ulong(_MS_PRIVATE | _MS_SHARED), None))


def _mknod() -> int:
    """Another /dev/null, where it can't be opened."""
    path = Path(_SHARED_MEMORY, f"probe-{os.getpid()}")
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    path.unlink()
    return 0


def _keyctl() -> int:
    """Which keyring is the session's: KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING, made by nobody."""
    return call("keyctl", zero(), ctypes.c_long(-3), zero())


def _bpf() -> int:
    """BPF_MAP_CREATE of no kind of map."""
    return call("bpf", zero(), None, zero())


def _io_uring() -> int:
    """Without parameters."""
    return call("io_uring_setup", ctypes.c_long(1), None)


def _perf() -> int:
    """PERF_COUNT_SW_DUMMY of this process, not begun: type, size, config; then disabled, no kernel, no hypervisor."""
    wanted = bytearray(128)
    wanted[0:8] = (1).to_bytes(4, "little") + (128).to_bytes(4, "little")
    wanted[8:16] = (9).to_bytes(8, "little")
    wanted[40:48] = (1 | 1 << 5 | 1 << 6).to_bytes(8, "little")
    attributes = (ctypes.c_char * 128).from_buffer(wanted)
    return call("perf_event_open", attributes, zero(), ctypes.c_long(-1), ctypes.c_long(-1), zero())


def _userfaultfd() -> int:
    return call("userfaultfd", ctypes.c_long(os.O_CLOEXEC | _UFFD_USER_MODE_ONLY))


def _module() -> int:
    """From no file."""
    return call("finit_module", ctypes.c_long(-1), b"", zero())


def _handle() -> int:
    """By the handle of a file that there is not: eight bytes, of the kind with an inode's number."""
    handle = (8).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(8)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return call("open_by_handle_at", ctypes.c_long(root), handle, ctypes.c_long(os.O_RDONLY))


def _syslog() -> int:
    """How large the kernel's log may get."""
    return errno_of(libc().klogctl(_SYSLOG_ACTION_SIZE_BUFFER, None, 0))


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
    return errno.EPERM if libc().prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 else 0


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
            refused = error.errno or RAISED
            if refused not in _READ_ONLY:
                return refused
        else:
            return 0
    return refused


_READ_ONLY = DENIED | {errno.EROFS, errno.ENOENT}

ATTEMPTS: dict[str, Attempt] = {
    "unshare of users": Attempt(_unshare(_CLONE_NEWUSER)),
    "unshare of mounts": Attempt(_unshare(_CLONE_NEWNS)),
    "setns": Attempt(_setns),
    "mount": Attempt(_mount, frozenset({errno.EINVAL})),
    "mknod": Attempt(_mknod),
    "keyctl": Attempt(_keyctl, frozenset({errno.ENOKEY})),
    "bpf": Attempt(_bpf, frozenset({errno.EINVAL, errno.EFAULT, errno.E2BIG})),
    "io_uring_setup": Attempt(_io_uring, frozenset({errno.EFAULT, errno.EINVAL})),
    "perf_event_open": Attempt(_perf),
    "userfaultfd": Attempt(_userfaultfd),
    "finit_module": Attempt(_module, frozenset({errno.EBADF, errno.EINVAL, errno.ENOEXEC})),
    "open_by_handle_at": Attempt(_handle, frozenset({errno.ESTALE, errno.EOPNOTSUPP})),
    "syslog": Attempt(_syslog),
    "raw socket": Attempt(_socket(socket.AF_INET, socket.IPPROTO_ICMP)),
    "packet socket": Attempt(_socket(socket.AF_PACKET, 0)),
    "memory of others": Attempt(_memory),
    "devices": Attempt(_devices),
    "setuid programs": Attempt(_setuid),
    "kernel settings": Attempt(_setting, denied=_READ_ONLY),
    "files of the image": Attempt(_image, frozenset({errno.EOPNOTSUPP}), denied=_READ_ONLY),
}
