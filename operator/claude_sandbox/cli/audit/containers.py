"""Lines of the audit of a sandbox on Docker: what the container beside it has written, by its engine."""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime

import requests

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.engine.connection.connect import connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.names import GATEWAY, LABEL_COMPONENT
from claude_sandbox.cli.audit.lines import MAX_LINE, Line, parse
from claude_sandbox.cli.audit.sandboxes import Audited
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.unreadable import UnreadableError

_LOOK = 1.0
"""Seconds between two looks for a gateway that is made anew."""
_SILENCE, _FOR_EVER = 60.0, 7 * 86400.0
"""Seconds without a byte after which a log is given up: one that has an end, and one that is followed."""
_HEADER = 8
"""Bytes before each part of a log: the stream, and how many bytes of it follow (Docker Engine API, attach)."""


def lines(where: EngineAddress, sandbox: Audited, since: datetime | None, *, follow: bool) -> Iterator[Line]:
    """What its gateway has written. Blocks; with `follow` for ever, over gateways that are made anew.

    Raises UnreadableError.
    """
    try:
        with connect(where.address, where.credentials) as connection:
            engine = Engine(lambda: connection.api)
            try:
                for line in _lines(engine, where, sandbox, since, follow=follow):
                    if line.text("sandbox") == sandbox.uid:
                        yield line
            finally:
                engine.close()
    except ConnectError as error:
        raise UnreadableError(
            f"{where.endpoint}: {error}.",
            f"Run this where the Docker host's engine can be reached, as a user who may use it (docker ps), or name the"
            f" engine with --host: ClaudeSandbox {sandbox} is on DockerHost {sandbox.host}.",
        ) from None
    except (EngineError, requests.RequestException, OSError) as error:
        raise UnreadableError(
            f"{where.endpoint} does not tell what the gateway wrote: {error}.", "Try again; see the engine's own log."
        ) from None


def _lines(
    engine: Engine, where: EngineAddress, sandbox: Audited, since: datetime | None, *, follow: bool
) -> Iterator[Line]:
    read, last = "", since
    while True:
        found = asyncio.run(_gateway(engine, sandbox))
        if not found and not read:
            raise UnreadableError(
                f"There is no gateway of ClaudeSandbox {sandbox} on {where.endpoint}.",
                "Where that is not the engine of its Docker host, name that with --host. Else the sandbox's condition"
                " Ready says why.",
            )
        # One that was read to its end may have been started again.
        again = found == read
        for line in _written(engine, found, last, follow=follow) if found else ():
            if not again or last is None or line.time > last:
                last = line.time if last is None else max(last, line.time)
                yield line
        if not follow:
            return
        read = found or read
        time.sleep(_LOOK)


async def _gateway(engine: Engine, sandbox: Audited) -> str:
    """The identifier of the sandbox's gateway; empty where there is none."""
    found = await engine.containers([f"{meta.LABEL_SANDBOX_UID}={sandbox.uid}", f"{LABEL_COMPONENT}={GATEWAY}"])
    return str(found[0]["Id"]) if found else ""


def _written(engine: Engine, identifier: str, since: datetime | None, *, follow: bool) -> Iterator[Line]:
    start = since.timestamp() if since is not None else None
    try:
        response = engine.stream_log(identifier, start, _FOR_EVER if follow else _SILENCE, follow=follow)
    except EngineError as error:
        if follow and error.is_not_found:
            return
        raise
    with response:
        rest = b""
        for part in _parts(response):
            *whole, rest = (rest + part).split(b"\n")
            for one in whole:
                line = parse(one)
                if line is not None:
                    yield line
            # A line that is too long is none.
            rest = rest[: MAX_LINE + 1]


def _parts(response: requests.Response) -> Iterator[bytes]:
    while len(header := response.raw.read(_HEADER)) == _HEADER:
        left = int.from_bytes(header[4:], "big")
        while left:
            part = response.raw.read(min(left, MAX_LINE))
            if not part:
                return
            left -= len(part)
            yield part
