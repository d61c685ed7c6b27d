"""A real node for a local cluster, in namespaces of its own: containerd, kubelet, kube-proxy, NetworkPolicies."""

from claude_sandbox.localcluster.node.lifecycle import (
    BINARIES,
    COMPONENTS,
    attach,
    down,
    health,
    load_image,
    preflight,
    up,
)

__all__ = ["BINARIES", "COMPONENTS", "attach", "down", "health", "load_image", "preflight", "up"]
