"""The Strict filter as the document that Docker Engines take, 20.10 and newer. Pure.

The document says which calls are allowed; everything else is answered with EPERM, and some of it with ENOSYS.
- `archMap` has no other architecture beside the engine's own: a call by another's way in (32-bit programs, x32) ends
  the process, so that no rule has to hold for two tables of calls.
- An engine ignores names that its libseccomp does not know. Such calls are newer than all that it knows, and runc
  answers those with ENOSYS.
- An architecture that is not named here gets no clone, whose arguments have another order on some: nothing in the
  container can start a process.
"""

import json
from collections.abc import Iterator
from typing import Any

from claude_sandbox.seccomp.calls import ALLOWED, CONDITIONAL, REFUSED, Answer, Argument, Condition

# Go's names beside libseccomp's: in `includes` and in `archMap`.
ARCHITECTURES = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}
# include/uapi/asm-generic/errno.h
_ENOSYS = 38


def document() -> dict[str, Any]:
    """The filter, as `docker run --security-opt seccomp=FILE` takes it."""
    return {
        # Without another number this is EPERM, also for engines that don't know `defaultErrnoRet` yet.
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": name, "subArchitectures": []} for name in ARCHITECTURES.values()],
        "syscalls": list(_rules()),
    }


def is_strict(text: str) -> bool:
    """Whether a profile in JSON is this filter, and nothing beside. One of another version of it is not."""
    try:
        return bool(json.loads(text) == _DOCUMENT)
    except (ValueError, RecursionError):
        return False


def _rules() -> Iterator[dict[str, Any]]:
    allowed = sorted(call for calls in ALLOWED.values() for call in calls)
    yield {"names": allowed, "action": "SCMP_ACT_ALLOW"}
    yield from map(_conditional, CONDITIONAL)
    absent = sorted(call for one in REFUSED if one.answer is Answer.NOT_IMPLEMENTED for call in one.calls)
    yield {"names": absent, "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS}


def _conditional(condition: Condition) -> dict[str, Any]:
    return {
        "names": [condition.call],
        "action": "SCMP_ACT_ALLOW",
        "args": list(map(_argument, condition.arguments)),
        "includes": {"arches": list(ARCHITECTURES)},
    }


def _argument(argument: Argument) -> dict[str, Any]:
    """All 64 bits of an argument are compared, or those of the mask: what the kernel would cut off is not allowed."""
    if argument.mask is None:
        return {"index": argument.index, "value": argument.value, "op": "SCMP_CMP_EQ"}
    return {"index": argument.index, "value": argument.mask, "valueTwo": argument.value, "op": "SCMP_CMP_MASKED_EQ"}


_DOCUMENT = document()

STRICT = json.dumps(_DOCUMENT, separators=(",", ":"), sort_keys=True)
"""The document as text, always the same, so that what an engine shows can be compared with it."""
