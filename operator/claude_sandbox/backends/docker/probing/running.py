"""One probe: its container is made, asked once, and removed."""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass

from claude_sandbox import probe
from claude_sandbox.backends.docker.engine.attach import Session
from claude_sandbox.backends.docker.engine.documents import Manifest, Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.names import PROBE, Names, is_owned
from claude_sandbox.backends.docker.probing.container import document, unlike
from claude_sandbox.backends.docker.probing.report import question, report_of
from claude_sandbox.backends.docker.probing.targets import Network
from claude_sandbox.backends.probing.here import tried_here
from claude_sandbox.backends.probing.wanted import Wanted
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.compliance.evidence.probes import ProbeReport

SECONDS = 5.0
"""For one attempt. That nobody has an address of one's own network the kernel says after about 3 s: three requests of
ARP, one each second (ip-sysctl: `mcast_solicit`, `retrans_time_ms`)."""
_ENDED = (
    "the probe's container ended without an answer; if that lasts, see that --relay-image names the operator's image of"
    " the operator's own version"
)


@dataclass(frozen=True)
class Questions:
    """What is to be tried, from the network of the container `sandbox`, as the engine tells it. `strict`: whether it is
    meant to be held to that filter."""

    identity: Identity
    cluster: str
    called: Names
    sandbox: Object
    wanted: tuple[Wanted, ...]
    own: tuple[Network, ...]
    strict: bool = False


async def ask(engine: Engine, image: Image, asked: Questions) -> ProbeReport:
    """Try once. Raises EngineError and MisunderstoodError; nothing of it is left behind, whatever happens."""
    # Said again in the answer: one that was prepared before, or is another probe's, does not have it.
    nonce = secrets.token_hex(16)
    answer, answers = await asyncio.gather(_answer(engine, image, asked, nonce), tried_here(asked.wanted, SECONDS))
    return report_of(answer, nonce, asked.wanted, asked.own, answers, unlike(asked.sandbox), strict=asked.strict)


async def _answer(engine: Engine, image: Image, asked: Questions, nonce: str) -> bytes:
    await _clear(engine, asked)
    body = document(asked.identity, asked.cluster, image, asked.sandbox, await engine.capabilities())
    identifier = await _made(engine, asked.called.probe, body)
    session: Session | None = None
    try:
        session = await engine.attach(identifier)
        await engine.start(identifier)
        await session.send(question(nonce, asked.wanted, SECONDS, strict=asked.strict))
        return await session.answer(probe.LARGEST, _ENDED)
    finally:
        await engine.remove_container(identifier)
        if session is not None:
            await session.close()


async def _made(engine: Engine, name: str, body: Manifest) -> str:
    """The identifier of the new container. Given up meanwhile, it is removed: an engine makes it all the same."""
    making = asyncio.ensure_future(engine.create_container(name, body))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        with contextlib.suppress(EngineError):
            await engine.remove_container(await making)
        raise


async def _clear(engine: Engine, asked: Questions) -> None:
    """Remove what an operator left that ended in the middle of a probe."""
    left = await engine.container(asked.called.probe)
    if left is None:
        return
    if not is_owned(left, asked.cluster, asked.identity, PROBE):
        raise EngineError(409, f"a container of others has the name {asked.called.probe}: remove or rename it")
    await engine.remove_container(str(left["Id"]))
