"""One system call, tried once: in a child, and by what the kernel says to it.

Theory of operation. Each call is made in a child of its own, which ends with what the kernel said. What the kernel says
is either that it may not be made (`denied`), or something that only who may make it is told (`possible`); anything else
says nothing (`failed`), the child's death too, since others of the same user can kill it. Nothing outlives a child.
"""

import ctypes
import errno
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from signal import SIGKILL

ENOUGH = 2.0
"""Seconds for one call: none of them waits for anything."""
DENIED = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})
"""What seccomp filters, capabilities, file modes and kernels without a call say."""
_NUMBERS = {
    "x86_64": {
        "ptrace": 101, "personality": 135, "adjtimex": 159, "io_setup": 206, "get_mempolicy": 239, "mq_unlink": 241,
        "keyctl": 250, "vmsplice": 278, "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304,
        "clock_adjtime": 305, "process_vm_readv": 310, "finit_module": 313, "bpf": 321, "userfaultfd": 323,
        "io_uring_setup": 425, "clone3": 435, "pidfd_getfd": 438, "memfd_secret": 447,
    },
    "aarch64": {
        "io_setup": 0, "vmsplice": 75, "personality": 92, "ptrace": 117, "adjtimex": 171, "mq_unlink": 181,
        "keyctl": 219, "get_mempolicy": 236, "perf_event_open": 241, "name_to_handle_at": 264, "open_by_handle_at": 265,
        "clock_adjtime": 266, "process_vm_readv": 270, "finit_module": 273, "bpf": 280, "userfaultfd": 282,
        "io_uring_setup": 425, "clone3": 435, "pidfd_getfd": 438, "memfd_secret": 447,
    },
}  # fmt: skip
"""Of system calls (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)."""


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
class Attempt:
    """`make` returns the kernel's errno, 0 for none. `let`: errors that only who may make it is told."""

    make: Callable[[], int]
    let: frozenset[int] = frozenset()
    denied: frozenset[int] = DENIED


def tried(name: str, one: Attempt) -> Call:
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
        code = RAISED
        try:
            code = make()
        except OSError as error:
            code = error.errno or RAISED
        finally:
            # Without what Python does at its end: the child has its parent's open files, and what these had not written
            # yet.
            os._exit(min(code, RAISED))
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


RAISED = 255
"""The exit code of a child that failed without an error of the system's; no errno is so large."""


def _name(code: int) -> str:
    return errno.errorcode.get(code, "" if code == 0 else "no error of the kernel's")


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def errno_of(result: int) -> int:
    return ctypes.get_errno() if result < 0 else 0


def call(name: str, *arguments: object) -> int:
    """A system call by its number, for which C libraries have no function."""
    number = _NUMBERS.get(platform.machine(), {}).get(name)
    if number is None:
        return RAISED
    syscall = libc().syscall
    syscall.restype = ctypes.c_long
    return errno_of(syscall(ctypes.c_long(number), *arguments))


def zero() -> ctypes.c_long:
    return ctypes.c_long(0)
