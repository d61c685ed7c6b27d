"""Calls that the Strict filter refuses and filters beside it let through: whether it is the one in force.

Which filter a container has, the kernel does not show to who may not change it; on Kubernetes nothing else does either,
since a pod names but a file of its node. So what tells it is what it refuses. Each call is made (`trying`) with
arguments by which it reads something of its own child, or that nothing can be done by: a clock that is not adjusted, a
process that is not traced, a file that is none. None is written to the kernel's log, and none has it load a module.

That all are refused does not say which filter it is, but that it is as narrow here as Strict is. A kernel that was
built without a call refuses it as well, and is as safe.
"""

import ctypes
import errno
import os
import socket

from claude_sandbox.probe.trying import Attempt, Call, call, errno_of, libc, tried, zero

_TIMEX = 256
"""Bytes, more than struct timex has. With `modes` 0, which is its first field, nothing is adjusted."""
_PTRACE_CONT = 7
_UNAME26 = 0x0020000
"""An old version of Linux is told to this process alone (include/uapi/linux/personality.h)."""
_NETLINK_GENERIC = 16
_NO_FILE = -1
_ALL_FLAGS = 0xFFFFFFFF


def calls() -> list[Call]:
    """All of them, one after the other. From a process without other threads: it forks."""
    return [tried(name, one) for name, one in ATTEMPTS.items()]


def _number(number: int) -> ctypes.c_long:
    return ctypes.c_long(number)


def _adjtimex() -> int:
    """How the clock is adjusted: it returns in which state that is."""
    return call("adjtimex", ctypes.create_string_buffer(_TIMEX))


def _clock_adjtime() -> int:
    return call("clock_adjtime", zero(), ctypes.create_string_buffer(_TIMEX))


def _ptrace() -> int:
    """Let this process, which nobody traces, go on."""
    return call("ptrace", _number(_PTRACE_CONT), _number(os.getpid()), zero(), zero())


def _memory() -> int:
    """Nothing of its own."""
    return call("process_vm_readv", _number(os.getpid()), None, zero(), None, zero(), zero())


def _descriptor() -> int:
    """Of no process."""
    return call("pidfd_getfd", _number(_NO_FILE), _number(_NO_FILE), zero())


def _io_setup() -> int:
    """For no requests, and nowhere to write which."""
    return call("io_setup", zero(), None)


def _queue() -> int:
    """Without a name."""
    return call("mq_unlink", None)


def _splice() -> int:
    """Nothing into no pipe."""
    return call("vmsplice", _number(_NO_FILE), None, zero(), zero())


def _secret() -> int:
    return call("memfd_secret", _number(_ALL_FLAGS))


def _policy() -> int:
    """Where its own memory is to be, told to nowhere."""
    return call("get_mempolicy", None, None, zero(), zero(), zero())


def _handle() -> int:
    """Of nothing."""
    return call("name_to_handle_at", _number(_NO_FILE), None, None, None, _number(_ALL_FLAGS))


def _clone3() -> int:
    """With fewer arguments than there have ever been."""
    return call("clone3", None, zero())


def _personality() -> int:
    return errno_of(libc().personality(ctypes.c_ulong(_UNAME26)))


def _netlink() -> int:
    """Of a kind that every kernel has."""
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC).close()
    return 0


ATTEMPTS: dict[str, Attempt] = {
    "adjtimex": Attempt(_adjtimex),
    "clock_adjtime": Attempt(_clock_adjtime),
    "ptrace": Attempt(_ptrace, frozenset({errno.ESRCH})),
    "process_vm_readv": Attempt(_memory),
    "pidfd_getfd": Attempt(_descriptor, frozenset({errno.EBADF})),
    "io_setup": Attempt(_io_setup, frozenset({errno.EFAULT, errno.EINVAL})),
    "mq_unlink": Attempt(_queue, frozenset({errno.EFAULT})),
    "vmsplice": Attempt(_splice, frozenset({errno.EBADF})),
    "memfd_secret": Attempt(_secret, frozenset({errno.EINVAL})),
    "get_mempolicy": Attempt(_policy),
    "name_to_handle_at": Attempt(_handle, frozenset({errno.EINVAL, errno.EFAULT, errno.EBADF})),
    "clone3": Attempt(_clone3, frozenset({errno.EINVAL})),
    "personality": Attempt(_personality),
    "generic netlink": Attempt(_netlink),
}
