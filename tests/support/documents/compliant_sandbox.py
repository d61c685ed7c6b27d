"""A sandbox of which every control that is measured passes, in Production too; the tests change one thing at a time."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import compliant_gateway
from compliant_gateway import Gateways

from claude_sandbox.api import meta
from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import Compliance, EvidenceSource, Result
from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.evidence.pods import QUESTIONS, Access, KubernetesEvidence
from claude_sandbox.compliance.evidence.pods import Expected as ExpectedPod
from claude_sandbox.compliance.evidence.probes import Expected, KernelCall, ProbeReport, Subject, Tried
from claude_sandbox.compliance.evidence.readings import ClaudeCode, ManagedSettings, Reading, Unread
from claude_sandbox.compliance.reports.pods import findings, measure

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MAX_AGE = timedelta(minutes=5)
DIGEST = "sha256:" + "a" * 64
SETTINGS = ManagedSettings("/etc/claude-code", "managed-settings.json", '{"env":{}}')

Object = dict[str, Any]


KERNEL = tuple(KernelCall(name, "denied", "EPERM") for name in ("mount", "keyctl"))
GATEWAY = Tried("its gateway", Expected.ALLOWED, "connected")
API_SERVER = Tried("the API server", Expected.DENIED, "timeout", answers=True, subject=Subject.CLUSTER)
METADATA = Tried("metadata", Expected.DENIED_IF_THERE, "timeout", answers=True, subject=Subject.METADATA)
_PROBE = ProbeReport(True, (GATEWAY, API_SERVER, METADATA), kernel=KERNEL)


@dataclass
class World:
    """What the API server would answer, for the tests to change."""

    expected: ExpectedPod
    pod: Object
    namespace: Object
    policies: list[Object]
    services: list[Object]
    service_account: Object
    access: list[Access]
    runtime_class: Object | None
    quotas: list[Object]
    gateway: Gateways | None
    grants: list[Grant] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    slices: list[Object] = field(default_factory=list)
    minor: int = 34
    probe: ProbeReport = _PROBE

    @property
    def spec(self) -> Object:
        found: Object = self.pod["spec"]
        return found

    @property
    def agent(self) -> Object:
        found: Object = self.spec["containers"][0]
        return found

    @property
    def own_policy(self) -> Object:
        found: Object = self.policies[0]["spec"]
        return found

    def declare(self, **fields: Any) -> None:
        """Change what the sandbox declares."""
        self.expected = replace(self.expected, **fields)

    def add_volume(self, **source: Any) -> None:
        """Add a volume called `added`, which nothing mounts."""
        self.spec["volumes"].append({"name": "added", **source})

    def mount(self, **mount: Any) -> None:
        """Mount the volume `added` in the agent's container."""
        self.agent["volumeMounts"].append({"name": "added", "mountPath": "/added", **mount})

    def add_policy(self, **spec: Any) -> None:
        """Add somebody else's policy, which selects all pods."""
        self.policies.append(
            {"metadata": {"name": "other", "namespace": "agents"}, "spec": {"podSelector": {}, **spec}}
        )

    def evidence(self) -> KubernetesEvidence:
        def read(value: Any, source: EvidenceSource = EvidenceSource.LIVE_OBJECT) -> Reading[Any]:
            return Reading(value, source, NOW)

        return KubernetesEvidence(
            expected=self.expected,
            pod=read(self.pod),
            namespace=read(self.namespace),
            policies=read(tuple(self.policies)),
            services=read(tuple(self.services)),
            slices=read(tuple(self.slices)),
            service_account=read(self.service_account),
            access=read(tuple(self.access), EvidenceSource.ACCESS_REVIEW),
            grants=read(tuple(self.grants)),
            runtime_class=read(self.runtime_class),
            quotas=read(tuple(self.quotas)),
            gateway=read(self.gateway.evidence() if self.gateway is not None else None),
            drift=read(tuple(self.drift)),
            now=NOW,
            max_age=MAX_AGE,
            minor=self.minor,
            probe=read(self.probe, EvidenceSource.NETWORK_PROBE),
            probe_max_age=MAX_AGE,
        )


Mutation = Callable[[World], Any]


def changed(*mutations: Mutation) -> World:
    """The compliant sandbox after `mutations`."""
    world = compliant()
    for mutate in mutations:
        mutate(world)
    return world


def results(evidence: KubernetesEvidence) -> dict[str, Result]:
    """The result of each control by its identifier."""
    return {finding.control.id: finding.result for finding in findings(evidence)}


def reported(evidence: KubernetesEvidence) -> Compliance:
    """What the status says."""
    return measure(evidence)[0]


def is_compliant(evidence: KubernetesEvidence) -> tuple[str, str, str]:
    """What the `Compliant` condition says."""
    return measure(evidence)[1]


def without(evidence: KubernetesEvidence, *names: str) -> KubernetesEvidence:
    """The evidence as if these readings had been refused."""
    refused: dict[str, Any] = {name: Unread("forbidden") for name in names}
    return replace(evidence, **refused)


def compliant() -> World:
    """Everything as it should be."""
    return World(
        expected=ExpectedPod(
            service_account="sandbox-alice",
            api_key_secret="",
            container="agent",
            ports=(8080,),
            egress_cidrs=("192.0.2.0/24", "2001:db8::/48"),
            dns=True,
            image_digest=DIGEST,
            allowed_registries=("registry.example/sandboxes",),
            workspace_path="/workspace",
            workspace_read_only=False,
            workspace_claim="sandbox-alice-workspace",
            policy_names=frozenset({"sandbox-alice"}),
            service_names=frozenset({"sandbox-alice"}),
            profile=Profile.PRODUCTION,
            gateway=meta.GATEWAY,
            gateway_ports=(8443, 3128),
            gateway_host=meta.GATEWAY,
            provider_secret="anthropic",
            managed_settings=SETTINGS,
            claude_code=ClaudeCode(_IMAGE, "/opt/claude-sandbox"),
            plain_images=frozenset({_IMAGE, "registry.example/sandboxes/claude:1"}),
        ),
        pod=copy.deepcopy(_POD),
        namespace={
            "metadata": {
                "name": "agents",
                "labels": {
                    "kubernetes.io/metadata.name": "agents",
                    "pod-security.kubernetes.io/enforce": "restricted",
                },
            }
        },
        policies=[copy.deepcopy(_POLICY)],
        services=[
            {
                "metadata": {"name": "sandbox-alice"},
                "spec": {"type": "ClusterIP", "selector": {"sandbox": "alice"}, "ports": [{"port": 8080}]},
            }
        ],
        service_account={"metadata": {"name": "sandbox-alice"}, "automountServiceAccountToken": False},
        access=[Access(*question, allowed=False) for question in QUESTIONS],
        runtime_class={"metadata": {"name": "gvisor"}, "handler": "runsc"},
        quotas=[{"metadata": {"name": "bounds"}, "spec": {"hard": {"pods": "10"}}}],
        gateway=compliant_gateway.gateway(),
    )


def holds_its_key(world: World) -> None:
    """One whose key is mounted, and that has no gateway: it is compliant in Development."""
    world.declare(gateway=None, gateway_ports=(), gateway_host="", api_key_secret="anthropic")
    world.declare(profile=Profile.DEVELOPMENT)
    world.gateway = None
    world.spec["volumes"][2] = {"name": "api-key", "secret": {"secretName": "anthropic", "defaultMode": 0o440}}
    del world.spec["hostAliases"], world.pod["metadata"]["annotations"][meta.ANNOTATION_GATEWAY_AUTHORITY]
    del world.own_policy["egress"][2]


_IMAGE = f"registry.example/sandboxes/claude@{DIGEST}"

_POLICY: Object = {
    "metadata": {"name": "sandbox-alice", "namespace": "agents"},
    "spec": {
        "podSelector": {"matchLabels": {"sandbox": "alice"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 8080}]}],
        "egress": [
            {
                "to": [
                    {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                    }
                ],
                "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
            },
            {
                "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/48"}}],
                "ports": [{"protocol": "TCP", "port": 443}],
            },
            {
                "to": [{"podSelector": {"matchLabels": {meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}}}],
                "ports": [{"protocol": "TCP", "port": 8443}, {"protocol": "TCP", "port": 3128}],
            },
        ],
    },
}

_POD: Object = {
    "metadata": {
        "name": "sandbox-alice",
        "namespace": "agents",
        "labels": {"sandbox": "alice"},
        "annotations": {
            meta.ANNOTATION_MANAGED_SETTINGS: SETTINGS.content,
            meta.ANNOTATION_GATEWAY_AUTHORITY: compliant_gateway.AUTHORITY,
        },
    },
    "spec": {
        "serviceAccountName": "sandbox-alice",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "activeDeadlineSeconds": 3600,
        "hostUsers": False,
        "runtimeClassName": "gvisor",
        "hostAliases": [{"ip": compliant_gateway.ADDRESS, "hostnames": [meta.GATEWAY]}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "agent",
                "image": _IMAGE,
                "command": ["claude"],
                "args": ["--print", "make the tests pass"],
                "env": [
                    {"name": "HOME", "value": "/home/claude"},
                    {"name": "CLAUDE_CODE_API_KEY_HELPER_TTL_MS", "value": "1000"},
                ],
                "resources": {"limits": {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "8Gi"}},
                "ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "privileged": False,
                    "readOnlyRootFilesystem": True,
                },
                "livenessProbe": {"exec": {"command": ["claude", "--version"]}},
                "readinessProbe": {"exec": {"command": ["claude", "auth", "status"]}},
                "volumeMounts": [
                    {"name": "workspace", "mountPath": "/workspace"},
                    {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "api-key", "mountPath": "/run/api-key", "readOnly": True},
                    {"name": "settings", "mountPath": SETTINGS.directory, "readOnly": True},
                ],
            }
        ],
        "volumes": [
            {"name": "workspace", "persistentVolumeClaim": {"claimName": "sandbox-alice-workspace"}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
            {
                "name": "api-key",
                "projected": {
                    "defaultMode": 0o440,
                    "sources": [
                        {
                            "serviceAccountToken": {
                                "audience": meta.GATEWAY,
                                "expirationSeconds": 3600,
                                "path": "api-key",
                            }
                        }
                    ],
                },
            },
            {
                "name": "settings",
                "downwardAPI": {
                    "defaultMode": 0o444,
                    "items": [
                        {
                            "path": SETTINGS.file,
                            "fieldRef": {
                                "apiVersion": "v1",
                                "fieldPath": f"metadata.annotations['{meta.ANNOTATION_MANAGED_SETTINGS}']",
                            },
                        }
                    ],
                },
            },
        ],
    },
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "agent",
                "imageID": f"registry.example/sandboxes/claude@{DIGEST}",
                "user": {"linux": {"uid": 1000, "gid": 1000, "supplementalGroups": [1000]}},
                "resources": {"limits": {"cpu": "2", "memory": "2Gi"}},
            }
        ],
    },
}
