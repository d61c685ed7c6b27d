"""What agents fetch things by, in a pod whose image is of others: each reaches by its namespace's gateway what is
declared, told of it by nothing but what the operator sets, and says so where a name is not allowed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from clients_image import clients_image
from foreign_image import named
from gatewaykit import authority
from nodekit import Kubectl
from origin_process import OriginProcess, origin_process
from provider_process import ADDRESS, ProviderProcess
from published_packages import all_of_them
from real_clients import ALLOWED, CLIENTS, LARGE, REFUSED, TRUST, Client
from sandboxkit import Sandbox, sandbox

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.node import load_image
from claude_sandbox.localcluster.node.names import Names

# An image of more than a gigabyte has to be made and loaded: ten minutes the first time.
pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(1200)]

RESOURCES = {"cpu": "2", "memory": "2Gi", "ephemeralStorage": "4Gi"}


@dataclass(frozen=True)
class Lab:
    """A sandbox with the programs, and the server that it may reach by one of its names."""

    made: Sandbox
    server: OriginProcess

    def says(self, client: Client, name: str) -> str:
        """All that it says, asked for this name; how long that took is printed."""
        began = time.monotonic()
        found = self.made.run("sh", "-c", client.command(name, self.server.secure, self.server.plain))
        print(f"{client}, {name}: {time.monotonic() - began:.1f} s: {found}")
        return found


@pytest.fixture(scope="module")
def server(
    node: Cluster, provider: ProviderProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OriginProcess]:
    directory, network = tmp_path_factory.mktemp("packages"), Names.of(node.layout).network
    with origin_process(network, ADDRESS, authority(directory, ALLOWED, REFUSED), directory) as found:
        all_of_them(found.files, f"https://{ALLOWED}:{found.secure}/files", directory)
        yield found


@pytest.fixture(scope="module")
def lab(
    node: Cluster, kubectl: Kubectl, sandboxes: str, server: OriginProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    with clients_image(tmp_path_factory.mktemp("clients")) as image:
        load_image(node.layout, image)
    credentials = {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"}
    network = {"egress": {"allowedDomains": [f"{ALLOWED}:{server.secure}", f"{ALLOWED}:{server.plain}"]}}
    workspace = {"type": "EmptyDir", "size": "1Gi"}
    with sandbox(
        kubectl, sandboxes, "clients", credentials=credentials, network=network, workspace=workspace,
        resources=RESOURCES, image=named(image),
    ) as made:  # fmt: skip
        trust = server.trust.bundle.read_text()
        kubectl("exec", "-i", "-n", sandboxes, made.pod, "--", "sh", "-c", f"cat > {TRUST}", stdin=trust)
        yield Lab(made, server)


@pytest.mark.parametrize("client", CLIENTS + LARGE, ids=str)
def test_a_client_reaches_what_is_declared_and_says_that_another_is_refused(lab: Lab, client: Client) -> None:
    found = lab.says(client, ALLOWED)
    assert client.says in found
    assert found.endswith("ended 0\n")
    denied = lab.says(client, REFUSED)
    assert client.refused in denied
    assert client.says not in denied
