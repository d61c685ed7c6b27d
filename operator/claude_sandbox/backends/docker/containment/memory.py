"""The memory of a frozen agent, as its engine's checkpoint, kept for who has the private key of a recipient.

Theory of operation. An engine with CRIU writes a container's memory to its own disk, readable by its root. So it is
told to write it into a volume that is made for that. A helper of the operator's own image then has this volume
read-only, the volume with the evidence, and no network; it encrypts the one into the other. Helper and volume are
removed before anything is said of it, whatever came of it: unlinked, not overwritten. The agent stays frozen all the
while, and on no network; CRIU takes a frozen container as it is.

Nothing is held but how many are at work (`TURNS`). A crash at any point leaves a helper, a volume, or both: `clear`
takes them away, and is called before anything else is done for the sandbox's evidence, before what was frozen is
removed, and with the sandbox. While they can't be taken away no evidence counts as kept, so that it is tried again.

Only the agent: the gateway's memory has the key, and nothing of the agent's. And of the agent what descends from its
container's first process: a session that somebody opened in it does not, as no engine's checkpoint has it, and is told.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from claude_sandbox.api.status_fields.incident import Checkpoint
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.containment.freezing import containers
from claude_sandbox.backends.docker.containment.keeping import DIRECTORY, keeper_of
from claude_sandbox.backends.docker.documents.hardening import limited_memory, told_by_input
from claude_sandbox.backends.docker.engine.documents import Manifest, labels
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.names import is_owned, labels_of, names_of
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.checkpoint import SOURCE

LONGEST = 120.0
"""Seconds that a checkpoint may take, and as many that its encryption may."""
_NAME = "memory"
"""What the engine calls the checkpoint."""
_PROGRAM = ("python3", "-I", "-m", "claude_sandbox.checkpoint")
_MEMORY = 256 << 20
_PIDS = 64
_PREFIX = "agent/memory"


@dataclass(frozen=True)
class Memory:
    """What came of keeping it: `missing` says what of it is not kept, each a clause with the reason."""

    checkpoint: Checkpoint | None
    missing: tuple[str, ...]


@dataclass
class Turns:
    """So many more may be at work. Each has one of the operator's workers for as long as it takes."""

    left: int

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take one of them."""
        self.left -= 1
        try:
            yield
        finally:
            self.left += 1


TURNS = Turns(4)


async def clear(engine: Engine, cluster: str, identity: Identity) -> None:
    """Take away what was not encrypted yet, and what was doing that. Raises EngineError."""
    called = names_of(cluster, identity).checkpoint
    helper = await engine.container(called)
    if helper is not None and is_owned(helper, cluster, identity, names.CHECKPOINT):
        await engine.remove_container(str(helper["Id"]))
    volume = await engine.volume(called)
    if volume is not None and is_owned(volume, cluster, identity, names.CHECKPOINT):
        await engine.remove_volume(called)


async def keep_memory(
    engine: Engine, cluster: str, identity: Identity, image: Image, since: datetime, recipient: str
) -> Memory:
    """Keep it beside the archive of evidence, which is there already.

    Raises EngineError where what is not encrypted could not be taken away.
    """
    try:
        found = await _kept(engine, cluster, identity, image, since, recipient)
    except EngineError as error:
        # The engine's own words, but for whose checkpoint it is, which is an identifier as long as they are.
        words = error.message.split(": ", 1)[-1] if error.message.startswith("Cannot checkpoint") else error.message
        found = _not_kept(words)
    await clear(engine, cluster, identity)
    return found


async def _kept(
    engine: Engine, cluster: str, identity: Identity, image: Image, since: datetime, recipient: str
) -> Memory:
    listed = await containers(engine, cluster, identity)
    agent = next((one for one in listed if labels(one).get(names.LABEL_COMPONENT) == names.AGENT), None)
    if agent is None or agent.get("State") != "paused":
        return _not_kept("the agent is not frozen")
    called = names_of(cluster, identity).checkpoint
    wanted = labels_of(cluster, identity, names.CHECKPOINT)
    volume = await engine.create_volume({"Name": called, "Driver": "local", "DriverOpts": {}, "Labels": wanted})
    # An engine answers with the volume that is there already, whoever made it.
    if not is_owned(volume, cluster, identity, names.CHECKPOINT):
        return _not_kept(f"a volume of others has the name {called}")
    if not (place := str(volume.get("Mountpoint") or "")):
        return _not_kept("the engine does not say where its volume is")
    identifier = str(agent["Id"])
    sessions = await _sessions(engine, identifier)
    await engine.checkpoint(identifier, _NAME, place, LONGEST)
    keeper, file = keeper_of(cluster, identity), f"{DIRECTORY}/{since:%Y%m%dT%H%M%SZ}.memory.tar.age"
    capabilities = await engine.capabilities()
    limits = limited_memory(_MEMORY, limits_swap=capabilities.limits_swap)
    body = document(image, wanted, called, keeper, (recipient, file), limits)
    helper = await engine.create_container(called, body)
    await engine.start(helper)
    code = await engine.ended(helper, LONGEST)
    said = await engine.last_words(helper, 1)
    return _told(said, code, f"{keeper}:{file}", recipient, sessions)


async def _sessions(engine: Engine, identifier: str) -> int:
    """How many of a container's processes no checkpoint of it has: those that don't descend from its first."""
    container = await engine.container(identifier)
    first = ((container or {}).get("State") or {}).get("Pid")
    parents = await engine.parents_in(identifier)
    return sum(not _descends(one, first, parents) for one in parents)


def _descends(process: int, first: object, parents: Mapping[int, int]) -> bool:
    seen: set[int] = set()
    while process in parents and process != first and process not in seen:
        seen.add(process)
        process = parents[process]
    return process == first


def document(
    image: Image, told: dict[str, str], source: str, keeper: str, arguments: tuple[str, ...], limits: Manifest
) -> Manifest:
    """The helper's container."""
    host: Manifest = {
        "NetworkMode": "none",
        # The engine's root wrote the checkpoint, and none but that may read it, also where containers have another.
        "UsernsMode": "host",
        # Of such an engine the evidence is another user's.
        "CapAdd": ["DAC_OVERRIDE"],
        **limits,
        "PidsLimit": _PIDS,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "64k", "max-file": "1"}},
        "Mounts": [
            {"Type": "volume", "Source": source, "Target": SOURCE, "ReadOnly": True},
            {"Type": "volume", "Source": keeper, "Target": DIRECTORY, "ReadOnly": False},
        ],
    }
    return told_by_input(image.reference, _PROGRAM, arguments, "0:0", host) | {"Labels": told}


def _told(said: bytes, code: int, place: str, recipient: str, sessions: int) -> Memory:
    """By the helper's last words, as its engine tells them: the host may be somebody else's by now."""
    try:
        told = json.loads(said)
    except (ValueError, RecursionError):
        told = None
    match told:
        case {"problem": str(problem)}:
            return _not_kept(problem)
        # As large as an integer of the API may be.
        case {"sha256": str(digest), "size": int(size)} if 0 <= size < 1 << 63:
            found = Checkpoint(place=place, sha256=digest, size=size, recipient=recipient)
        case _:
            return _not_kept(f"what was to encrypt it ended with code {code}")
    without = _not_kept(f"{sessions} processes of sessions, which no checkpoint of a container has").missing
    return Memory(found, without if sessions else ())


def _not_kept(why: str) -> Memory:
    return Memory(None, (f"{_PREFIX}: {' '.join(why.split())}",))
