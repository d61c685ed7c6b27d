"""The page of the Strict filter, generated from its declaration."""

from collections.abc import Iterable
from itertools import groupby

from claude_sandbox.seccomp.calls import ALLOWED, CONDITIONAL, REFUSED

FILE = "seccomp.md"

_INTRODUCTION = """\
<!-- Generated from the declaration by `python -m claude_sandbox.seccomp.generate`: change that, not this file. -->
# The Strict seccomp profile

`spec.security.seccompProfile.type: Strict` is a filter of this project's own, narrower than the engine's or the
node's default: it lets through what Claude Code and ordinary development need, tools such as git, shells,
Python, Node.js, compilers and what they build, and answers everything else with an error. A sandbox without it has the
default, which is a filter, too.

On Docker it comes with the container. On Kubernetes it is a file on the nodes, `manifests/seccomp/strict.json`, which
[an administrator puts there](../operations.md#what-nodes-lend).

What people notice of it:

- Debuggers and tracers (gdb, strace) don't work, and leak sanitizers don't either: set `ASAN_OPTIONS=detect_leaks=0`.
- `ss` reads `/proc` instead of asking the kernel, and says so.
- There are no POSIX message queues, and what would use io_uring or the kernel's asynchronous I/O does without.
- Programs for 32 bits end at their first call with `Bad system call`.

It keeps the agent from parts of the kernel, not its processes from each other: they have one user, and what `/proc`
shows of one to another is no matter of system calls (`kernel.yama.ptrace_scope` of the host is).

It is for machines on x86-64 and arm64. On another an engine lets nothing in it start a process, so no sandbox becomes
ready; to another node the file must not be brought. Everything was tried on x86-64; for arm64 the names are the
kernel's. `docker inspect` shows the whole filter, and KERN-01 tells whether a container has it; of a pod it tells
whether it names the file, and by a probe whether that refuses what no other filter does.
"""


def to_markdown() -> str:
    """The page."""
    allowed = "".join(f"| {title} | {_calls(calls)} |\n" for title, calls in ALLOWED.items())
    partly = "".join(
        f"| `{call}` | {'; '.join(one.title for one in conditions)} |\n"
        for call, conditions in groupby(CONDITIONAL, key=lambda condition: condition.call)
    )
    refused = "".join(f"| {one.title} | {one.why} | {_calls(one.calls)} | `{one.answer.value}` |\n" for one in REFUSED)
    return (
        f"{_INTRODUCTION}\n## Refused\n\n"
        "What is in no table is refused as well, with `EPERM`, or with `ENOSYS` where it is newer than the engine's own"
        " libraries.\n\n"
        f"| What | Why | Calls | Answer |\n|---|---|---|---|\n{refused}\n"
        f"## Allowed in part\n\nOther than so, the answer is `EPERM`.\n\n| Call | For |\n|---|---|\n{partly}\n"
        f"## Allowed\n\n| For | Calls |\n|---|---|\n{allowed}"
    )


def _calls(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
