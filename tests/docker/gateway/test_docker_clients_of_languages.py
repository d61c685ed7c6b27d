"""What agents fetch things by, in a container whose image is of others: each reaches by its gateway what is declared,
told of it by nothing but what is set in every sandbox, and says so where a name is not allowed. The programs of the
sandbox's own image are in test_docker_clients.py."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients_image import clients_image
from dockerkit import Sandbox, sandbox
from enginekit import client as engine_client
from foreign_image import named
from gatewaykit import authority
from origin_process import OriginProcess, origin_process
from provider_process import ADDRESS, provider_on
from published_packages import all_of_them
from real_clients import ALLOWED, CLIENTS, LARGE, REFUSED, TRUST, Client

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.blueprint.model import Image
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive

# An image of more than a gigabyte has to be made and loaded: ten minutes the first time.
pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def server(host: EngineDescription, tmp_path: Path) -> Iterator[OriginProcess]:
    with (
        provider_on(host, tmp_path),
        origin_process(host.netns, ADDRESS, authority(tmp_path, ALLOWED, REFUSED), tmp_path) as found,
    ):
        all_of_them(found.files, f"https://{ALLOWED}:{found.secure}/files", tmp_path)
        yield found


@pytest.fixture
def clients(host: EngineDescription, sandbox_image: ImageArchive, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The image, on an engine that has the operator's."""
    engine.load_image(host, sandbox_image)
    with clients_image(tmp_path) as image:
        engine.load_image(host, image)
    yield named(image)
    with engine_client(host) as connected:
        connected.images.remove(image.reference)


def says(one: Sandbox, server: OriginProcess, client: Client, name: str) -> str:
    began = time.monotonic()
    found = one.sh(client.command(name, server.secure, server.plain))
    print(f"{client}, {name}: {time.monotonic() - began:.1f} s: {found}")
    return found


async def test_clients_reach_what_is_declared_and_say_that_another_is_refused(
    host: EngineDescription, server: OriginProcess, clients: dict[str, str], sandbox_image: ImageArchive
) -> None:
    egress = {"hosts": {name: [ADDRESS] for name in (ALLOWED, REFUSED)}, "privateNetworks": [f"{ADDRESS}/32"]}
    spec: dict[str, Any] = {
        "credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"},
        "network": {"egress": {"allowedDomains": [f"{ALLOWED}:{port}" for port in (server.secure, server.plain)]}},
        "resources": {"cpu": "2", "memory": "2Gi"},
        "image": clients,
    }
    async with sandbox(host, gateways={"egress": egress}, **spec) as one:
        one.default = Image(sandbox_image.reference, None, "Never")
        await one.made()
        assert (await one.started()).status is ConditionStatus.TRUE
        one.sh(f"echo {base64.b64encode(server.trust.bundle.read_bytes()).decode()} | base64 -d > {TRUST}")
        wrong = {}
        for client in CLIENTS + LARGE:
            found, denied = says(one, server, client, ALLOWED), says(one, server, client, REFUSED)
            if not (client.says in found and found.endswith("ended 0\n")):
                wrong[f"{client}, allowed"] = found
            if client.refused not in denied or client.says in denied:
                wrong[f"{client}, refused"] = denied
        assert wrong == {}
