"""Answers, by TLS and to nobody but who has a certificate for it, what the kernel says of one pod.

Theory of operation. A connection is one question, a line with the UID of a pod, and one line of JSON as the answer;
then it is closed. Nothing else can be asked but evidence of it, for which nobody waits behind other questions. Who has
no certificate of the operator's authority for a client is not heard; the certificates are files, and are read anew when
they change. Some connections are served at a time, each for a few seconds, and one answer of each kind is worked out at
a time, in a thread: so this takes no more than one CPU, whoever asks. It holds where the kubelet's groups are, whether
output is rotated on this node, and nothing of any pod. A crash loses nothing.
"""

import asyncio
import json
import re
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.node_agent import EVIDENCE, LARGEST, QUESTION
from claude_sandbox.node_agent.answers import answer
from claude_sandbox.node_agent.cgroups import UID, Kubelets
from claude_sandbox.node_agent.evidence import evidence
from claude_sandbox.node_agent.logs import Logs

_ASKED = re.compile(f"(?:{EVIDENCE} ([0-9]{{1,9}}) )?({UID.pattern})")
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
        self._one, self._urgent = asyncio.Lock(), asyncio.Lock()

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
                asked = _ASKED.fullmatch((await reader.readuntil(b"\n")).decode("ascii").removesuffix("\n"))
                if asked is None:
                    return
                most, uid = asked.groups()
                writer.write(await (self._answer(uid) if most is None else self._evidence(uid, int(most))))
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

    async def _evidence(self, uid: str, most: int) -> bytes:
        async with self._urgent:
            found = await asyncio.to_thread(evidence, uid, self._kubelets, self._proc, min(most, LARGEST))
        return json.dumps(found).encode() + b"\n"

    async def _answer(self, uid: str) -> bytes:
        async with self._one:
            found = await asyncio.to_thread(answer, uid, self._kubelets, self._proc, self._logs)
        line = json.dumps(found).encode() + b"\n"
        if len(line) > LARGEST:
            few = [{**one, "processes": [], "whole": False} for one in found["containers"]]
            line = json.dumps({**found, "whole": False, "containers": few}).encode() + b"\n"
        return line
