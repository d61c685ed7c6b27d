"""Whether a process has something that none of some others has: a right, a user, a namespace of the node's. Pure.

Who has more than its container was given can always become a process of another kind: with other limits, without some
of its rights. What it can't become is one that has no more than the others, and gain by it.
"""

from collections.abc import Iterable, Mapping, Sequence

from claude_sandbox.compliance.evidence.process import Process

_RIGHTS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_NUMBERS = ("Uid", "Gid", "Groups")
_OFF = {"NoNewPrivs": "0", "Seccomp": "0"}
_ALL = -1


def has_more(process: Process, others: Iterable[Process]) -> bool:
    """Than each of the others and all of them together."""
    those = tuple(others)
    known = [one.fields for one in those]
    return _has_more_by_status(process.fields, known) or _is_elsewhere(process, those)


def _has_more_by_status(fields: Mapping[str, str], known: Sequence[Mapping[str, str]]) -> bool:
    for name in _RIGHTS:
        given = 0
        for one in known:
            given |= _rights(one.get(name, "0"))
        if _rights(fields.get(name, "0")) & ~given:
            return True
    for name in _NUMBERS:
        if set(fields.get(name, "").split()).difference(*(one.get(name, "").split() for one in known)):
            return True
    return any(fields.get(name) == off and all(one.get(name) != off for one in known) for name, off in _OFF.items())


def _is_elsewhere(process: Process, those: Sequence[Process]) -> bool:
    """In a namespace of the node's, or under another profile, or under none."""
    shared = {name for name, is_shared in process.namespaces.items() if is_shared}
    told = (process.confinement, process.uid_map, process.gid_map)
    return any(not any(one.namespaces.get(name) for one in those) for name in shared) or told not in {
        (one.confinement, one.uid_map, one.gid_map) for one in those
    }


def _rights(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        # What is not understood may be all there are.
        return _ALL
