"""What is counted of what goes to an engine."""

import asyncio
from pathlib import Path

import pytest
from tests.bench.on_docker.counting import counting, kinds


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"GET /v1.48/containers/abc/json HTTP/1.1", "GET /containers/…/json"),
        (b"GET /v1.48/containers/json?all=1 HTTP/1.1", "GET /containers/json"),
        (b"POST /v1.41/containers/create?name=x HTTP/1.1", "POST /containers/create"),
        (b"DELETE /v1.41/networks/abc HTTP/1.1", "DELETE /networks/…"),
        (b"GET /_ping HTTP/1.1", "GET /_ping"),
    ],
)
def test_requests_are_told_apart_by_kind_and_not_by_object(line: bytes, kind: str) -> None:
    assert list(kinds(line + b"\r\nHost: docker\r\n\r\n")) == [kind]


async def test_it_passes_on_what_is_said_and_counts_requests_only(tmp_path: Path) -> None:
    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"said: " + await reader.read())
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(engine, tmp_path / "engine")
    async with counting(tmp_path / "engine", tmp_path / "counted") as counted:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "counted")
        sent = b"POST /v1.48/containers/abc/start HTTP/1.1\r\n\r\nGET is not a request"
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b"said: " + sent
        writer.close()
        assert counted.requests.total() == 1
    server.close()
