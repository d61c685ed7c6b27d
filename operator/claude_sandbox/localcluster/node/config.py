"""The configuration files of the node's programs. Nothing is read or run here."""

import json
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from claude_sandbox.localcluster.context import NodeContext
from claude_sandbox.localcluster.network import at, is_ipv6

# Where the node's programs find each other, in the node's own /run.
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
# The interface that all pods of the node are connected to; it exists in the node's network namespace only.
BRIDGE = "cni0"
# Where these answer whether they are well, on the node's address, without TLS.
HEALTH_PORTS = {"kube-proxy": 10256, "kube-router": 20244}
# kube-router 2.1 calls its sets of IPv6 inet6:KUBE-…, and in its rules KUBE-… alone, so that the kernel takes none of
# them (https://github.com/cloudnativelabs/kube-router/issues/1653). And it judges ICMPv6 by policies, so that a pod
# with one finds no neighbour; what else there is of ICMPv6, `near` stops. It finds this before the program itself.
IP6TABLES_RESTORE = r"""#!/bin/sh
sed -e 's/--match-set KUBE-/--match-set inet6:KUBE-/g' \
    -e '/^-A KUBE-ROUTER-.* -j KUBE-POD-FW-/{/ipv6-icmp/!s/ -\([sd]\) / ! -p ipv6-icmp -\1 /}' |
    PATH="${PATH#*:}" ip6tables-restore "$@"
"""
# Processes in one pod: what a sandbox is given by default.
POD_PIDS = 512


@dataclass(frozen=True)
class Files:
    """The configuration files' paths, below the node's directory."""

    directory: Path

    @property
    def containerd(self) -> Path:
        return self.directory / "containerd.toml"

    @property
    def network(self) -> Path:
        return self.directory / "cni" / "10-bridge.conflist"

    @property
    def kubelet(self) -> Path:
        return self.directory / "kubelet.yaml"

    @property
    def kube_proxy(self) -> Path:
        return self.directory / "kube-proxy.yaml"

    @property
    def resolver(self) -> Path:
        return self.directory / "resolv.conf"

    @property
    def policy_programs(self) -> Path:
        """Programs that the policy engine finds before the machine's."""
        return self.directory / "policy-programs"


def containerd(context: NodeContext, pause_image: str, plugins: Path, files: Files) -> str:
    """containerd's configuration: its own directories, our pause image, the distribution's CNI plugins."""
    runc, shim = context.binaries["runc"], context.binaries["containerd-shim-runc-v2"]
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
# "opt" would make /opt/containerd on the machine; the others need file systems that a node has no use for.
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause_image}"
# Without CAP_SYS_RESOURCE (in many a container) the pods' pause process could not be protected from the OOM killer.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{files.network.parent}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = "{shim}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
Root = "/run/containerd/runc"
SystemdCgroup = false
"""


def network(pod_cidr: str) -> str:
    """The pods' network: one bridge, addresses handed out on the node, and no masquerading (the machine does that)."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": pod_cidr}]],
            "routes": [{"dst": "::/0" if is_ipv6(pod_cidr) else "0.0.0.0/0"}],
            "dataDir": "/run/cni-addresses",
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}, indent=2)


def kubelet(context: NodeContext, files: Files, cgroup: str) -> str:
    """The kubelet's configuration: who may ask it, what a pod may use, and nothing that throws images away."""
    settings: dict[str, Any] = {
        "address": context.node_ip,
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(context.ca)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(context.kubelet_certificate),
        "tlsPrivateKeyFile": str(context.kubelet_key),
        "healthzBindAddress": "127.0.0.1",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "podPidsLimit": POD_PIDS,
        "clusterDNS": [context.cluster_dns_ip],
        "clusterDomain": "cluster.local",
        "resolvConf": str(files.resolver),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        # The node shares the machine's disk: it gives way only when that is all but full.
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
        # No registry has the images that were loaded; once collected they could not be had again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }
    return _component("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", settings)


def kube_proxy(context: NodeContext) -> str:
    """kube-proxy's configuration: nftables, which leaves iptables to the NetworkPolicy engine."""
    settings: dict[str, Any] = {
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(context.kube_proxy_kubeconfig)},
        "clusterCIDR": context.pod_cidr,
        "hostnameOverride": context.node_name,
        "bindAddress": context.node_ip,
        "healthzBindAddress": at(context.node_ip, HEALTH_PORTS["kube-proxy"]),
        "metricsBindAddress": "127.0.0.1:10249",
        # The kernel's limits belong to the machine.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    return _component("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", settings)


def resolver(machine: str) -> str:
    """The node's resolv.conf: the machine's name servers (in the text of its own), but for those on its loopback."""
    servers = [words[1] for line in machine.splitlines() if (words := line.split())[:1] == ["nameserver"]]
    return "".join(f"nameserver {server}\n" for server in servers if not _loopback(server))


def _loopback(server: str) -> bool:
    try:
        return ip_address(server).is_loopback
    except ValueError:
        # With a zone (fe80::1%eth0): an interface that the node doesn't have.
        return True


def _component(api_version: str, kind: str, settings: dict[str, Any]) -> str:
    text: str = yaml.safe_dump({"apiVersion": api_version, "kind": kind, **settings}, sort_keys=False)
    return text
