"""A real node for a local cluster, in namespaces of its own: containerd, kubelet, kube-proxy, NetworkPolicies."""

from claude_sandbox.localcluster.node.checks import health
from claude_sandbox.localcluster.node.lifecycle import BINARIES, attach, down, load_image, preflight, up
from claude_sandbox.localcluster.node.parts import COMPONENTS

__all__ = ["BINARIES", "COMPONENTS", "attach", "down", "health", "load_image", "preflight", "up"]
