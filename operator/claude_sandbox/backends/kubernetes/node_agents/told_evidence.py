"""What an agent tells for an investigation, as files of evidence. Pure. Read as if the agent were not our own.

No name of a file is the agent's, and what processes were started with has no credential that looks like one.
"""

import json
from collections.abc import Iterator
from typing import Any

from claude_sandbox.api.credentials.measured import command_line_holds_credential
from claude_sandbox.api.status_fields.incident import MOST_MISSING
from claude_sandbox.backends.containment import Evidence
from claude_sandbox.backends.kubernetes.node_agents.answers import MisunderstoodError
from claude_sandbox.node_agent import VERSION
from claude_sandbox.procfs.sockets import TABLES

PROCESSES = "node/processes.jsonl"
"""The file with a process on each line."""
_REDACTED = "[redacted]"


def evidence_in(answer: bytes, uid: str) -> Evidence:
    """The files of an answer about the pod with this UID. Raises MisunderstoodError."""
    try:
        found = json.loads(answer)
        if found["version"] != VERSION or found["pod"] != uid:
            raise ValueError("another answer")
        return Evidence(dict(_files(found)), [str(one) for one in found["missing"]][:MOST_MISSING])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MisunderstoodError(type(error).__name__) from None


def _files(found: Any) -> Iterator[tuple[str, bytes]]:
    lines = (json.dumps(one | {"command": _shown(one.get("command", ()))}) for one in found["processes"])
    yield PROCESSES, "".join(f"{line}\n" for line in lines).encode()
    for number, network in enumerate(found["networks"]):
        for name in TABLES:
            if name in network:
                yield f"node/net-{number}/{name}", network[name].encode()
    for name in ("groups", "mounts"):
        yield f"node/{name}.json", json.dumps(found[name], indent=1, sort_keys=True).encode()


def _shown(command: Any) -> list[str]:
    """The arguments; the program alone where there is a credential among them."""
    words = [str(one) for one in command]
    return [*words[:1], _REDACTED] if command_line_holds_credential(words) else words
