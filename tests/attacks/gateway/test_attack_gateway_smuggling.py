"""One request to the broker's address that is taken for two, by whoever reads it next: the model's provider, a git
server, or a proxy between them.

The agent writes the bytes. Behind what is judged it hides a request that nobody judges, which then has the credential
of the connection or of the network. Closed by reading strictly (aiohttp's parser, `http/head.two_readings`), and by
framing anew all that goes on. The proxy's entrance has the same attacks in `test_attack_gateway_egress`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from egress_place import ALLOWED, VICTIM, Place, place
from gatewaykit import PLACEHOLDER, Gateway, authority, basic, document, running

SECOND = f"GET /x HTTP/1.1\r\nHost: {VICTIM}\r\n\r\n"
BODY = '{"model":"claude-sonnet-5-5","max_tokens":5,"messages":[]}'
LONG = len(BODY) + len(SECOND)
CHUNKS = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"
# What stands behind the first lines, by which some reader finds another end.
AMBIGUOUS = {
    "a length twice": f"Content-Length: {len(BODY)}\r\nContent-Length: {LONG}\r\n\r\n{BODY}{SECOND}",
    "a length twice, the same": f"Content-Length: {len(BODY)}\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}{SECOND}",
    "a list as the length": f"Content-Length: {len(BODY)}, {LONG}\r\n\r\n{BODY}{SECOND}",
    "a length with a sign": f"Content-Length: +{len(BODY)}\r\n\r\n{BODY}{SECOND}",
    "a length with a space before the colon": f"Content-Length : {len(SECOND)}\r\n\r\n{SECOND}",
    "both lengths": f"Content-Length: {LONG}\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}{SECOND}",
    "both lengths, one with an underscore": (
        f"Content-Length: {len(CHUNKS + SECOND)}\r\nTransfer_Encoding: chunked\r\n\r\n{CHUNKS}{SECOND}"
    ),
    "an encoding that is nearly chunked": f"Transfer-Encoding: xchunked\r\nX: {LONG}\r\n\r\n{SECOND}",
    "two encodings": f"Transfer-Encoding: identity, chunked\r\n\r\n{SECOND}",
    "another encoding before it": f"Transfer-Encoding: gzip, chunked\r\n\r\n{SECOND}",
    "an encoding with a parameter": f"Transfer-Encoding: chunked;q=1\r\n\r\n{SECOND}",
    "an encoding behind a control character": f"Transfer-Encoding: \x0bchunked\r\n\r\n{SECOND}",
    "an encoding twice": f"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{CHUNKS}{SECOND}",
    "a folded length": f"Content-Length:\r\n {len(SECOND)}\r\n\r\n{SECOND}",
    "a Host in a folded line": f"X: a\r\n Host: {VICTIM}\r\n\r\n",
    "a Host behind a bare line feed": f"X: a\nHost: {VICTIM}\r\n\r\n",
    "a Host behind a bare carriage return": f"X: a\rHost: {VICTIM}\r\n\r\n",
    "a Host with a space before the colon": f"Host : {VICTIM}\r\n\r\n",
    "a second Host": f"Host: {VICTIM}\r\n\r\n",
    "a NUL in a header": f"X: a\0\r\nHost: {VICTIM}\r\n\r\n",
    "a chunk's size as 0x…": f"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{SECOND}",
    "a line feed in a chunk's extension": f"Transfer-Encoding: chunked\r\n\r\n0;\n\r\n{SECOND}",
    "a length in a trailer": f"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n{SECOND}",
}
BROKER = ("/v1/messages", f"x-api-key: {PLACEHOLDER}")
BROKEN = ("HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "HTTP/3.0")


@dataclass(frozen=True)
class Lab:
    """`plain`: a relay that passes on what it gets, to the same server as the gateway's broker."""

    place: Place
    gateway: Gateway
    plain: str

    @property
    def git(self) -> tuple[str, str]:
        """The path of a repository, and the header that says who asks."""
        return f"/git/{ALLOWED}:{self.place.ports['tls']}/team/x/git-upload-pack", f"Authorization: {basic()}"

    async def sent(self, at: str, data: str) -> bytes:
        """What came back within a moment; what came of it is in `place.reached`."""
        self.place.reached.clear()
        host, _, port = at.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data.encode("latin-1"))
        answer = b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(20):
                # The server that is reached answers each request; a strict one closes.
                while b"\r\n\r\n" not in answer and (part := await reader.read(65536)):
                    answer += part
                await asyncio.sleep(0.1)
        writer.transport.abort()
        return answer


@contextlib.asynccontextmanager
async def _relay(port: int) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", port)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
            target.close()

        await asyncio.gather(copy(reader, there), copy(back, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    directory = tmp_path_factory.mktemp("smuggling")
    trust = authority(directory, ALLOWED, VICTIM)
    async with place(trust) as servers, _relay(servers.ports["http"]) as plain:
        configuration = document(directory, provider=f"http://127.0.0.1:{servers.ports['http']}")
        configuration["egress"] = {
            "privateNetworks": ["127.0.0.1/32"], "hosts": {ALLOWED: ["127.0.0.1"]}, "caFile": str(trust.bundle),
        }  # fmt: skip
        url = f"https://{ALLOWED}:{servers.ports['tls']}/team/x"
        configuration["sandboxes"][0]["repositories"] = [{"url": url}]
        with running(directory, configuration) as gateway:
            yield Lab(servers, gateway, plain)


def _request(entrance: tuple[str, str], rest: str, version: str = "HTTP/1.1") -> str:
    path, who = entrance
    return f"POST {path} {version}\r\nHost: gateway\r\n{who}\r\n{rest}"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("entrance", ["broker", "git"])
@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_a_request_within_another_reaches_nobody(lab: Lab, entrance: str, name: str) -> None:
    where = BROKER if entrance == "broker" else lab.git
    data = _request(where, AMBIGUOUS[name])
    await lab.sent(lab.plain, data)
    assert f"GET {VICTIM}" in lab.place.reached or f"POST {VICTIM}" in lab.place.reached, "it is no attack"
    answer = await lab.sent(lab.gateway.broker, data)
    assert not [one for one in lab.place.reached if VICTIM in one]
    # One that is read in one way after all is passed on as one, framed anew.
    assert len([one for one in lab.place.reached if not one.startswith("tls ")]) <= (
        " 200 " in answer.decode("latin-1")
    )


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("entrance", ["broker", "git"])
@pytest.mark.parametrize("version", BROKEN)
async def test_a_body_in_chunks_is_of_http_1_1_alone(lab: Lab, entrance: str, version: str) -> None:
    """A reader of HTTP/1.0 knows none, and takes what follows for the next request."""
    where = BROKER if entrance == "broker" else lab.git
    answer = await lab.sent(lab.gateway.broker, _request(where, f"Transfer-Encoding: chunked\r\n\r\n{CHUNKS}", version))
    assert answer.split(b" ")[1:2] == [b"400"]
    assert lab.place.reached == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("target", ["/v1/models", "/git/x/info/refs", "http://elsewhere/git/x"])
async def test_a_whole_url_is_for_a_proxy(lab: Lab, target: str) -> None:
    """What is in it and what is in Host, two readers may each take for the place that is meant."""
    head = f"GET http://{VICTIM}{target} HTTP/1.1\r\nHost: {ALLOWED}\r\n{BROKER[1]}\r\n\r\n"
    await lab.sent(lab.plain, head)
    assert lab.place.reached == [f"GET {ALLOWED}"]
    assert (await lab.sent(lab.gateway.broker, head)).split(b" ")[1] == b"404"
    assert lab.place.reached == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ["X_Api_Key", "X_Forwarded_For", "Transfer_Encoding", "Anthropic_Version", "X.Y"])
async def test_a_header_that_some_take_for_another_does_not_arrive(lab: Lab, name: str) -> None:
    came: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    async with await asyncio.start_server(note, "127.0.0.1", 0) as server:
        directory = lab.gateway.directory / name
        directory.mkdir()
        at = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with running(directory, document(directory, provider=at)) as gateway:
            head = f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{BROKER[1]}\r\nX-Kept: yes\r\n{name}: evil\r\n\r\n"
            assert (await lab.sent(gateway.broker, head)).split(b" ")[1] == b"200"
    (head_came,) = came
    assert b"x-kept: yes" in head_came
    assert b"evil" not in head_came
