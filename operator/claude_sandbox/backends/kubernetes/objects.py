"""A blueprint as Kubernetes objects. Pure: golden documents for the tests."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes import hardening, tools
from claude_sandbox.backends.kubernetes.ownership import owner_reference
from claude_sandbox.backends.kubernetes.room import with_room
from claude_sandbox.blueprint import agent, repositories
from claude_sandbox.blueprint.model import Amounts, Blueprint, EgressBlock, Git, Probe, Volume
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, annotations

CONTAINER = "agent"
CLONE_CONTAINER = "clone"
KEPT_HOME = "kept-home"
TOKEN_SECONDS = 3600
"""How long what the gateway knows a sandbox by is good for; the kubelet replaces it in time."""
# Whatever is asked for a name gets an error at once, instead of waiting for a resolver that no packet reaches.
_NO_RESOLVER: Manifest = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}

# The labels that kubeadm, kind, k3s and the managed offerings give their resolver.
RESOLVER_PEER: Manifest = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}


def labels(blueprint: Blueprint) -> dict[str, str]:
    """What every object of the sandbox carries. For finding, never for trusting."""
    return {
        meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
        meta.LABEL_SANDBOX: blueprint.identity.name,
        meta.LABEL_SANDBOX_UID: blueprint.identity.uid,
    }


def service_account(blueprint: Blueprint) -> Manifest:
    """An identity of its own, which nobody gave any rights, and without a token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(blueprint, meta.child_name(blueprint.identity.name)),
        "automountServiceAccountToken": False,
    }


def network_policy(blueprint: Blueprint) -> Manifest:
    """Default deny both ways, and the declared exceptions."""
    metadata = _metadata(blueprint, meta.child_name(blueprint.identity.name))
    return hardening.network_policy(
        metadata, {"matchLabels": _selector(blueprint)}, _ingress(blueprint), _egress(blueprint)
    )


def baseline_policy(namespace: str) -> Manifest:
    """Denies everything to every sandbox of the namespace; belongs to no single sandbox."""
    metadata = {
        "name": meta.BASELINE_POLICY,
        "namespace": namespace,
        "labels": {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, meta.LABEL_COMPONENT: "baseline"},
    }
    every_sandbox = {"matchExpressions": [{"key": meta.LABEL_SANDBOX, "operator": "Exists"}]}
    return hardening.network_policy(metadata, every_sandbox)


def service(blueprint: Blueprint) -> Manifest | None:
    """A name for the declared ports, or None where none is declared."""
    if not blueprint.network.ports:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(blueprint, meta.child_name(blueprint.identity.name)),
        "spec": {
            "type": "ClusterIP",
            "selector": _selector(blueprint),
            "ports": [
                {"name": port.name, "port": port.number, "targetPort": port.number, "protocol": "TCP"}
                for port in blueprint.network.ports
            ],
        },
    }


def claim(blueprint: Blueprint) -> Manifest | None:
    """The workspace's claim, or None where the workspace is as short-lived as the pod."""
    volume = blueprint.workspace.volume
    return None if volume is None else _claim(blueprint, _workspace_claim(blueprint), volume)


def home_claim(blueprint: Blueprint) -> Manifest | None:
    """The claim of what is kept of the home, or None where nothing is."""
    kept = blueprint.kept_home
    return None if kept is None else _claim(blueprint, _home_claim(blueprint), kept.volume)


def _workspace_claim(blueprint: Blueprint) -> str:
    return meta.workspace_name(blueprint.identity.name, blueprint.identity.workspace)


def _home_claim(blueprint: Blueprint) -> str:
    return meta.home_name(blueprint.identity.name, blueprint.identity.workspace)


def _claim(blueprint: Blueprint, name: str, volume: Volume) -> Manifest:
    """A claim that is to outlive the sandbox has no owner reference: the garbage collector would delete it."""
    metadata = _metadata(blueprint, name)
    if volume.retain:
        del metadata["ownerReferences"]
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": volume.size}},
    }
    if volume.storage_class is not None:
        spec["storageClassName"] = volume.storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


@dataclass(frozen=True)
class Endpoint:
    """What a pod has to know of its gateway: where it is, and whom to believe that it is the one (PEM)."""

    address: str
    authority: str


def known_endpoint(pod: Object) -> Endpoint | None:
    """What a sandbox's pod knows of its gateway; None for one that has none."""
    authority = annotations(pod).get(meta.ANNOTATION_GATEWAY_AUTHORITY, "")
    for alias in (pod.get("spec") or {}).get("hostAliases") or ():
        if agent.GATEWAY_HOST in (alias.get("hostnames") or ()):
            return Endpoint(str(alias.get("ip")), authority)
    return None


def pod(
    blueprint: Blueprint, key_generation: str | None, gateway: Endpoint | None = None, *, image_volumes: bool = False
) -> Manifest:
    """The workload. Passes the `restricted` Pod Security Standard. `gateway`: for one that does not hold its key.

    `image_volumes`: whether the cluster mounts images, by which Claude Code comes into an image that lacks it.
    """
    metadata = _metadata(blueprint, meta.child_name(blueprint.identity.name))
    spec = _pod_spec(blueprint)
    if blueprint.tools is not None:
        spec = tools.brought_into(spec, blueprint.tools, image_volumes=image_volumes)
    if gateway is not None:
        # No resolver is asked for it, and none has to be reached.
        spec["hostAliases"] = [{"ip": gateway.address, "hostnames": [agent.GATEWAY_HOST]}]
    metadata["annotations"] = {
        meta.ANNOTATION_MANAGED_SETTINGS: blueprint.settings.content,
        **{meta.file_annotation(path): text for path, text in blueprint.settings.files},
        meta.ANNOTATION_SPEC_HASH: spec_hash(spec, blueprint.settings.pins),
        **({meta.ANNOTATION_KEY_GENERATION: key_generation} if key_generation else {}),
        **({meta.ANNOTATION_GATEWAY_AUTHORITY: gateway.authority} if gateway else {}),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def spec_hash(spec: Mapping[str, Any], pins: str) -> str:
    """Tells two desired pods apart: whether a running one was made from what is asked for now.

    What ConfigMaps tell is not part of that: it comes into a running pod in place.
    """
    return hashlib.sha256(orjson.dumps([spec, pins], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _metadata(blueprint: Blueprint, name: str) -> Manifest:
    return {
        "name": name,
        "namespace": blueprint.identity.namespace,
        "labels": labels(blueprint),
        "ownerReferences": [owner_reference(blueprint.identity)],
    }


def _selector(blueprint: Blueprint) -> dict[str, str]:
    return {meta.LABEL_SANDBOX: blueprint.identity.name, meta.LABEL_SANDBOX_UID: blueprint.identity.uid}


def _ingress(blueprint: Blueprint) -> list[Manifest]:
    if not blueprint.network.ports:
        return []
    # An empty pod selector is every pod of the policy's own namespace.
    return [
        {
            "from": [{"podSelector": {}}],
            "ports": [{"protocol": "TCP", "port": port.number} for port in blueprint.network.ports],
        }
    ]


def _egress(blueprint: Blueprint) -> list[Manifest]:
    rules: list[Manifest] = []
    if blueprint.network.dns:
        ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
        rules.append({"to": [RESOLVER_PEER], "ports": ports})
    if blueprint.network.egress:
        peers = [{"ipBlock": _block(block)} for block in blueprint.network.egress]
        ports = [{"protocol": "TCP", "port": port} for port in blueprint.network.egress_ports]
        rules.append({"to": peers, "ports": ports})
    if blueprint.gateway is not None:
        to = {"podSelector": {"matchLabels": {meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}}}
        ports = [{"protocol": "TCP", "port": port} for port in (agent.TLS_BROKER_PORT, agent.PROXY_PORT)]
        rules.append({"to": [to], "ports": ports})
    return rules


def _block(block: EgressBlock) -> Manifest:
    return {"cidr": block.cidr, **({"except": list(block.excepted)} if block.excepted else {})}


def _pod_spec(blueprint: Blueprint) -> Manifest:
    return {
        "serviceAccountName": meta.child_name(blueprint.identity.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": blueprint.grace_seconds,
        **_chosen(blueprint),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": blueprint.user.uid,
            "runAsGroup": blueprint.user.gid,
            "fsGroup": blueprint.user.gid,
            "fsGroupChangePolicy": "OnRootMismatch",
            **({"supplementalGroupsPolicy": "Strict"} if blueprint.strict_groups else {}),
            **profiles(blueprint),
        },
        **({"initContainers": [_clone(blueprint, blueprint.git)]} if blueprint.git is not None else {}),
        "containers": [_container(blueprint)],
        "volumes": _volumes(blueprint),
        **(_NO_RESOLVER if blueprint.gateway is not None and not blueprint.network.dns else {}),
    }


def profiles(blueprint: Blueprint) -> Manifest:
    """What the kernel holds every container of the sandbox to, and what stands for it: of a pod's securityContext."""
    filtered = {"type": "RuntimeDefault"}
    if blueprint.seccomp_file is not None:
        filtered = hardening.localhost(blueprint.seccomp_file)
    found: Manifest = {"seccompProfile": filtered}
    if (wanted := blueprint.app_armor) is not None:
        name = wanted.localhost_profile
        found["appArmorProfile"] = hardening.RUNTIME_DEFAULT if name is None else hardening.localhost(name)
    return found


def _chosen(blueprint: Blueprint) -> Manifest:
    """What a pod has only where its sandbox asks for it."""
    chosen: Manifest = {}
    if blueprint.image.pull_secrets:
        chosen["imagePullSecrets"] = [{"name": name} for name in blueprint.image.pull_secrets]
    if blueprint.runtime_class is not None:
        chosen["runtimeClassName"] = blueprint.runtime_class
    if blueprint.user_namespace:
        chosen["hostUsers"] = False
    return chosen


def _container(blueprint: Blueprint) -> Manifest:
    ready = blueprint.readiness
    container: Manifest = {
        "name": CONTAINER,
        "image": blueprint.image.reference,
        "imagePullPolicy": blueprint.image.pull_policy,
        "workingDir": blueprint.workspace.path,
        "env": [{"name": name, "value": value} for name, value in blueprint.environment],
        "resources": {"requests": _amounts(blueprint.requests), "limits": _amounts(blueprint.limits)},
        "securityContext": hardening.hardened_container(),
        "startupProbe": _probe(blueprint.startup),
        "readinessProbe": _probe(replace(ready, command=tuple(with_room(blueprint, ready.command)))),
        "livenessProbe": _probe(blueprint.liveness),
        "volumeMounts": _mounts(blueprint),
    }
    if blueprint.command:
        container["command"] = list(blueprint.command)
    if blueprint.args:
        container["args"] = list(blueprint.args)
    if blueprint.network.ports:
        container["ports"] = [
            {"name": port.name, "containerPort": port.number, "protocol": "TCP"} for port in blueprint.network.ports
        ]
    return container


def _clone(blueprint: Blueprint, git: Git) -> Manifest:
    """What clones the repositories before the agent starts: as confined as the agent is, and never of its image."""
    environment = (
        *agent.environment(agent.BY_TLS_GATEWAY).items(),
        *agent.git_environment(repositories.GIT_CONFIG).items(),
        (repositories.REPOSITORIES_VARIABLE, repositories.wishes(git.clones)),
    )
    return {
        "name": CLONE_CONTAINER,
        "image": git.image.reference,
        "imagePullPolicy": git.image.pull_policy,
        "command": list(repositories.CLONE_COMMAND),
        "workingDir": blueprint.workspace.path,
        "env": [{"name": name, "value": value} for name, value in environment],
        "resources": {"requests": _amounts(blueprint.requests), "limits": _amounts(blueprint.limits)},
        "securityContext": hardening.hardened_container(),
        # The agent may have its workspace read-only; it is filled here.
        "volumeMounts": [
            {k: v for k, v in mount.items() if k != "readOnly" or mount["name"] != "workspace"}
            for mount in _mounts(blueprint)
        ],
    }


def _amounts(amounts: Amounts) -> dict[str, str]:
    return {
        "cpu": f"{amounts.cpu_millicores}m",
        "memory": str(amounts.memory),
        "ephemeral-storage": str(amounts.ephemeral_storage),
    }


def _probe(probe: Probe) -> Manifest:
    return {
        "exec": {"command": list(probe.command)},
        "periodSeconds": probe.period,
        "timeoutSeconds": probe.timeout,
        "failureThreshold": probe.failures,
    }


def _mounts(blueprint: Blueprint) -> list[Manifest]:
    workspace: Manifest = {"name": "workspace", "mountPath": blueprint.workspace.path}
    if blueprint.workspace.read_only:
        workspace["readOnly"] = True
    return [
        workspace,
        *({"name": scratch.name, "mountPath": scratch.path} for scratch in blueprint.scratch),
        *([] if blueprint.kept_home is None else [{"name": KEPT_HOME, "mountPath": blueprint.kept_home.path}]),
        {"name": "api-key", "mountPath": blueprint.key.directory, "readOnly": True},
        {"name": "settings", "mountPath": blueprint.settings.directory, "readOnly": True},
        *(
            [{"name": "gateway", "mountPath": agent.GATEWAY_DIRECTORY, "readOnly": True}]
            if blueprint.gateway is not None
            else []
        ),
    ]


def _volumes(blueprint: Blueprint) -> list[Manifest]:
    workspace: Manifest = {"name": "workspace"}
    if blueprint.workspace.volume is None:
        workspace["emptyDir"] = {"sizeLimit": str(blueprint.workspace.size)}
    else:
        workspace["persistentVolumeClaim"] = {"claimName": _workspace_claim(blueprint)}
    files = (
        (blueprint.settings.file, meta.ANNOTATION_MANAGED_SETTINGS),
        *((path, meta.file_annotation(path)) for path, _ in blueprint.settings.files),
    )
    settings = [
        {"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}} for path, annotation in files
    ]
    return [
        workspace,
        *(
            {"name": scratch.name, "emptyDir": {"medium": "Memory", "sizeLimit": str(scratch.size)}}
            for scratch in blueprint.scratch
        ),
        *([] if blueprint.kept_home is None else [_kept(_home_claim(blueprint))]),
        _credential(blueprint),
        # The pod's own annotations as files: no other object that could drift or be forgotten.
        {"name": "settings", "downwardAPI": {"defaultMode": 0o444, "items": settings}},
        *([_authority()] if blueprint.gateway is not None else []),
    ]


def _kept(claim: str) -> Manifest:
    return {"name": KEPT_HOME, "persistentVolumeClaim": {"claimName": claim}}


def _credential(blueprint: Blueprint) -> Manifest:
    """The key; or, where the gateway has it, what the gateway knows the sandbox by and nobody else takes."""
    # Files of a Secret belong to root; fsGroup makes them readable by the agent's group, and the kubelet
    # adds that bit whatever is asked: 0440 is the tightest that a non-root user can read.
    if blueprint.gateway is None:
        key = {"key": blueprint.key.key, "path": blueprint.key.file}
        return {
            "name": "api-key",
            "secret": {"secretName": blueprint.key.secret, "defaultMode": 0o440, "items": [key]},
        }
    token = {"audience": meta.GATEWAY, "expirationSeconds": TOKEN_SECONDS, "path": blueprint.key.file}
    return {"name": "api-key", "projected": {"defaultMode": 0o440, "sources": [{"serviceAccountToken": token}]}}


def _authority() -> Manifest:
    field = {"fieldPath": f"metadata.annotations['{meta.ANNOTATION_GATEWAY_AUTHORITY}']"}
    item = {"path": agent.GATEWAY_FILE, "fieldRef": field}
    return {"name": "gateway", "downwardAPI": {"defaultMode": 0o444, "items": [item]}}
