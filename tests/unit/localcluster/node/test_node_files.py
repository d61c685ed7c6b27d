"""What a node's programs are told, read back as those programs read it."""

import json
import tomllib
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.localcluster.context import NodeContext
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.network import Addresses
from claude_sandbox.localcluster.node import config, lifecycle, manifests, parts
from claude_sandbox.localcluster.node.api import collection
from claude_sandbox.localcluster.node.names import Names

ROOT = Path("/state/clusters/dev")


@pytest.fixture
def context() -> NodeContext:
    pki, kubeconfigs = ROOT / "pki", ROOT / "config"
    return NodeContext(
        layout=Layout(ROOT),
        binaries={name: Path("/bin") / name for name in lifecycle.BINARIES},
        kubernetes_version="1.34.4",
        server="https://10.243.7.1:26443",
        admin_kubeconfig=ROOT / "kubeconfig",
        kubelet_kubeconfig=kubeconfigs / "kubelet",
        kube_proxy_kubeconfig=kubeconfigs / "kube-proxy",
        kube_router_kubeconfig=kubeconfigs / "kube-router",
        ca=pki / "ca.crt",
        kubelet_certificate=pki / "kubelet.crt",
        kubelet_key=pki / "kubelet.key",
        service_cidr="10.96.0.0/16",
        cluster_dns_ip="10.96.0.10",
        pod_cidr="10.244.7.0/24",
        link_cidr="10.243.7.0/30",
        gateway_ip="10.243.7.1",
        node_ip="10.243.7.2",
        node_name="dev-node",
    )


def test_the_kubelet_answers_only_those_whom_the_api_server_vouches_for(context: NodeContext) -> None:
    settings = yaml.safe_load(config.kubelet(context, config.Files(ROOT / "node"), "group"))
    assert settings["authentication"]["anonymous"] == {"enabled": False}
    assert settings["authentication"]["x509"] == {"clientCAFile": str(context.ca)}
    assert settings["authorization"] == {"mode": "Webhook"}
    assert settings["readOnlyPort"] == 0
    assert settings["tlsCertFile"] == str(context.kubelet_certificate)


def test_the_kubelet_confines_pods_and_keeps_images(context: NodeContext) -> None:
    settings = yaml.safe_load(config.kubelet(context, config.Files(ROOT / "node"), "group"))
    assert settings["podPidsLimit"] == config.POD_PIDS
    assert settings["cgroupRoot"] == "/group"
    assert settings["imageGCHighThresholdPercent"] == 100
    assert settings["clusterDNS"] == [context.cluster_dns_ip]


def test_containerd_uses_our_pause_image_and_its_own_directories(context: NodeContext) -> None:
    files = config.Files(Path("/x/config"))
    settings = tomllib.loads(config.containerd(context, "example.test/pause:1", Path("/x/cni"), files))
    cri = settings["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "example.test/pause:1"
    assert cri["restrict_oom_score_adj"] is True
    assert (cri["cni"]["bin_dir"], cri["cni"]["conf_dir"]) == ("/x/cni", "/x/config/cni")
    runc = cri["containerd"]["runtimes"]["runc"]
    assert runc["options"]["BinaryName"] == str(context.binaries["runc"])
    assert runc["runtime_path"] == str(context.binaries["containerd-shim-runc-v2"])
    # It would make /opt/containerd on the machine.
    assert "io.containerd.internal.v1.opt" in settings["disabled_plugins"]


def test_pods_get_addresses_of_the_nodes_network(context: NodeContext) -> None:
    bridge, _ports = json.loads(config.network(context.pod_cidr))["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": context.pod_cidr}]]


def test_a_node_of_ipv6_filters_and_routes_ipv6_and_nothing_else(context: NodeContext) -> None:
    addresses, files = Addresses(7, ipv6=True), config.Files(ROOT / "node")
    six = replace(context, node_ip=addresses.node_ip, pod_cidr=addresses.pod_cidr)
    assert {"--enable-ipv6=true", "--enable-ipv4=false"} <= set(parts.kube_router(six, files).argv)
    assert {"--enable-ipv6=false", "--enable-ipv4=true"} <= set(parts.kube_router(context, files).argv)
    bridge, _ports = json.loads(config.network(six.pod_cidr))["plugins"]
    assert bridge["ipam"]["routes"] == [{"dst": "::/0"}]
    health = yaml.safe_load(config.kube_proxy(six))["healthzBindAddress"]
    assert urlsplit(f"http://{health}").hostname == addresses.node_ip


def test_services_are_left_to_one_program_and_policies_to_another(context: NodeContext) -> None:
    files = config.Files(ROOT / "node")
    assert yaml.safe_load(config.kube_proxy(context))["mode"] == "nftables"
    argv = parts.kube_router(context, files).argv
    assert {"--run-firewall=true", "--run-service-proxy=false", "--run-router=false"} <= set(argv)
    started = (
        parts.containerd(context, files),
        parts.kubelet(context, files),
        parts.kube_proxy(context, files),
        parts.kube_router(context, files),
    )
    assert tuple(part.name for part in started) == parts.COMPONENTS


@given(st.lists(st.ip_addresses(), max_size=4), st.lists(st.sampled_from(["search example.test", "# text", ""])))
def test_the_node_asks_the_machines_name_servers_but_for_those_it_can_not_reach(
    servers: list[object], others: list[str]
) -> None:
    text = "\n".join([*(f"nameserver {server}" for server in servers), *others])
    told = config.resolver(text).split()
    assert told[::2] == ["nameserver"] * (len(told) // 2)
    assert told[1::2] == [str(server) for server in servers if not ip_address(str(server)).is_loopback]


def test_without_name_servers_coredns_forwards_nothing() -> None:
    """CoreDNS does not start with `forward` and no server."""

    def corefile(forwards: bool) -> str:
        objects = manifests.resolver("image", "10.96.0.10", forwards)
        return next(str(one["data"]["Corefile"]) for one in objects if one["kind"] == "ConfigMap")

    assert "forward" not in corefile(False)
    assert "forward . /etc/resolv.conf" in corefile(True)


def test_the_resolver_is_called_what_policies_everywhere_call_it() -> None:
    objects = manifests.resolver("image", "10.96.0.10", True)
    [service] = [one for one in objects if one["kind"] == "Service"]
    [deployment] = [one for one in objects if one["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == service["spec"]["selector"] == {"k8s-app": "kube-dns"}
    assert (service["metadata"]["namespace"], service["metadata"]["name"]) == ("kube-system", "kube-dns")
    assert {port["containerPort"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]} == {53}


@pytest.mark.parametrize(
    ("manifest", "path"),
    [
        (manifests.storage_class(), "/apis/storage.k8s.io/v1/storageclasses"),
        (manifests.volume("one", Path("/v"), "node"), "/api/v1/persistentvolumes"),
        (manifests.policy_engine()[0], "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
        (manifests.resolver("i", "10.96.0.10", True)[-1], "/apis/apps/v1/namespaces/kube-system/deployments"),
    ],
)
def test_objects_go_to_their_collections(manifest: manifests.Manifest, path: str) -> None:
    assert collection(manifest) == path


@given(st.text(min_size=1, max_size=200))
def test_a_nodes_names_fit_the_kernel_whatever_the_clusters_directory_is_called(directory: str) -> None:
    names = Names.of(Layout(Path("/state") / directory.replace("\0", "")))
    # IFNAMSIZ is 16 with the terminating zero; an nftables table may have 256.
    assert len(names.link) <= 15
    assert names.table.replace("-", "").isalnum()


def test_clusters_of_one_name_in_different_places_have_different_nodes() -> None:
    one, other = (Names.of(Layout(Path(home) / "clusters" / "dev")) for home in ("/home/a", "/home/b"))
    assert {one.link, one.cgroup, one.table, one.directory}.isdisjoint(
        {other.link, other.cgroup, other.table, other.directory}
    )
