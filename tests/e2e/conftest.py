"""The operator as a process, looking after sandboxes on a real node."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import repository
from node_operator import NodeOperator
from nodekit import Kubectl, namespace, report
from provider_process import ADDRESS, ProviderProcess, provider_in

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.node import load_image
from claude_sandbox.localcluster.node.names import Names

CRDS = tuple(repository.CRDS / f"claudesandbox.dev_{kind}.yaml" for kind in ("claudesandboxes", "claudesandboxusages"))
NAMESPACE = "e2e"
KEY = "sk-ant-not-a-real-key-1"


@pytest.fixture(scope="session")
def operator_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator") / "operator.log"


@pytest.fixture(scope="session")
def provider(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    """What stands for the Claude API, on the node: pods of gateways reach it there."""
    with provider_in(Names.of(node.layout).network, tmp_path_factory.mktemp("provider")) as found:
        yield found


@pytest.fixture(scope="session")
def gateway_settings(provider: ProviderProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The provider's address, and under a name of its own."""
    path = tmp_path_factory.mktemp("gateways") / "settings.json"
    egress = {"hosts": {"www.example.org": [ADDRESS]}, "privateNetworks": [f"{ADDRESS}/32"]}
    path.write_text(json.dumps({"provider": {"baseURL": provider.url}, "egress": egress}))
    return path


@pytest.fixture(scope="session")
def operator(
    node: Cluster, kubectl: Kubectl, sandbox_image: ImageArchive, operator_log: Path, gateway_settings: Path
) -> Iterator[NodeOperator]:
    """The CRDs are there and an operator runs. The cluster's own network is opened: the tests' targets are in it."""
    kubectl("apply", *(part for path in CRDS for part in ("-f", str(path))))
    image = build_image("operator", report)
    load_image(node.layout, image)
    command = [
        sys.executable, "-m", "claude_sandbox.cli.main", "run",
        f"--kubeconfig={node.kubeconfig}", f"--sandbox-image={sandbox_image.pinned}",
        f"--gateway-image={image.pinned}",
        "--open-private-network=10.0.0.0/8", "--runtime-class=plain", "--bind=127.0.0.1:0", "--log-format=json",
    ]  # fmt: skip
    found = NodeOperator(command, operator_log, kubectl, gateway_settings)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def sandboxes(operator: NodeOperator, kubectl: Kubectl) -> str:
    """A namespace that enforces the restricted Pod Security Standard, with a Secret that opted in."""
    kubectl.apply(namespace(NAMESPACE))
    kubectl.apply(secret(KEY))
    return NAMESPACE


def secret(value: str) -> dict[str, object]:
    metadata = {"name": "key", "namespace": NAMESPACE}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/api-key"}
    return kind | {"metadata": metadata, "stringData": {"api-key": value}}
