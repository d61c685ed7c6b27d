"""What the control plane hands to the node."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.layout import Layout


@dataclass(frozen=True)
class NodeContext:
    """All that a node of the cluster needs to know. Every path is absolute and readable by root only.

    The node has a network namespace of its own, joined to the machine by a point-to-point link:
    `gateway_ip` is the machine's end, where the API server listens, `node_ip` the node's. What the
    node's proxies and policies write therefore never touches the machine's own rules, two nodes don't
    meet, and the namespace's end is the end of everything in it.
    """

    layout: Layout
    """The cluster's files; the node's own go below `layout.node`, logs in `layout.logs`."""
    binaries: Mapping[str, Path]
    """Built programs by name: kubelet, kube-proxy, kube-router, containerd with its shim, runc."""
    kubernetes_version: str
    """For example `1.34.4`."""
    server: str
    """The API server's URL, the same from the machine and from the node."""
    admin_kubeconfig: Path
    kubelet_kubeconfig: Path
    """User `system:node:NODE_NAME`, group `system:nodes`."""
    kube_proxy_kubeconfig: Path
    """User `system:kube-proxy`, which the API server's default roles know."""
    kube_router_kubeconfig: Path
    """User `system:kube-router`; its role is the node's to apply."""
    ca: Path
    """The CA of the API server's and the kubelet's serving certificates and of all client certificates."""
    kubelet_certificate: Path
    """Serving certificate for `node_name` and `node_ip`."""
    kubelet_key: Path
    service_cidr: str
    cluster_dns_ip: str
    pod_cidr: str
    """The node's share, which is the whole cluster's, since there is one node."""
    link_cidr: str
    gateway_ip: str
    node_ip: str
    node_name: str
