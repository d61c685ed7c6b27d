"""Who may create sandboxes declares two services with one Secret: the one that it is for, and a server of their own.

Gained before, on Docker: the credential was read for the service that its Secret names, and handed to the gateway under
the Secret's name, by which the other service found it as well. So whoever could create a ClaudeSandbox, and not read
the Secret, had its credential sent to them. Closed by handing credentials over by the name of the service that each was
read for (`backends/docker/keys/gateway_secrets.py`, `gateway/config/standard_input.py`). A Secret of git is handed over
whole, and the gateway compares it with each repository that names it.
"""

import base64
import hashlib
import json
import os
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.keys.gateway_secrets import GatewaySecrets
from claude_sandbox.blueprint.model import Gateway, GatewayRepository, GatewayService, Identity, ServiceHeader
from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.config.follow import Live
from claude_sandbox.gateway.config.standard_input import InputFollower
from claude_sandbox.gateway.services.declared import Unopened

OWN, THEIRS = "issues.example.org", "collects.example.net"
TOKEN = "the-token"


class Secrets:
    """The API server: one Secret, for one host and one use."""

    def __init__(self, use: str) -> None:
        self._use = use

    async def get(self, resource: Any, name: str, namespace: str) -> dict[str, Any]:
        data = {"host": OWN, "token": TOKEN}
        return {
            "metadata": {"name": name, "resourceVersion": "1"},
            "type": self._use,
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
        }


def service(name: str, host: str) -> GatewayService:
    header = ServiceHeader("Authorization", "Bearer ", "issues", "token")
    return GatewayService(name, host, header, ("/*",), ("GET",), 60, None)


async def told(
    *services: GatewayService, repositories: tuple[GatewayRepository, ...] = (), use: str = meta.SERVICE_SECRET_TYPE
) -> Live:
    """What the gateway goes by, once the operator has handed over what it has read."""
    secrets = GatewaySecrets(Secrets(use), lambda *_: None)  # type: ignore[arg-type]
    read = await secrets.read(Identity("agents", "alice", "1"), Gateway(services=services, repositories=repositories))
    sandbox = {
        "uid": "uid-1",
        "identitySHA256": [hashlib.sha256(b"one").hexdigest()],
        "services": [
            {
                "name": one.name,
                "host": one.host,
                "paths": list(one.paths),
                "header": {"name": "Authorization", "prefix": "Bearer ", "secret": "issues", "key": "token"},
            }
            for one in services
        ],
        "repositories": [{"url": one.url, "credential": {"secret": one.secret}} for one in repositories],
        "credential": {"file": "-"},
    }
    message = {
        "configuration": {"version": 1, "listen": {}, "sandboxes": [sandbox]},
        "credential": "sk",
        "secrets": {name: text.decode() for name, text in read.services.items()},
        "unopened": dict(read.unopened),
        "git": {name: {key: text.decode() for key, text in data.items()} for name, data in read.git.items()},
        "revision": "1",
    }
    reading, writing = os.pipe()
    try:
        os.write(writing, base64.b64encode(json.dumps(message).encode()) + b"\n")
        follower = InputFollower(reading, lambda _: None)
        follower.start()
    finally:
        os.close(reading)
        os.close(writing)
    return follower.live


def sent(live: Live, name: str) -> str | None:
    """The header that the gateway would send to a service."""
    opened = live.services["uid-1"].opened.get(name)
    return opened.value if opened is not None else None


@pytest.mark.parametrize("order", [1, -1])
async def test_a_secret_opens_the_service_that_it_is_for_and_no_other(order: int) -> None:
    both = (service("issues", OWN), service("collects", THEIRS))[::order]
    live = await told(*both)
    assert sent(live, "issues") == f"Bearer {TOKEN}"
    assert sent(live, "collects") is None
    assert live.unopened("uid-1") == {"collects": Unopened.OTHER_HOST}
    assert isinstance(live.sandboxes["uid-1"], Sandbox)


@pytest.mark.parametrize("order", [1, -1])
async def test_a_secret_of_git_opens_what_is_on_its_server_and_nothing_elsewhere(order: int) -> None:
    both = tuple(GatewayRepository(f"https://{host}/team/project", "issues", None) for host in (OWN, THEIRS))[::order]
    opened = (await told(repositories=both, use=meta.GIT_SECRET_TYPE)).repositories["uid-1"]
    assert opened[f"{OWN}/team/project"].credential is not None
    assert opened[f"{THEIRS}/team/project"].credential is None
    assert f"is for {OWN}" in opened[f"{THEIRS}/team/project"].problem


async def test_a_secret_that_opted_in_to_one_use_opens_nothing_of_the_other() -> None:
    one, repository = service("issues", OWN), GatewayRepository(f"https://{OWN}/team/project", "issues", None)
    for use, opens in ((meta.SERVICE_SECRET_TYPE, (True, False)), (meta.GIT_SECRET_TYPE, (False, True))):
        live = await told(one, repositories=(repository,), use=use)
        found = live.repositories["uid-1"][f"{OWN}/team/project"]
        assert (sent(live, "issues") is not None, found.credential is not None) == opens
