"""What an agent tells for an investigation, as files of evidence. Pure. Read as if the agent were not our own.

No name of a file is the agent's, what processes were started with has no credential that looks like one, and nothing of
it grows by being written down: how much there is, and how deep, has a bound.
"""

import json
from collections.abc import Iterator
from typing import Any

from claude_sandbox.api.clip import clip
from claude_sandbox.api.credentials.evidence import MOST_SEEN, UNSEEN, shown_command
from claude_sandbox.api.status_fields.incident import MOST_MISSING
from claude_sandbox.backends.containment import Evidence
from claude_sandbox.backends.kubernetes.node_agents.answers import MisunderstoodError
from claude_sandbox.node_agent import MOST_CONTAINERS, MOST_NETWORKS, VERSION
from claude_sandbox.procfs.sockets import TABLES

PROCESSES = "node/processes.jsonl"
"""The file with a process on each line."""
_LONGEST = 120
"""Bytes of what could not be had."""


def evidence_in(answer: bytes, uid: str) -> Evidence:
    """The files of an answer about the pod with this UID. Raises MisunderstoodError."""
    try:
        found = json.loads(answer)
        if found["version"] != VERSION or found["pod"] != uid:
            raise ValueError("another answer")
        missing = [clip(str(one), _LONGEST) for one in found["missing"][:MOST_MISSING]]
        processes, unseen = _processes(found["processes"])
        return Evidence({PROCESSES: processes, **dict(_files(found))}, missing + unseen)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MisunderstoodError(type(error).__name__) from None


def _processes(told: Any) -> tuple[bytes, list[str]]:
    """The file of them, and what of it is missing."""
    lines, left = [], MOST_SEEN
    for one in told:
        words = [str(word) for word in one.get("command", ())]
        left -= sum(map(len, words))
        lines.append(json.dumps(one | {"command": shown_command(words) if left >= 0 else [UNSEEN]}))
    missing = [f"processes' arguments beyond {MOST_SEEN >> 10} KiB"] if left < 0 else []
    return "".join(f"{line}\n" for line in lines).encode(), missing


def _files(found: Any) -> Iterator[tuple[str, bytes]]:
    for number, network in enumerate(found["networks"][:MOST_NETWORKS]):
        for name in TABLES:
            if name in network:
                yield f"node/net-{number}/{name}", network[name].encode()
    groups = {one: dict(_texts(said)) for one, said in list(found["groups"].items())[:MOST_CONTAINERS]}
    for name, told in (("groups", groups), ("mounts", dict(_texts(found["mounts"])))):
        yield f"node/{name}.json", json.dumps(told, indent=1, sort_keys=True).encode()


def _texts(told: Any) -> Iterator[tuple[str, str]]:
    """Raises TypeError where it is anything but texts by their names."""
    return ((name, _text(value)) for name, value in told.items())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
