"""The node's long-running programs: how each is started. Nothing is run here."""

from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.context import NodeContext
from claude_sandbox.localcluster.network import is_ipv6
from claude_sandbox.localcluster.node.config import HEALTH_PORTS, Files
from claude_sandbox.localcluster.programs.os_packages import Needed

COMPONENTS = ("containerd", "kubelet", "kube-proxy", "kube-router")

# What of the distribution the node is made of, and works with.
NEEDED = Needed(
    ("containerd", "runc", "containernetworking-plugins", "iptables", "ipset", "conntrack", "nftables", "iproute2"),
    ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "iptables", "ip6tables", "iptables-save",
     "iptables-restore", "ipset", "conntrack", "nft", "ip", "nsenter", "unshare", "mount", "umount"),
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A program as it is to run; a change of one of the `inputs` calls for a restart."""

    name: str
    argv: tuple[str, ...]
    inputs: tuple[Path, ...]
    path: Path | None = None
    """A directory with programs that go before the machine's."""


def containerd(context: NodeContext, files: Files) -> Part:
    """The container runtime, on which the others rely."""
    argv = (str(context.binaries["containerd"]), "--config", str(files.containerd))
    return Part("containerd", argv, (files.containerd, files.network))


def kubelet(context: NodeContext, files: Files) -> Part:
    """The kubelet, which registers the node with the API server."""
    argv = (
        str(context.binaries["kubelet"]),
        f"--config={files.kubelet}",
        f"--kubeconfig={context.kubelet_kubeconfig}",
        f"--hostname-override={context.node_name}",
        f"--node-ip={context.node_ip}",
    )
    inputs = (files.kubelet, files.resolver, context.kubelet_kubeconfig, context.kubelet_certificate, context.ca)
    return Part("kubelet", argv, inputs)


def kube_proxy(context: NodeContext, files: Files) -> Part:
    """What makes the addresses of Services lead to pods."""
    argv = (str(context.binaries["kube-proxy"]), f"--config={files.kube_proxy}")
    return Part("kube-proxy", argv, (files.kube_proxy, context.kube_proxy_kubeconfig))


def kube_router(context: NodeContext, files: Files) -> Part:
    """The NetworkPolicy engine: kube-router with everything else it can do turned off.

    It ends where the API server doesn't know its node yet.
    """
    argv = (
        str(context.binaries["kube-router"]),
        f"--kubeconfig={context.kube_router_kubeconfig}",
        f"--hostname-override={context.node_name}",
        f"--service-cluster-ip-range={context.service_cidr}",
        f"--enable-ipv4={'false' if is_ipv6(context.node_ip) else 'true'}",
        f"--enable-ipv6={'true' if is_ipv6(context.node_ip) else 'false'}",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        "--run-loadbalancer=false",
        "--enable-cni=false",
        f"--health-port={HEALTH_PORTS['kube-router']}",
    )
    path = files.policy_programs if is_ipv6(context.node_ip) else None
    return Part("kube-router", argv, (context.kube_router_kubeconfig,), path)
