"""Programs of the sandbox's image on a real engine: they reach by the gateway what was declared, and are told nothing
but what is set in every sandbox."""

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dockerkit import Sandbox, sandbox
from gatewaykit import authority
from index_process import PACKAGE, index_process
from provider_process import ADDRESS, provider_on

from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

HOST, OTHER = "index.example.org", "other.example.org"
TRUST = "/workspace/ca.pem"


@dataclass(frozen=True)
class Index:
    """Where it is, and the authority that its certificate is from."""

    port: int
    bundle: bytes

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"


@pytest.fixture
def index(host: EngineDescription, tmp_path: Path) -> Iterator[Index]:
    trust = authority(tmp_path, HOST, OTHER)
    with (
        provider_on(host, tmp_path),
        index_process(host.netns, ADDRESS, (trust.certificate, trust.key), tmp_path) as port,
    ):
        yield Index(port, trust.bundle.read_bytes())


@pytest.fixture
async def one(host: EngineDescription, image: dict[str, str], index: Index) -> AsyncIterator[Sandbox]:
    names = {name: [ADDRESS] for name in (HOST, OTHER)}
    settings: dict[str, Any] = {"egress": {"hosts": names, "privateNetworks": [f"{ADDRESS}/32"]}}
    credentials = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}
    network = {"egress": {"allowedDomains": [f"{HOST}:{index.port}"]}}
    async with sandbox(host, gateways=settings, credentials=credentials, network=network) as made:
        made.image = f"{image['repository']}:{image['tag']}"
        await made.settled()
        made.sh(f"echo {base64.b64encode(index.bundle).decode()} | base64 -d > {TRUST}")
        yield made


async def test_curl_pip_and_git_reach_what_is_declared_and_nothing_else(one: Sandbox, index: Index) -> None:
    assert one.sh(f"curl -sS --cacert {TRUST} {index.url}/page") == "a page\n"
    one.sh(f"pip install -q --user --cert {TRUST} --index-url {index.url}/simple/ {PACKAGE} 2>&1")
    assert one.sh("greet") == "hello\n"
    one.sh(f"git -c http.sslCAInfo={TRUST} clone -q {index.url}/project.git /workspace/project 2>&1")
    assert one.sh("cat /workspace/project/README") == "read me\n"
    script = f"""import ssl, urllib.request
context = ssl.create_default_context(cafile="{TRUST}")
print(urllib.request.urlopen("{index.url}/page", context=context).read().decode(), end="")"""
    assert one.sh(f"python3 -c '{script}'") == "a page\n"

    other = f"https://{OTHER}:{index.port}/page"
    assert "403" in one.sh(f"curl -sS --cacert {TRUST} {other} 2>&1 || true")
    assert "403" in one.sh(f"git -c http.sslCAInfo={TRUST} ls-remote {other} 2>&1 || true")
    told = one.sh(f"curl -sS --noproxy '*' --connect-timeout 5 --cacert {TRUST} {index.url}/page 2>&1 || echo $?")
    assert told.splitlines()[-1] == "6", "without the gateway there is not even a name"
