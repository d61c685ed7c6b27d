"""Runs in a sandbox: makes each system call that it is given, and prints what became of it, as JSON.

The argument is a JSON object of attempts: a name for each, and the call's number with its arguments. Each is made in a
process of its own, which a call may end. The answer is 0 or more, or the name of the error or of the signal.
"""

import ctypes
import errno
import json
import os
import signal
import sys

LIBC = ctypes.CDLL(None, use_errno=True)


def attempt(number: int, *arguments: int) -> str:
    ctypes.set_errno(0)
    answer = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_ulong(one % 2**64) for one in arguments))
    if answer == -1:
        return errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))
    return str(answer)


def apart(number: int, *arguments: int) -> str:
    """In a child, with whatever it becomes."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # A call that makes processes returns in each of them.
        answer = attempt(number, *arguments)
        if os.getppid() == PARENT:
            os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else answer


PARENT = os.getpid()
print(json.dumps({name: apart(*call) for name, call in json.loads(sys.argv[1]).items()}))
