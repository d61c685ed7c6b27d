"""Answers, by TLS and to nobody but who has a certificate for it, what the kernel says of one pod.

Theory of operation. A connection is one question, a line with the UID of a pod, and one line of JSON as the answer;
then it is closed. Nothing else can be asked. Who has no certificate of the operator's authority for a client is not
heard; the certificates are files, and are read anew when they change. Some connections are served at a time, each for
a few seconds, and one answer is worked out at a time, in a thread: so this takes no more than one CPU, whoever asks.
It holds where the kubelet's groups are, whether output is rotated on this node, and nothing of any pod. A crash loses
nothing.
"""

import asyncio
import json
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.node_agent import LARGEST, QUESTION
from claude_sandbox.node_agent.answers import answer
from claude_sandbox.node_agent.cgroups import UID, Kubelets
from claude_sandbox.node_agent.logs import Logs

_AT_A_TIME = 16
"""Connections."""
_PATIENCE = 10.0
"""Seconds for a question and its answer."""
_HANDSHAKE = 5.0
"""Seconds for that of TLS."""
_LOOK = 10.0
"""Seconds between two looks at whether the certificates are others."""


@dataclass(frozen=True)
class Files:
    """The certificate by which this is known, its key, and the authority of those who may ask."""

    directory: Path

    def context(self) -> ssl.SSLContext:
        """Raises OSError, of which ssl.SSLError is one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.directory / "tls.crt", self.directory / "tls.key")
        context.load_verify_locations(self.directory / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def mark(self) -> tuple[bytes, ...]:
        """Tells one set of them from another. Raises OSError."""
        return tuple((self.directory / name).read_bytes() for name in ("tls.crt", "ca.crt"))


class Server:
    """`port` 0: any; `at` tells where it listens."""

    def __init__(
        self, files: Files, address: str, port: int, proc: Path, cgroups: Path, logs: Path | None = None
    ) -> None:
        self._files = files
        self._address = address
        self.port = port
        self._proc = proc
        self._kubelets = Kubelets(cgroups)
        self._logs = None if logs is None else Logs(logs)
        self._open = 0
        self._one = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled. Raises OSError where it can't listen, or has no certificate at its start."""
        mark, server = self._files.mark(), await self._listen()
        try:
            while True:
                await asyncio.sleep(_LOOK)
                with suppress(OSError):
                    # By what is in the files: the kubelet replaces them by a link, and their times say nothing.
                    found = self._files.mark()
                    if found != mark:
                        # What is under way goes on; whoever comes meanwhile is turned away, and comes again.
                        server.close()
                        server, mark = await self._listen(), found
        finally:
            server.close()

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(
            self._serve,
            self._address,
            self.port,
            ssl=self._files.context(),
            ssl_handshake_timeout=_HANDSHAKE,
            ssl_shutdown_timeout=1.0,
            limit=QUESTION,
        )
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= _AT_A_TIME:
            writer.transport.abort()
            return
        self._open += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                asked = (await reader.readuntil(b"\n")).decode("ascii").removesuffix("\n")
                if not UID.fullmatch(asked):
                    return
                writer.write(await self._answer(asked))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError):
            # Who can't be helped is hung up on.
            return
        except Exception as error:
            print(f"node agent: {type(error).__name__} at an answer", file=sys.stderr, flush=True)
            raise
        finally:
            self._open -= 1
            writer.transport.abort()

    async def _answer(self, uid: str) -> bytes:
        async with self._one:
            found = await asyncio.to_thread(answer, uid, self._kubelets, self._proc, self._logs)
        line = json.dumps(found).encode() + b"\n"
        if len(line) > LARGEST:
            few = [{**one, "processes": [], "whole": False} for one in found["containers"]]
            line = json.dumps({**found, "whole": False, "containers": few}).encode() + b"\n"
        return line
