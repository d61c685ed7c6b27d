"""The operator as a process, looking after sandboxes on a real node."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import repository
from gatewaykit import Authority, authority
from git_process import GitProcess, git_process
from node_operator import NodeOperator
from nodekit import Kubectl, namespace, report
from provider_process import ADDRESS, ProviderProcess, provider_in

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.node import load_image
from claude_sandbox.localcluster.node.names import Names

CRDS = tuple(repository.CRDS / f"claudesandbox.dev_{kind}.yaml" for kind in ("claudesandboxes", "claudesandboxusages"))
NAMESPACE = "e2e"
SERVICE = "issues.example.org"
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
def certified(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A company's own authority, and its certificate for the git server and another service."""
    return authority(tmp_path_factory.mktemp("company"), "git.example.org", SERVICE)


@pytest.fixture(scope="session")
def git_server(
    node: Cluster, provider: ProviderProcess, certified: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GitProcess]:
    """A git server that wants a token, where the provider is."""
    directory, network = tmp_path_factory.mktemp("git"), Names.of(node.layout).network
    with git_process(network, ADDRESS, (certified.certificate, certified.key), directory) as found:
        yield found


@pytest.fixture(scope="session")
def service(
    node: Cluster, provider: ProviderProcess, certified: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProviderProcess]:
    """Another service, beside the provider, which has its address up to the end."""
    certificate = certified.certificate, certified.key
    with provider_in(Names.of(node.layout).network, tmp_path_factory.mktemp("service"), certificate) as found:
        yield found


@pytest.fixture(scope="session")
def gateway_settings(provider: ProviderProcess, certified: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The provider's address, and under a name of its own; and whom to believe that it is the git server or the
    service."""
    path = tmp_path_factory.mktemp("gateways") / "settings.json"
    hosts = {"www.example.org": [ADDRESS], "git.example.org": [ADDRESS], SERVICE: [ADDRESS]}
    egress = {"hosts": hosts, "privateNetworks": [f"{ADDRESS}/32"]}
    api = {"baseURL": provider.url, "caFile": str(certified.bundle)}
    path.write_text(json.dumps({"provider": api, "egress": egress}))
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
