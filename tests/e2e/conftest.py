"""The operator as a process, looking after sandboxes on a real node."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gatewaykit import Authority, authority
from git_process import GitProcess, git_process
from node_agentkit import installed
from node_operator import NodeOperator, operating
from nodekit import Kubectl, namespace
from provider_process import ADDRESS, ProviderProcess, provider_in
from real_clients import ALLOWED, REFUSED
from serverkit import SERVERS

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.node.names import Names

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
    names = ("www.example.org", "git.example.org", SERVICE, ALLOWED, REFUSED)
    hosts = {name: [ADDRESS] for name in names}
    egress = {"hosts": hosts, "privateNetworks": [f"{ADDRESS}/32"]}
    api = {"baseURL": provider.url, "caFile": str(certified.bundle)}
    path.write_text(json.dumps({"provider": api, "egress": egress}))
    return path


@pytest.fixture(scope="session")
def operator(
    node: Cluster, kubectl: Kubectl, sandbox_image: ImageArchive, operator_log: Path, gateway_settings: Path
) -> Iterator[NodeOperator]:
    """The CRDs are there and an operator runs. The cluster's own network is opened: the tests' targets are in it."""
    options = (
        # Only modules with the fixture `agent` have them there; with none, nothing is asked.
        *("--node-agent", "--node-agent-interval=5"),
        # Of sandboxes alone that follow a tag.
        "--image-check-interval=1",
        f"--backup-network={SERVERS}/32",
        *("--open-private-network=10.0.0.0/8", "--runtime-class=plain"),
        # No node has the file, unless a test puts it there.
        "--strict-seccomp-profile=claude-sandbox/strict.json",
    )
    with operating(node, kubectl, sandbox_image, operator_log, gateway_settings, *options) as found:
        yield found


@pytest.fixture(scope="module")
def agent(kubectl: Kubectl, sandboxes: str) -> Iterator[str]:
    """The address of the node's agent."""
    with installed(kubectl) as address:
        yield address


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
