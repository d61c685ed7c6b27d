"""What a filter of system calls that a container brings with it lets through. Pure.

The document is that of Docker's profiles: a default action, and rules that name calls, perhaps with conditions on their
arguments, architectures or the kernel's version. A call counts as let through if any rule may let it through or its
default does: a condition on an argument stops nobody who chooses the argument, unless it leaves out all that is feared.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# What lets a call through, whatever else it does: SCMP_ACT_NOTIFY asks a program that is not in the document.
_LETTING = frozenset({"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY"})
# SCMP_ACT_TRACE needs a tracer; without one the call fails with ENOSYS (seccomp(2)), but a process may bring its own.
_TRACING = "SCMP_ACT_TRACE"
_STOPPING = frozenset(
    {"SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"}
)
_ACTIONS = frozenset({*_LETTING, *_STOPPING, _TRACING})


def _calls(names: str) -> frozenset[str]:
    return frozenset(names.split())


DANGEROUS = _calls(
    "acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module fsconfig fsmount"
    " fsopen fspick init_module iopl ioperm kexec_file_load kexec_load keyctl lookup_dcookie mount"
    " mount_setattr move_mount nfsservctl open_by_handle_at open_tree perf_event_open pivot_root quotactl"
    " reboot request_key setdomainname sethostname setns settimeofday swapoff swapon syslog umount2 unshare"
    " userfaultfd vhangup"
)
"""What Docker's own filter stops a process without capabilities from doing (moby's profiles/seccomp/default.json)."""

WORST = _calls(
    "bpf finit_module fsmount init_module kexec_file_load kexec_load mount move_mount open_by_handle_at"
    " pivot_root setns unshare"
)
"""Of these a filter lets none through that is worth its name: they load code into the kernel, or make namespaces and
mounts, with which a process without capabilities comes to have all of them in a namespace of its own. Not
clone: every list of what is allowed has it, since processes are made by it, and few limit its flags."""

_NEW_USERS = 0x10000000
_NAMESPACES = 0x7E020000
"""All flags of clone and unshare that make a namespace, but for that of time, which unshare alone knows."""


class FilterError(Exception):
    """The text is no filter that an engine would take; the message is a clause."""


def weakness(text: str) -> str:
    """What is wrong with a profile in JSON: a clause, or empty. Raises FilterError for what is none."""
    document = _parsed(text)
    default, rules = document["defaultaction"], _rules(document)
    let = {call for call in DANGEROUS if _lets(call, default, rules)}
    if let == DANGEROUS:
        return "its seccomp profile lets every system call pass that it should stop"
    if worst := sorted(let & WORST):
        return f"its seccomp profile lets {', '.join(worst)} pass"
    if len(let) > len(DANGEROUS) // 4:
        return f"its seccomp profile lets {len(let)} of {len(DANGEROUS)} dangerous system calls pass"
    return ""


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        document: Any = json.loads(text, object_pairs_hook=_as_engines_read)
    except (ValueError, RecursionError):
        raise FilterError("its seccomp profile is not JSON") from None
    if not isinstance(document, Mapping) or not isinstance(document.get("defaultaction"), str):
        raise FilterError("its seccomp profile has no default action")
    if document["defaultaction"] not in _ACTIONS:
        raise FilterError("its seccomp profile has a default action that is none")
    if any(rule.get("action") not in _ACTIONS for rule in _rules(document)):
        raise FilterError("its seccomp profile has a rule with an action that is none")
    return document


def _as_engines_read(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Engines are written in Go, for which fields' names have no case; of several that are one, the last one counts."""
    return {name.casefold(): value for name, value in pairs}


def _rules(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rules = document.get("syscalls")
    return [rule for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, list) else []


def _lets(call: str, default: str, rules: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a process without capabilities may get the call through, with arguments of its choice."""
    stopped = False
    for rule in rules:
        if call not in _names(rule) or _needs_more(rule) or (call == "unshare" and _leaves_namespaces(rule)):
            continue
        action = rule.get("action")
        if action in _LETTING or action == _TRACING:
            return True
        # One with conditions leaves the rest to the default.
        limited = any(rule.get(condition) for condition in ("args", "includes", "excludes"))
        stopped |= action in _STOPPING and (not limited or (call == "unshare" and _is_of_users(rule)))
    return default in {*_LETTING, _TRACING} and not stopped


def _names(rule: Mapping[str, Any]) -> Iterator[str]:
    names = rule.get("names")
    yield from (one for one in names if isinstance(one, str)) if isinstance(names, list) else ()
    if isinstance(name := rule.get("name"), str):
        yield name


def _leaves_namespaces(rule: Mapping[str, Any]) -> bool:
    """Whether the rule is for calls alone that make no namespace, as Docker's own is of clone."""
    conditions = rule.get("args")
    return isinstance(conditions, list) and any(
        isinstance(one, Mapping)
        and one.get("op") == "SCMP_CMP_MASKED_EQ"
        and one.get("index") in (None, 0)
        and isinstance(mask := one.get("value"), int)
        and mask & _NAMESPACES == _NAMESPACES
        and not one.get("valuetwo")
        for one in conditions
    )


def _is_of_users(rule: Mapping[str, Any]) -> bool:
    """Whether the rule is for all calls that make a namespace of users: without one, all others take rights."""
    conditions = rule.get("args")
    if rule.get("includes") or rule.get("excludes") or not isinstance(conditions, list) or len(conditions) != 1:
        return False
    wanted = {"op": "SCMP_CMP_MASKED_EQ", "value": _NEW_USERS, "valuetwo": _NEW_USERS}
    (one,) = conditions
    return isinstance(one, Mapping) and one.get("index") in (None, 0) and wanted.items() <= one.items()


def _needs_more(rule: Mapping[str, Any]) -> bool:
    """Whether the rule is for containers with a capability: what they may do is PRIV-02's to judge."""
    includes = rule.get("includes")
    return isinstance(includes, Mapping) and bool(includes.get("caps"))
