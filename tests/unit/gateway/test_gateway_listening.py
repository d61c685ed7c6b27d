"""What is listened on: one address, or all of a machine's, of whichever families it has."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from claude_sandbox.gateway import listening, server
from claude_sandbox.gateway.config.config import parse
from claude_sandbox.gateway.config.fields import ConfigError


def test_one_address_is_that_one() -> None:
    assert listening.listening_on("127.0.0.1") == ["127.0.0.1"]
    assert listening.listening_on("::1") == ["::1"]


@pytest.mark.parametrize("families", [{socket.AF_INET}, {socket.AF_INET6}, {socket.AF_INET, socket.AF_INET6}])
def test_everywhere_is_one_of_each_family_that_there_is(
    families: set[socket.AddressFamily], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_has", lambda family, _: family in families)
    found = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - what is looked for
    assert listening.listening_on("*") == [address for family, address in found.items() if family in families]


def test_no_other_pattern_is_taken_for_an_address() -> None:
    document = {"version": 1, "listen": {"broker": {"host": "*.*"}}}
    with pytest.raises(ConfigError, match=r"listen\.broker\.host"):
        parse(json.dumps(document))


async def test_clients_of_both_families_are_answered_and_seen_under_their_own_address(tmp_path: Path) -> None:
    document = {
        "version": 1, "listen": {name: {"host": "*", "port": _free()} for name in ("broker", "proxy", "health")},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(document))
    gateway, told = server.Gateway(server.follower(tmp_path / "config.json")), asyncio.Event()
    running = asyncio.create_task(gateway.run(told))
    try:
        for host in ("127.0.0.1", *(("::1",) if socket.has_dualstack_ipv6() else ())):
            for name in ("broker", "proxy", "health"):
                await _connects(host, document["listen"][name]["port"])  # type: ignore[index]
    finally:
        told.set()
        await running


async def _connects(host: str, port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
