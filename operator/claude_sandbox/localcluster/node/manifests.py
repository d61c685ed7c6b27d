"""What a cluster with a node has from the beginning: a resolver, storage, and the policy engine's rights."""

from pathlib import Path
from typing import Any

VOLUMES = 32
VOLUME_SIZE = "10Gi"
STORAGE_CLASS = "standard"
DNS_DEPLOYMENT = "coredns"

Manifest = dict[str, Any]

_DNS_LABELS = {"k8s-app": "kube-dns"}
_DNS_PORTS = (("dns", "UDP"), ("dns-tcp", "TCP"))
_COREFILE = """\
.:53 {
    errors
    health {
        lameduck 1s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
%s    cache 30
    loadbalance
}
"""


def resolver(image: str, service_ip: str, forwards: bool) -> tuple[Manifest, ...]:
    """CoreDNS under the names and labels that it has in clusters everywhere, so that policies can name it.

    With `forwards` it asks the node's name servers what it doesn't know; CoreDNS does not start without any.
    """
    kube_system = {"name": DNS_DEPLOYMENT, "namespace": "kube-system"}
    corefile = _COREFILE % ("    forward . /etc/resolv.conf\n" if forwards else "")
    reads = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    account = {"kind": "ServiceAccount", **kube_system}
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": kube_system},
        *_role("claude-sandbox:coredns", reads, account),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": kube_system, "data": {"Corefile": corefile}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": _DNS_LABELS},
            "spec": {
                "clusterIP": service_ip,
                "selector": _DNS_LABELS,
                "ports": [
                    {"name": name, "port": 53, "protocol": protocol, "targetPort": 53} for name, protocol in _DNS_PORTS
                ],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**kube_system, "labels": _DNS_LABELS},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": _DNS_LABELS},
                "template": {"metadata": {"labels": _DNS_LABELS}, "spec": _resolver_pod(image)},
            },
        },
    )


def _resolver_pod(image: str) -> Manifest:
    return {
        "serviceAccountName": DNS_DEPLOYMENT,
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            # Port 53 without a capability.
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}],
        },
        "containers": [
            {
                "name": DNS_DEPLOYMENT,
                "image": image,
                "imagePullPolicy": "Never",
                "args": ["-conf", "/etc/coredns/Corefile"],
                "ports": [{"name": name, "containerPort": 53, "protocol": protocol} for name, protocol in _DNS_PORTS],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
                "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "initialDelaySeconds": 30},
                "resources": {"requests": {"cpu": "10m", "memory": "30Mi"}, "limits": {"memory": "170Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
                "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "config", "configMap": {"name": DNS_DEPLOYMENT}}],
    }


def storage_class() -> Manifest:
    """The default class: volumes that are there already, bound when a pod that wants one is scheduled."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
        # There is nobody who could delete a volume; `cluster up` makes released ones new.
        "reclaimPolicy": "Retain",
    }


def volume(name: str, directory: Path, node: str) -> Manifest:
    """A directory of the node as a PersistentVolume."""
    hostname = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": str(directory)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [hostname]}]}},
        },
    }


def policy_engine() -> tuple[Manifest, ...]:
    """What kube-router reads to enforce NetworkPolicies."""
    reads = [
        {
            "apiGroups": [""],
            "resources": ["namespaces", "pods", "services", "nodes", "endpoints"],
            "verbs": ["get", "list", "watch"],
        },
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
    ]
    user = {"kind": "User", "name": "system:kube-router", "apiGroup": "rbac.authorization.k8s.io"}
    return _role("claude-sandbox:kube-router", reads, user)


def _role(name: str, rules: list[Manifest], subject: Manifest) -> tuple[Manifest, Manifest]:
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [subject],
    }
    return role, binding
