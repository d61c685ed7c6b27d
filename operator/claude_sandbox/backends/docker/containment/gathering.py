"""Evidence of a frozen sandbox: all that its engine and this machine's kernel tell of it. Reads only.

What is read was written by a hostile program in part, so each file has a bound, and what is cut is said. The sandbox's
key is in none of it: it is in no document, argument, variable or log, and the content of volumes is not read. What else
looks like a credential among arguments and variables is left out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from claude_sandbox.api import meta
from claude_sandbox.backends.containment import Evidence
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.containment.freezing import containers
from claude_sandbox.backends.docker.containment.redaction import shown_file
from claude_sandbox.backends.docker.engine.documents import Object, labels
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.frames import unframed
from claude_sandbox.backends.docker.engine.threads import ask_kernel
from claude_sandbox.backends.docker.evidence.proc import own_group
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.procfs.files import PROC
from claude_sandbox.procfs.sockets import tables

LARGEST = 24 << 20
"""Bytes of all files; of each half of what those before it have left."""
_LINES = "50000"
"""Of a log, the last."""
_CONNECTED = (names.AGENT, names.GATEWAY, names.RELAY)
"""Whose connections are of interest: the agent's own lead to the others, and theirs lead outside."""
Reading = Callable[[int], Awaitable[bytes]]
"""Reads a file of evidence, and no more than so many bytes of it."""
_COLUMNS = "-eo pid,ppid,user,stat,etimes,time,rss,args"
"""Each of one word but the last: an engine takes the words of a line for the columns, one by one."""


async def gather(engine: Engine, cluster: str, identity: Identity, most: int = LARGEST) -> Evidence:
    """All that can be had, `most` bytes of it. Raises EngineError where the engine can't be asked at all."""
    listed = await containers(engine, cluster, identity)
    found, events = Evidence(), f"{meta.LABEL_SANDBOX_UID}={identity.uid}"
    await _kept(found, "events.jsonl", most, lambda room: engine.events_of(events, room))
    # The agent's last: it makes its own as long as it likes, and must not crowd out what was seen from outside.
    for one in sorted(listed, key=lambda one: labels(one).get(names.LABEL_COMPONENT) == names.AGENT):
        part, identifier = str(labels(one).get(names.LABEL_COMPONENT)), str(one["Id"])
        for path, read in _readings(engine, part, identifier).items():
            await _kept(found, path, most, read)
        if part in _CONNECTED:
            await _connections(engine, part, identifier, found, most)
    return found


def _readings(engine: Engine, part: str, identifier: str) -> dict[str, Reading]:
    """What is asked of one container, by the file that it goes to."""
    place = f"/containers/{identifier}"
    logs = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": _LINES}
    asked: dict[str, tuple[str, dict[str, str]]] = {
        "inspect.json": (f"{place}/json", {}),
        "processes.json": (f"{place}/top", {"ps_args": _COLUMNS}),
        "changed-files.json": (f"{place}/changes", {}),
        "usage.json": (f"{place}/stats", {"stream": "false", "one-shot": "true"}),
        "log": (f"{place}/logs", logs),
    }

    def reading(path: str, params: dict[str, str]) -> Reading:
        return lambda room: engine.content(path, params, room)

    return {f"{part}/{file}": reading(*call) for file, call in asked.items()}


def _room(found: Evidence, most: int) -> int:
    """Bytes that the next file may have."""
    return max(0, most - sum(map(len, found.files.values()))) // 2


async def _kept(found: Evidence, path: str, most: int, read: Reading) -> None:
    room = _room(found, most)
    try:
        content = await read(room)
    except EngineError as error:
        found.missing.append(f"{path}: {error}")
        return
    if len(content) >= room:
        found.missing.append(f"{path}: all beyond the first {room} bytes")
    # In a thread: an agent says how long its arguments are.
    shown, lacks = await asyncio.to_thread(shown_file, path, content)
    if lacks:
        found.missing.append(f"{path}: {lacks}")
    found.files[path] = unframed(shown) if path.endswith("/log") else shown


async def _connections(engine: Engine, part: str, identifier: str, found: Evidence, most: int) -> None:
    """What the kernel says is open in a container's network, where the engine is on this machine."""
    path = f"{part}/net"
    container = await engine.container(identifier)
    if container is None or not engine.may_be_local:
        found.missing.append(f"{path}: the engine is not on the operator's machine, whose kernel alone tells")
        return
    try:
        opened = await ask_kernel(lambda: open_sockets(container, most=_room(found, most)))
    except (OSError, ValueError) as error:
        found.missing.append(f"{path}: {type(error).__name__}")
        return
    if not opened:
        found.missing.append(f"{path}: this machine's kernel does not know the container's process")
    found.files |= {f"{path}/{name}": content for name, content in opened.items()}


def open_sockets(container: Object, proc: Path = PROC, most: int = LARGEST) -> dict[str, bytes]:
    """The tables of the container's network, of so many bytes together; none where its process is not of this machine.

    Raises OSError, ValueError.
    """
    if own_group(container, proc) is None:
        return {}
    found = tables(proc / str(container["State"]["Pid"]), most)
    # The number may have become another process's meanwhile.
    return found if own_group(container, proc) is not None else {}
