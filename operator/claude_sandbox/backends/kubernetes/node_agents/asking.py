"""One question to one agent: what its node's kernel says of a pod."""

import asyncio
import ssl
from contextlib import suppress

from claude_sandbox.backends.containment import Evidence
from claude_sandbox.backends.kubernetes.node_agents.answers import Answer, MisunderstoodError, read
from claude_sandbox.backends.kubernetes.node_agents.told_evidence import evidence_in
from claude_sandbox.node_agent import EVIDENCE, LARGEST, NAME

PATIENCE = 10.0
"""Seconds for a question and its answer."""


class AskingError(Exception):
    """There is no answer; the message says why. `untrusted`: whoever is there is not believed, or does not believe."""

    def __init__(self, message: str, *, untrusted: bool = False) -> None:
        super().__init__(message)
        self.untrusted = untrusted


async def ask(address: str, port: int, context: ssl.SSLContext, uid: str) -> Answer:
    """Raises AskingError, and MisunderstoodError."""
    try:
        async with asyncio.timeout(PATIENCE):
            return read(await _answer(address, port, context, uid), uid)
    except TimeoutError:
        raise AskingError(f"it did not answer within {PATIENCE:.0f} s") from None


async def ask_evidence(address: str, port: int, context: ssl.SSLContext, uid: str, most: int) -> Evidence:
    """What there is of it in so many bytes. Raises AskingError, and MisunderstoodError."""
    answer = await _answer(address, port, context, f"{EVIDENCE} {most} {uid}")
    # Seconds of looking for credentials, where there are many arguments.
    return await asyncio.to_thread(evidence_in, answer, uid)


async def _answer(address: str, port: int, context: ssl.SSLContext, question: str) -> bytes:
    """Raises AskingError, and MisunderstoodError where there is too much."""
    try:
        return await _line(address, port, context, question)
    except ssl.SSLError as error:
        raise AskingError(f"by TLS: {error.reason}", untrusted=True) from None
    except OSError as error:
        raise AskingError(error.strerror or type(error).__name__) from None


async def _line(address: str, port: int, context: ssl.SSLContext, question: str) -> bytes:
    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=NAME)
    try:
        writer.write(f"{question}\n".encode())
        await writer.drain()
        found = bytearray()
        while part := await reader.read(1 << 16):
            found += part
            # With the end of its line.
            if len(found) > LARGEST + 1:
                raise MisunderstoodError("too long")
        if not found.endswith(b"\n"):
            # By TLS 1.3 a certificate is refused after the client has had its way.
            raise AskingError("it hung up", untrusted=not found)
        return bytes(found)
    finally:
        # Not closed in good order: an agent that does not answer would be waited for.
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
