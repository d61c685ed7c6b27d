"""A command in a pod by WebSocket: streams, ends, sizes, and what is said of how it ended."""

import json

import pytest
from exec_server import ExecServer
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import load
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.pod_exec import Channel, ExecError, exit_code_of, run


async def ran(server: ExecServer, *command: str, stdin: bytes | None = None) -> tuple[int | None, bytes, bytes]:
    async with (
        Api(load(server.kubeconfig)) as api,
        await run(api, "agents", "sandbox-alice", "agent", command, stdin=stdin is not None) as session,
    ):
        if stdin is not None:
            await session.write(stdin)
            await session.end_input()
        outputs = {Channel.STDOUT: b"", Channel.STDERR: b""}
        async for channel, data in session.output():
            outputs[channel] += data
        return session.exit_code, outputs[Channel.STDOUT], outputs[Channel.STDERR]


async def test_both_outputs_and_the_exit_code_come(server: ExecServer) -> None:
    assert await ran(server, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")
    assert (await ran(server, "true"))[0] == 0


async def test_an_input_longer_than_a_message_goes_and_ends(server: ExecServer) -> None:
    data = bytes(range(256)) * 1000
    assert await ran(server, "cat", stdin=data) == (0, data, b"")


async def test_the_older_protocol_can_not_end_an_input(server: ExecServer) -> None:
    server.protocols = ("v4.channel.k8s.io",)
    assert (await ran(server, "echo", "x"))[1] == b"x\n"
    async with (
        Api(load(server.kubeconfig)) as api,
        await run(api, "agents", "sandbox-alice", "agent", ["head", "-c", "3"], stdin=True) as session,
    ):
        assert not session.can_end_input
        await session.end_input()
        await session.write(b"abc")
        assert [data async for _, data in session.output()] == [b"abc"]


async def test_a_server_that_speaks_neither_is_told(server: ExecServer) -> None:
    server.protocols = ("base64.channel.k8s.io",)
    with pytest.raises(ExecError, match="no protocol of commands"):
        await ran(server, "true")


async def test_a_size_is_told(server: ExecServer) -> None:
    async with (
        Api(load(server.kubeconfig)) as api,
        await run(api, "agents", "sandbox-alice", "agent", ["cat"], stdin=True, tty=True) as session,
    ):
        await session.resize(80, 24)
        await session.end_input()
        assert [one async for one in session.output()] == []
    assert server.sizes == [{"Width": 80, "Height": 24}]
    assert "tty=true" in server.asked[-1]
    assert "stderr" not in server.asked[-1]


async def test_a_refusal_is_told_in_the_servers_words(server: ExecServer) -> None:
    server.refused = ("exec",)
    with pytest.raises(ApiError, match='User "me" cannot') as found:
        await ran(server, "true")
    assert found.value.is_forbidden


async def test_a_command_that_is_not_there_is_told(server: ExecServer) -> None:
    with pytest.raises(ExecError, match="executable file not found"):
        await ran(server, "no-such-command")


async def test_a_connection_that_is_lost_is_no_end(server: ExecServer) -> None:
    server.cut_after = 1000
    with pytest.raises(ExecError, match="before the command did"):
        await ran(server, "head", "-c", "100000", "/dev/zero")


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.binary(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_an_outcome_that_is_none_is_an_error(data: object) -> None:
    with pytest.raises(ExecError):
        exit_code_of(data if isinstance(data, bytes) else json.dumps(data).encode())


@pytest.mark.parametrize("code", ["0", "-1", "256", "x", ""])
def test_an_exit_code_that_no_program_has_is_an_error(code: str) -> None:
    cause = f'{{"reason": "ExitCode", "message": "{code}"}}'
    status = f'{{"status": "Failure", "reason": "NonZeroExitCode", "details": {{"causes": [{cause}]}}}}'
    with pytest.raises(ExecError):
        exit_code_of(status.encode())
