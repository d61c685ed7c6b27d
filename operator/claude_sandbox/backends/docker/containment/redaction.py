"""An engine's answers as evidence, without the credentials that programs were started with. Pure.

Of a pod its node's agent tells the same (`kubernetes/node_agents/told_evidence.py`), and what is left out is decided by
the same functions. Of what was cut off, which is no JSON any more, that is kept which is whole.
"""

import json
from collections.abc import Iterator
from typing import Any

from claude_sandbox.api.credentials.evidence import MOST_SEEN, UNSEEN, shown_document, shown_line

_LONGEST = 4096
"""Of one of them that are kept; the node's agent reads no more either."""
_JUDGED = 2 * _LONGEST
"""With more than is kept, or of a credential at the end a part would be."""
_CUT = " [cut]"
# As an event has what somebody ran in a container: "exec_create: sh -c …".
_RUN = ("exec_create: ", "exec_start: ")


def shown_file(path: str, content: bytes) -> tuple[bytes, str]:
    """A file of evidence as it may be kept, and what of it is missing now; empty where nothing is."""
    name = path.rpartition("/")[2]
    if name == "processes.json":
        return _processes(content)
    if name == "events.jsonl":
        return _events(content)
    if name == "inspect.json":
        try:
            return json.dumps(shown_document(json.loads(content))).encode(), ""
        except (ValueError, RecursionError):
            return b"", "it is no JSON, so that no credential in it could be left out"
    return content, ""


def _processes(content: bytes) -> tuple[bytes, str]:
    """The last column is the command line, in which the words are no longer apart."""
    text, left, why = content.decode(errors="replace"), MOST_SEEN, ""
    rows = []
    for row in _rows(text):
        line = str(row[-1]) if row else ""
        left -= min(len(line), _JUDGED)
        if left < 0:
            why = f"processes' arguments beyond {MOST_SEEN >> 10} KiB"
        rows.append([*row[:-1], UNSEEN if left < 0 else _clipped(line)])
    return json.dumps({"Titles": _titles(text), "Processes": rows}).encode(), why


def _clipped(line: str) -> str:
    judged = line[:_JUDGED]
    shown = shown_line(judged)
    return shown if shown != judged or len(line) <= _LONGEST else f"{line[:_LONGEST]}{_CUT}"


def _titles(text: str) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text, text.index('"Titles":') + len('"Titles":'))[0]
    except (ValueError, RecursionError):
        return None


def _rows(text: str) -> Iterator[list[Any]]:
    """Each row that is whole, though the answer may be cut off in the next."""
    decoder, beginning = json.JSONDecoder(), '"Processes":['
    at = text.find(beginning)
    at = len(text) if at < 0 else at + len(beginning)
    while text[at : at + 1] in ("[", ","):
        try:
            row, at = decoder.raw_decode(text, at + (text[at] == ","))
        except (ValueError, RecursionError):
            return
        yield row if isinstance(row, list) else [row]


def _events(content: bytes) -> tuple[bytes, str]:
    found, why = [], ""
    for line in content.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            why = "events that are no JSON"
            continue
        if isinstance(event, dict):
            event |= {name: _ran(event[name]) for name in ("Action", "status") if isinstance(event.get(name), str)}
        found.append(json.dumps(shown_document(event)))
    return "".join(f"{line}\n" for line in found).encode(), why


def _ran(action: str) -> str:
    for beginning in _RUN:
        if action.startswith(beginning):
            return f"{beginning}{_clipped(action.removeprefix(beginning))}"
    return action
