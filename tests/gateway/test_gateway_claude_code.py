"""The real Claude Code, through the gateway to a stand-in for the API: it works with a placeholder, and ends well when
the gateway refuses."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anthropic_stand_in import StandIn, serving
from gatewaykit import KEY, PLACEHOLDER, Gateway, document, running
from nodekit import report
from service_lab import TOKEN, service_lab

from claude_sandbox.localcluster.images.recipes import recipe

# Fetches the program as the sandbox's image does, and runs next to the other tests that need it.
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def claude(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("claude") / "staged"
    recipe("sandbox").stage(directory, "", report)
    yield directory / "claude"
    (directory / "claude").unlink()


@dataclass(frozen=True)
class Lab:
    program: Path
    gateway: Gateway
    api: StandIn
    home: Path

    def ask(self, *options: str, proxy: str = "") -> tuple[int, dict[str, Any]]:
        """One headless run that knows the gateway and nothing else; its exit code and its result."""
        environment = {
            "ANTHROPIC_BASE_URL": f"http://{self.gateway.broker}",
            "ANTHROPIC_AUTH_TOKEN": PLACEHOLDER,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            **({"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1"} if proxy else {}),
        }
        argv = (str(self.program), "-p", "ping", "--output-format", "json", *options)
        done = subprocess.run(argv, env=environment, cwd=self.home, capture_output=True, timeout=120, check=False)
        found: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, found


@pytest.fixture
def lab(claude: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with serving("127.0.0.1") as api:
        home = tmp_path / "home"
        home.mkdir()
        with running(tmp_path, document(tmp_path, provider=api.url, **getattr(request, "param", {}))) as gateway:
            yield Lab(claude, gateway, api, home)


def test_it_finishes_with_a_placeholder_and_the_provider_gets_the_key(lab: Lab) -> None:
    code, found = lab.ask()
    assert (code, found["result"], found["is_error"]) == (0, "pong", False)
    assert {(one.method, one.path.partition("?")[0]) for one in lab.api.requests} == {("POST", "/v1/messages")}
    assert {(one.key, one.token) for one in lab.api.requests} == {(KEY, "")}
    line = asyncio.run(lab.gateway.audited(1))[0]
    assert (line["verdict"], line["status"], line["outputTokens"]) == ("Allowed", 200, 1)
    assert line["model"].startswith("claude-")
    assert line["sessionId"] == found["session_id"]


@pytest.mark.parametrize("lab", [{"budget": {"maxCostUSD": "0.0001"}}], indirect=True)
def test_a_spent_budget_ends_it_and_its_message_is_shown(lab: Lab) -> None:
    code, found = lab.ask()
    assert (code, found["is_error"], found["api_error_status"]) == (1, True, 402)
    assert "The budget of this sandbox does not suffice for this request: 0.0001 USD are allowed" in found["result"]
    assert lab.api.requests == []


@pytest.mark.parametrize("lab", [{"models": ["no-such-model"]}], indirect=True)
def test_a_model_that_is_not_allowed_ends_it_and_the_message_names_those_that_are(lab: Lab) -> None:
    code, found = lab.ask()
    assert (code, found["is_error"], found["api_error_status"]) == (1, True, 400)
    assert "is not allowed in this sandbox; allowed are no-such-model" in found["result"]
    assert lab.api.requests == []


async def test_an_mcp_server_is_a_service_like_any_other(claude: Path, tmp_path: Path) -> None:
    """Named by its URL and nothing else: the credential is the gateway's."""
    with serving("127.0.0.1") as api:
        async with service_lab(tmp_path, api.url) as found:
            home = tmp_path / "home"
            home.mkdir()
            servers = {"mcpServers": {"issues": {"type": "http", "url": "http://issues.services/api/mcp"}}}
            lab = Lab(claude, found.gateway, api, home)
            options = ("--mcp-config", json.dumps(servers), "--strict-mcp-config")
            code, said = await asyncio.to_thread(lab.ask, *options, proxy=found.gateway.proxy_url)
    assert (code, said["result"]) == (0, "pong")
    methods = [json.loads(one.body)["method"] for one in found.seen if one.method == "POST"]
    assert {"initialize", "tools/list"} <= set(methods)
    assert {tuple(one.header("authorization")) for one in found.seen} == {(f"Bearer {TOKEN}",)}
