"""The egress proxy as a real program: what curl, git, pip and node get through it, and what is closed and why."""

import asyncio
import contextlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gatewaykit import PLACEHOLDER, Authority, Gateway, authority, basic, client_environment, document, running

NAMES = ("www.example.org", "git.example.org", "other.example.net")


@dataclass(frozen=True)
class Lab:
    """A gateway whose sandbox may reach `*.example.org`, and a server that has these names and another one."""

    gateway: Gateway
    trust: Authority
    tls: int
    plain: int
    configuration: dict[str, Any]

    def environment(self) -> dict[str, str]:
        return client_environment(self.gateway, self.trust.bundle)


@contextlib.contextmanager
def serving(directory: Path, context: ssl.SSLContext | None) -> Iterator[int]:
    """Files over HTTP."""

    class Files(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(directory))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing."""

    server = Server(("127.0.0.1", 0), Files)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    trust = authority(tmp_path, *NAMES)
    files = tmp_path / "files"
    files.mkdir()
    (files / "hello.txt").write_text("hello\n")
    with serving(files, trust.server()) as tls, serving(files, None) as plain:
        allowed = [
            f"*.example.org:{tls}",
            f"*.example.org:{plain}",
            {"domain": f"opaque.example.org:{plain}", "protocol": "Any"},
        ]
        configuration = document(tmp_path, allowedDomains=allowed)
        configuration["egress"]["hosts"] = {
            **{name: ["127.0.0.1"] for name in (*NAMES, "opaque.example.org")},
            "inside.example.org": ["127.0.0.1", "169.254.169.254"],
            "private.example.org": ["10.0.0.1"],
        }
        with running(tmp_path, configuration) as gateway:
            yield Lab(gateway, trust, tls, plain, configuration)


def run(lab: Lab, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**lab.environment(), "HOME": str(lab.trust.bundle.parent), **environment}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not here")


@needs("curl")
def test_curl(lab: Lab) -> None:
    found = run(lab, "curl", "-sS", f"https://www.example.org:{lab.tls}/hello.txt")
    assert (found.stdout, found.stderr) == ("hello\n", "")
    found = run(lab, "curl", "-sS", f"http://www.example.org:{lab.plain}/hello.txt")
    assert (found.stdout, found.stderr) == ("hello\n", "")
    # Enough that curl asks first whether it may send the body, and a chunked one.
    for extra in ((), ("-H", "transfer-encoding: chunked")):
        found = run(lab, "curl", "-sS", "-d", "x" * 100_000, *extra, f"http://www.example.org:{lab.plain}/echo")
        assert len(found.stdout) in (0, 100_000) if extra else len(found.stdout) == 100_000
    found = run(lab, "curl", "-sS", f"https://other.example.net:{lab.tls}/hello.txt")
    assert "403" in found.stderr
    lines = asyncio.run(lab.gateway.audited(5))
    tunnel = next(line for line in lines if line["kind"] == "tunnel" and line["verdict"] == "Allowed")
    plain = next(line for line in lines if line["kind"] == "http")
    refused = next(line for line in lines if line["verdict"] == "Refused")
    assert (tunnel["kind"], tunnel["verdict"], tunnel["sni"]) == ("tunnel", "Allowed", "www.example.org")
    assert (tunnel["rule"], tunnel["dialled"]) == (f"allowed: *.example.org:{lab.tls}", "127.0.0.1")
    assert tunnel["bytesUp"] > 200
    assert (plain["kind"], plain["verdict"], plain["status"]) == ("http", "Allowed", 200)
    assert (refused["verdict"], refused["rule"], refused["status"]) == ("Refused", "not in allowedDomains", 403)


@needs("git")
def test_git_clones(lab: Lab, tmp_path: Path) -> None:
    bare = tmp_path / "files" / "repo.git"
    work = tmp_path / "work"
    script = """
        git init -q -b main "$1" && cd "$1" && echo a >a && git add a
        git -c user.name=n -c user.email=e@example.org commit -qm a
        git clone -q --bare . "$2" && git -C "$2" update-server-info
    """
    subprocess.run(("sh", "-ec", script, "sh", str(work), str(bare)), check=True, capture_output=True)
    found = run(lab, "git", "clone", "-q", f"https://git.example.org:{lab.tls}/repo.git", str(tmp_path / "clone"))
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "clone" / "a").read_text() == "a\n"


def test_pip_installs(lab: Lab, tmp_path: Path) -> None:
    index = tmp_path / "files" / "simple" / "nothing-here"
    index.mkdir(parents=True)
    (index / "index.html").write_text('<a href="../../nothing_here-1.0-py3-none-any.whl">x</a>')
    subprocess.run(
        (sys.executable, "-c", WHEEL, str(tmp_path / "files" / "nothing_here-1.0-py3-none-any.whl")), check=True
    )
    url = f"https://www.example.org:{lab.tls}/simple/"
    found = run(lab, sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "download", "--no-deps",
                "--proxy", lab.gateway.proxy_url, "--cert", str(lab.trust.bundle), "--index-url", url, "-d",
                str(tmp_path), "nothing-here")  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "nothing_here-1.0-py3-none-any.whl").exists()


WHEEL = """
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    info = "nothing_here-1.0.dist-info/"
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: nothing-here\\nVersion: 1.0\\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(info + "RECORD", "")
"""


async def connect(lab: Lab, host: str, port: int, authorization: str | None = None) -> "Talk":
    where, _, number = lab.gateway.proxy.partition(":")
    reader, writer = await asyncio.open_connection(where, int(number))
    line = f"proxy-authorization: {authorization or basic()}\r\n" if authorization != "" else ""
    writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n{line}\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    return Talk(reader, writer, int(head[9:12]))


@dataclass(frozen=True)
class Talk:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int

    async def closed(self) -> bool:
        """Whether the other side says nothing more and has ended."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 10) == b""
        return True


async def test_identities_and_addresses(lab: Lab) -> None:
    statuses = {
        (await connect(lab, "www.example.org", lab.tls, given)).status
        for given in ("", basic("wrong"), "Basic x", "Digest x")
    }
    assert statuses == {407}
    assert (await connect(lab, "inside.example.org", lab.tls)).status == 403
    assert (await connect(lab, "private.example.org", lab.tls)).status in (403, 502)
    assert (await connect(lab, "nowhere.example.org", lab.tls)).status == 502
    assert (await connect(lab, "127.0.0.1", lab.tls)).status == 403
    rules = Counter(line["rule"] for line in await lab.gateway.audited(8))
    assert rules["identity"] == 4
    assert rules["the name leads to an address that is refused (metadata service)"] == 1
    assert rules["the name leads to an address that is refused (private)"] == 1


async def test_what_is_no_tls_passes_only_where_the_entry_says_so(lab: Lab) -> None:
    opaque = await connect(lab, "opaque.example.org", lab.plain)
    opaque.writer.write(b"GET /hello.txt HTTP/1.0\r\n\r\n")
    assert (await asyncio.wait_for(opaque.reader.read(), 10)).endswith(b"hello\n")
    opaque.writer.close()
    other = await connect(lab, "www.example.org", lab.plain)
    other.writer.write(b"GET /hello.txt HTTP/1.0\r\n\r\n")
    assert await other.closed()
    assert "NotTLS" in {line["rule"] for line in await lab.gateway.audited(2)}


async def test_a_list_that_changes_closes_what_it_no_longer_allows(lab: Lab) -> None:
    kept, ended = await connect(lab, "opaque.example.org", lab.plain), await connect(lab, "www.example.org", lab.tls)
    context = ssl.create_default_context(cafile=lab.trust.bundle)
    await ended.writer.start_tls(context, server_hostname="www.example.org")
    lab.configuration["sandboxes"][0]["allowedDomains"] = lab.configuration["sandboxes"][0]["allowedDomains"][2:]
    lab.gateway.configure(lab.configuration)
    assert await ended.closed()
    assert (await lab.gateway.audited(1))[0]["ended"] == "no longer allowed"
    kept.writer.write(b"GET /hello.txt HTTP/1.0\r\n\r\n")
    assert (await asyncio.wait_for(kept.reader.read(), 10)).endswith(b"hello\n")


@contextlib.asynccontextmanager
async def quiet_server() -> AsyncIterator[int]:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(nothing, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_limits_on_time_and_number(tmp_path: Path) -> None:
    async with quiet_server() as port:
        configuration = document(
            tmp_path, allowedDomains=[{"domain": f"x.example.org:{port}", "protocol": "Any"}, f"y.example.org:{port}"]
        )
        configuration["egress"]["hosts"] = {"x.example.org": ["127.0.0.1"], "y.example.org": ["127.0.0.1"]}
        configuration["limits"] = {"tunnelIdleSeconds": 1, "clientHelloSeconds": 1, "connectionsPerSandbox": 3}
        with running(tmp_path, configuration) as gateway:
            lab = Lab(gateway, Authority(tmp_path, tmp_path, tmp_path), port, port, configuration)
            talks = [await connect(lab, "x.example.org", port) for _ in range(2)]
            talks.append(await connect(lab, "y.example.org", port))
            assert (await connect(lab, "x.example.org", port)).status == 503
            assert [await talk.closed() for talk in talks] == [True] * 3
            assert (await connect(lab, "x.example.org", port)).status == 200
            found = {(line["host"], line.get("ended"), line["rule"]) for line in (await gateway.audited(4))[:4]}
    rule = f"allowed: x.example.org:{port}"
    assert found == {
        ("x.example.org", "idle", rule),
        ("y.example.org", "closed", "CutOff"),
        ("x.example.org", None, "connections"),
    }


async def test_a_big_download_arrives_whole_and_costs_little_memory(lab: Lab, tmp_path: Path) -> None:
    with (tmp_path / "files" / "big").open("wb") as file:
        file.truncate(200 << 20)
    before = _memory(lab.gateway.process.pid)
    argv = ("curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", f"https://www.example.org:{lab.tls}/big")
    found = await asyncio.to_thread(run, lab, *argv)
    assert found.stdout == str(200 << 20)
    assert _memory(lab.gateway.process.pid) - before < 16 << 20
    assert (await lab.gateway.audited(1))[0]["bytesDown"] > 200 << 20


def _memory(pid: int) -> int:
    """Resident, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@needs("node")
def test_node_fetches(lab: Lab) -> None:
    target, port = f"www.example.org:{lab.tls}", lab.gateway.proxy.partition(":")[2]
    script = f"""
        const headers = {{'proxy-authorization': '{basic()}', host: '{target}'}};
        const asked = require('http').request(
          {{host: '127.0.0.1', port: {port}, method: 'CONNECT', path: '{target}', headers}});
        asked.on('connect', (answer, socket) => require('https').get(
          {{host: 'www.example.org', path: '/hello.txt', socket, agent: false}}, found => found.pipe(process.stdout)));
        asked.end();
    """
    found = run(lab, "node", "-e", script)
    assert (found.stdout, found.stderr) == ("hello\n", "")


def test_the_lab_has_no_other_way(lab: Lab) -> None:
    """The names of these tests are the gateway's alone: without it nothing resolves them."""
    with pytest.raises(OSError, match=r".*"):
        socket.getaddrinfo("www.example.org", lab.tls)


async def test_one_address_can_not_take_the_places_of_those_that_have_not_yet_said_who_they_are(tmp_path: Path) -> None:
    configuration = document(tmp_path)
    one = configuration["sandboxes"][0]
    configuration["sandboxes"].append({**one, "uid": "uid-2", "identitySHA256": ["0" * 64]})
    configuration["limits"] = {"connections": 40, "connectionsPerSandbox": 40}
    with running(tmp_path, configuration) as gateway:
        host, _, port = gateway.proxy.partition(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
        await asyncio.sleep(0.2)
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.2", 0))
        writer.write(b"CONNECT x.example.org:443 HTTP/1.1\r\nhost: x.example.org\r\n\r\n")
        assert b" 407 " in await asyncio.wait_for(reader.readline(), 5)
        for _, other in (*held, (reader, writer)):
            other.transport.abort()


@needs("curl")
def test_both_doors_may_be_behind_tls(tmp_path: Path) -> None:
    trust = authority(tmp_path, "www.example.org", "gateway.example.org")
    files = tmp_path / "files"
    files.mkdir()
    (files / "hello.txt").write_text("hello\n")
    with serving(files, trust.server()) as tls:
        configuration = document(tmp_path, allowedDomains=[f"www.example.org:{tls}"])
        configuration["egress"]["hosts"] = {"www.example.org": ["127.0.0.1"]}
        door = {"certificateFile": str(trust.certificate), "keyFile": str(trust.key)}
        configuration["listen"] = {"proxy": door, "broker": door}
        with running(tmp_path, configuration) as gateway:
            lab = Lab(gateway, trust, tls, 0, configuration)
            proxy = gateway.proxy.replace("127.0.0.1", "gateway.example.org")
            known = ("--resolve", f"{proxy}:127.0.0.1", "--proxy-cacert", str(trust.bundle))
            through = ("--proxy", f"https://{proxy}", "--proxy-user", f"sandbox:{PLACEHOLDER}")
            found = run(lab, "curl", "-sS", *known, *through, f"https://www.example.org:{tls}/hello.txt")
            assert (found.stdout, found.stderr) == ("hello\n", "")
            broker = gateway.broker.replace("127.0.0.1", "gateway.example.org")
            direct = ("--noproxy", "*", "--resolve", f"{broker}:127.0.0.1", "--cacert", str(trust.bundle))
            found = run(lab, "curl", "-sS", *direct, f"https://{broker}/v1/models")
            assert "authentication_error" in found.stdout
