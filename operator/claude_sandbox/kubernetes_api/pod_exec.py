"""A command in a container of a pod, as the API server hands it on: standard streams, a terminal's size, an exit code.

Theory of operation. A session is one WebSocket. Each message begins with a byte that says of which stream it is; the
last one of the error's stream is a Status with how the command ended (kubernetes/apimachinery, `remotecommand`). The
session belongs to one task that reads, and any that write, and ends with the connection: a crash leaves a command whose
input has ended. Which version of the protocol is spoken the server chooses: since the fifth (Kubernetes 1.30, and 1.29
where it was switched on) an input can be ended while the output goes on.

What comes was written by a hostile program, a part of the Status too. So a message has 4 MiB at most (aiohttp's
own bound), and an outcome that is none is an error.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from enum import IntEnum
from typing import Any
from urllib.parse import urlencode

import aiohttp

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import CONNECTION_FAILED, INVALID_RESPONSE, ApiError
from claude_sandbox.kubernetes_api.resources import PODS
from claude_sandbox.kubernetes_api.transport import no_answer

CLOSES_INPUT = "v5.channel.k8s.io"
PROTOCOLS = (CLOSES_INPUT, "v4.channel.k8s.io")
LARGEST_WRITE = 32 * 1024
"""Bytes of a message that is sent; kubectl's are as long."""


class Channel(IntEnum):
    """Of which stream a message is: its first byte."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    RESIZE = 4
    CLOSE = 255


class ExecError(ApiError):
    """The command was not run, or nobody knows how it ended."""


class PodExec:
    """One command that runs. `close()` it, or `async with`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._outcome: int | None = None

    @property
    def exit_code(self) -> int | None:
        """How the command ended; None while it has not."""
        return self._outcome

    @property
    def can_end_input(self) -> bool:
        """Whether the server knows how to."""
        return self._socket.protocol == CLOSES_INPUT

    async def __aenter__(self) -> "PodExec":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection, and with it the command's input."""
        await self._socket.close()

    async def write(self, data: bytes) -> None:
        """To its standard input; returns when it may be given more. Raises ApiError where the connection has ended."""
        for start in range(0, len(data), LARGEST_WRITE):
            await self._send(Channel.STDIN, data[start : start + LARGEST_WRITE])

    async def end_input(self) -> None:
        """Nothing more comes on standard input. Nothing happens where `can_end_input` is false. Raises ApiError."""
        if self.can_end_input:
            await self._send(Channel.CLOSE, bytes([Channel.STDIN]))

    async def resize(self, columns: int, rows: int) -> None:
        """The size of its terminal. Raises ApiError."""
        await self._send(Channel.RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    async def output(self) -> AsyncGenerator[tuple[Channel, bytes], None]:
        """What it writes, to STDOUT or STDERR, until it has ended; `exit_code` is known then. Raises ApiError."""
        while True:
            try:
                message = await self._socket.receive()
            except (aiohttp.ClientError, OSError) as error:
                raise no_answer(error) from None
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
                break
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise ExecError(0, CONNECTION_FAILED, f"the connection ended: {message.extra or message.type.name}")
            if not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            # The first counts; the server sends one, and nothing after it may turn a failure into a success.
            if channel == Channel.ERROR and self._outcome is None:
                self._outcome = exit_code_of(data)
            elif channel in (Channel.STDOUT, Channel.STDERR) and data:
                yield Channel(channel), data
        # A connection that was cut looks like an end too: without a Status nobody knows how the command ended.
        if self._outcome is None:
            raise ExecError(0, CONNECTION_FAILED, "the connection ended before the command did")

    async def _send(self, channel: Channel, data: bytes) -> None:
        try:
            await self._socket.send_bytes(bytes([channel]) + data)
        except (aiohttp.ClientError, OSError) as error:
            raise no_answer(error) from None


async def run(
    api: Api,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    *,
    stdin: bool = False,
    tty: bool = False,
) -> PodExec:
    """Run a command. With `tty` what it writes to its two outputs is one. Raises ApiError."""
    parameters = [("container", container), *(("command", part) for part in command), ("stdout", "true")]
    # A terminal has one output.
    parameters += [("stdin", "true")] if stdin else []
    parameters += [("tty", "true")] if tty else [("stderr", "true")]
    socket = await api.websocket(f"{PODS.item(pod, namespace, 'exec')}?{urlencode(parameters)}", PROTOCOLS)
    # A server that knows none of them may agree to the connection without naming one.
    if socket.protocol not in PROTOCOLS:
        await socket.close()
        raise ExecError(0, INVALID_RESPONSE, "the API server speaks no protocol of commands that is known here")
    return PodExec(socket)


def exit_code_of(data: bytes) -> int:
    """What a Status says of how a command ended. Raises ExecError where it did not run, or it is none."""
    try:
        status: Any = json.loads(data)
        succeeded, reason = status["status"] == "Success", status.get("reason")
        causes = (status.get("details") or {}).get("causes") or ()
        codes = [int(one["message"]) for one in causes if one.get("reason") == "ExitCode"]
        message = str(status.get("message") or "no reason was given")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise ExecError(0, INVALID_RESPONSE, "how the command ended was told in a form that is not known") from None
    if succeeded:
        return 0
    if reason == "NonZeroExitCode" and len(codes) == 1 and 0 < codes[0] < 256:
        return codes[0]
    raise ExecError(0, str(reason or "Failure"), message[:1000])
