"""What agents have in a sandbox, through the proxy to servers of the tests' own: as they are, by the variables alone.

curl and pip by themselves are in test_gateway_proxy.py; what reads other settings than the usual variables, in
test_gateway_toolchains.py.
"""

import asyncio
import hashlib
import json
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from client_lab import Lab, client_lab, needs
from gatewaykit import basic
from origin import EVENTS
from published_packages import MODULE, NAME, debian, git, go, npm

MEGABYTES = 32


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with client_lab(tmp_path) as found:
        yield found


@needs("git")
@pytest.mark.parametrize("way", ["secure", "plain"])
async def test_git_clones_and_pushes(lab: Lab, way: str) -> None:
    """More than a megabyte, which git sends in chunks."""
    url = f"{getattr(lab, way)}/git/repo.git"
    git(lab.files)
    script = """
        git clone -q "$0" work && cd work
        head -c 3000000 /dev/urandom >big && git add big
        git -c user.name=n -c user.email=e@example.org commit -qm big
        git push -q origin HEAD:main
        git clone -q "$0" ../again && cmp big ../again/big
    """
    found = await lab.run("sh", "-ec", script, url)
    assert found.returncode == 0, found.stderr
    # git asks without a password first, and again when it is told that one is wanted.
    lines = {(line["verdict"], line["rule"]) for line in await lab.gateway.audited(4)}
    assert {rule for verdict, rule in lines if verdict != "Allowed"} <= {"identity"}


@needs("npm")
async def test_npm_installs(lab: Lab) -> None:
    npm(lab.files, f"{lab.secure}/files")
    found = await lab.run(
        "npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries", "0",
        "--cafile", str(lab.trust.bundle),
        "--registry", f"{lab.secure}/files/npm/", NAME,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert (lab.home / f"node_modules/{NAME}/package.json").exists()


@needs("go")
async def test_go_downloads_a_module(lab: Lab) -> None:
    go(lab.files)
    found = await lab.run(
        "go", "mod", "download", "-json", f"{MODULE}@v1.0.0",
        GOPROXY=f"{lab.secure}/files/go", GOSUMDB="off", GOFLAGS="-modcacherw", GOTOOLCHAIN="local",
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert json.loads(found.stdout)["Dir"].endswith(f"/{MODULE}@v1.0.0")


@needs("apt-get")
@pytest.mark.parametrize("way", ["plain", "secure"])
async def test_apt_updates_and_downloads(lab: Lab, way: str) -> None:
    root = lab.files.parent / "apt"
    for part in ("lists/partial", "archives/partial", "state", "empty"):
        (root / part).mkdir(parents=True)
    package = debian(lab.files, root)
    (root / "sources.list").write_text(f"deb [trusted=yes] {getattr(lab, way)}/files/debian ./\n")
    (root / "status").touch()
    options = {
        "Dir::Etc::sourcelist": root / "sources.list", "Dir::Etc::sourceparts": root / "empty",
        "Dir::State": root / "state", "Dir::State::lists": root / "lists", "Dir::State::status": root / "status",
        "Dir::Cache": root, "Dir::Cache::archives": root / "archives", "Dir::Etc::parts": root / "empty",
        "Dir::Etc::main": root / "none", "APT::Sandbox::User": "root", "Acquire::Languages": "none",
        "Acquire::https::CaInfo": lab.trust.bundle, "Acquire::Retries": "0",
    }  # fmt: skip
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    for command in (("update",), ("download", NAME)):
        found = await lab.run("apt-get", *given, *command)
        assert found.returncode == 0, found.stdout + found.stderr
    assert (lab.home / package.name).read_bytes() == package.read_bytes()
    rules = {(line["kind"], line["verdict"]) for line in await lab.gateway.audited(2)}
    assert rules == {("http" if way == "plain" else "tunnel", "Allowed")}


PYTHON = {
    "urllib": """
import sys, urllib.request
print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], data=b"x" * 1000)).read().decode(), end="")
""",
    "requests": """
import sys, requests
print(requests.post(sys.argv[1], data=b"x" * 1000).text, end="")
""",
}


@pytest.mark.parametrize("library", PYTHON)
async def test_python(lab: Lab, library: str) -> None:
    expected = f"1000 {hashlib.sha256(b'x' * 1000).hexdigest()}\n"
    for base in (lab.secure, lab.plain):
        found = await lab.run(sys.executable, "-c", PYTHON[library], f"{base}/digest")
        assert (found.stdout, found.stderr) == (expected, "")


@needs("node")
async def test_node_speaks_through_a_tunnel(lab: Lab) -> None:
    """As libraries for proxies do it: CONNECT, and https over that."""
    script = """
        const target = new URL(process.argv[1]), proxy = new URL(process.env.HTTPS_PROXY), at = target.host;
        const headers = {host: at, 'proxy-authorization':
          'Basic ' + Buffer.from(proxy.username + ':' + proxy.password).toString('base64')};
        const asked = require('http').request(
          {host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: at, headers});
        asked.on('connect', (answer, socket) => require('https').get(
          {host: target.hostname, path: target.pathname, socket, agent: false}, found => found.pipe(process.stdout)));
        asked.end();
    """
    found = await lab.run("node", "-e", script, f"{lab.secure}/digest")
    assert (found.stdout, found.stderr) == (f"0 {hashlib.sha256().hexdigest()}\n", "")


async def test_a_websocket(lab: Lab) -> None:
    context = ssl.create_default_context(cafile=lab.trust.bundle)
    url, proxy, headers = f"{lab.secure}/socket", f"http://{lab.gateway.proxy}", {"proxy-authorization": basic()}
    connector = TCPConnector(ssl=context)
    async with (
        ClientSession(connector=connector) as session,
        session.ws_connect(url, proxy=proxy, proxy_headers=headers) as socket,
    ):
        for number in range(3):
            await socket.send_str(str(number))
            assert await socket.receive_str() == f"{number} again"


@needs("curl")
@pytest.mark.parametrize("way", ["secure", "plain"])
async def test_a_large_body_arrives_whole(lab: Lab, way: str) -> None:
    body = lab.files / "body"
    body.write_bytes(bytes(range(256)) * (MEGABYTES << 12))
    found = await lab.run("curl", "-sS", "-T", str(body), f"{getattr(lab, way)}/digest")
    assert found.stdout == f"{MEGABYTES << 20} {hashlib.sha256(body.read_bytes()).hexdigest()}\n", found.stderr


async def test_two_hundred_streams_at_once(lab: Lab) -> None:
    """Of server-sent events, each in a tunnel of its own; all are open before the first ends."""
    context = ssl.create_default_context(cafile=lab.trust.bundle)
    opened, proxy, headers = 0, f"http://{lab.gateway.proxy}", {"proxy-authorization": basic()}

    async def stream(session: ClientSession) -> bytes:
        nonlocal opened
        async with session.get(f"{lab.secure}/events", proxy=proxy, proxy_headers=headers) as answer:
            opened += 1
            return await answer.read()

    connector = TCPConnector(limit=0, ssl=context)
    async with ClientSession(connector=connector, timeout=ClientTimeout(120)) as session:
        found = await asyncio.gather(*(stream(session) for _ in range(200)))
    assert set(found) == {b"".join(b"data: %d\n\n" % number for number in range(EVENTS))}
    assert opened == 200
    lines = await lab.gateway.audited(200)
    assert {line["verdict"] for line in lines} == {"Allowed"}


@pytest.mark.slow
@needs("curl")
async def test_a_gigabyte(lab: Lab) -> None:
    argv = ("curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", f"{lab.secure}/bytes/1024")
    found = await lab.run(*argv)
    assert found.stdout == str(1 << 30), found.stderr
