"""The gateway of a namespace as Kubernetes objects. Pure.

They belong to no single sandbox: there with the first that has its key brokered, gone with the last. The program's
configuration, which holds no secret, is an annotation of its pods, mounted by the downward API: a change of it is a
change of the pods, and no further object could drift or be forgotten.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes import hardening
from claude_sandbox.blueprint import agent
from claude_sandbox.blueprint.model import Image
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object

AUDIENCE = meta.GATEWAY
"""For whom the tokens of sandboxes are. The API server takes none of them."""
BROKER_PORT, PROXY_PORT, HEALTH_PORT = agent.TLS_BROKER_PORT, agent.PROXY_PORT, 8081
REPLICAS = 2
CONTAINER = "gateway"
"""The name of the program's container in a pod."""
LINGER_SECONDS = 5
"""How long a pod that is to end takes what is new: nodes hear a little later that nothing goes there any more."""
_KNOWN_SECONDS = 2
"""How long a pod has to be ready before it counts: until nodes have heard that it is there."""
_DRAIN_SECONDS = 3600
"""How long it then goes on with the streams that it has, unless `limits.drainSeconds` says otherwise; it ends as soon
as there are none."""
_END_SECONDS = 15
"""What it has after that to write what it knows."""

_USER = 65532
_TLS_DIRECTORY = "/run/gateway/tls"
_CONFIGURATION = "/run/gateway/configuration"
_SECRETS = "/run/gateway/secrets"
_PUSHES = "/var/spool/gateway"
PUSHES = "pushes"
"""The volume in which pushes are while they are read."""
_PUSH_BYTES = 256 << 20
"""Bytes of a push, unless `limits.pushBytes` says otherwise. Four are read at a time, each of which may be as large."""
_AT_ONCE = 4
_MIB = 1 << 20
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_PROGRAM = ["python3", "-I", "-m", "claude_sandbox.gateway", "--config", f"{_CONFIGURATION}/gateway.json"]
_RBAC = "rbac.authorization.k8s.io"
# What a token of the API server's own audience needs to be renewed in time, as the kubelet mounts it by itself.
_TOKEN_SECONDS = 3607

SELECTOR: Mapping[str, str] = {meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}
"""The labels of the gateway's pods, in the namespace."""


@dataclass(frozen=True)
class Brokering:
    """What administrators give for gateways: their image, and what holds for all of them, in the gateway's own format
    (`provider`, `egress`, `limits`). Without an image no gateway is made."""

    image: Image | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """What the gateway of a namespace is made for.

    `secrets`: those of its sandboxes' keys, each of which opted in. `mounted`: they are mounted, since nobody may read
    Secrets by the API. `certificate`: tells one certificate from the next. `address`: the one that running sandboxes
    know the gateway by; None: any. `pods`: it lends by the addresses of pods, and has to see which have them.
    """

    namespace: str
    secrets: frozenset[str]
    mounted: bool
    certificate: str
    address: str | None = None
    pods: bool = False


def service_account(namespace: str) -> Manifest:
    """The gateway's own identity."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(namespace),
        "automountServiceAccountToken": False,
    }


def role(wish: Wish) -> Manifest:
    """Which sandboxes there are, their accounts, their pods where those are needed, and of Secrets those by name that
    they use."""
    rules: list[Manifest] = [
        {"apiGroups": [meta.GROUP], "resources": [meta.PLURAL], "verbs": ["list", "watch"]},
        {"apiGroups": [meta.GROUP], "resources": [meta.USAGE_PLURAL], "verbs": ["get", "create", "update"]},
    ]
    if wish.pods:
        rules.append({"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]})
    if wish.secrets and not wish.mounted:
        named = sorted(wish.secrets)
        rules.append({"apiGroups": [""], "resources": ["secrets"], "resourceNames": named, "verbs": ["get", "watch"]})
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": _metadata(wish.namespace),
        "rules": rules,
    }


def granted_secrets(live: Object | None) -> frozenset[str]:
    """The Secrets that a live Role lets the gateway read."""
    rules = (live or {}).get("rules") or ()
    return frozenset(name for rule in rules if "secrets" in rule["resources"] for name in rule.get("resourceNames", ()))


def role_binding(namespace: str) -> Manifest:
    """Gives the role to the gateway's account."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": _metadata(namespace),
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": meta.GATEWAY},
        "subjects": [{"kind": "ServiceAccount", "name": meta.GATEWAY, "namespace": namespace}],
    }


def network_policy(namespace: str) -> Manifest:
    """Sandboxes of the namespace may connect, and the operator to the page that tells of it. The gateway itself may
    connect anywhere: which destinations are good is what the program decides, by what names resolve to."""
    sandboxes = {"podSelector": {"matchExpressions": [{"key": meta.LABEL_SANDBOX, "operator": "Exists"}]}}
    ingress = [{"from": [sandboxes], "ports": _ports(BROKER_PORT, PROXY_PORT)}]
    return hardening.network_policy(_metadata(namespace), {"matchLabels": dict(SELECTOR)}, ingress, [{}])


def service(wish: Wish) -> Manifest:
    """One address for both replicas, which sandboxes know by the file of hosts in their pods."""
    spec: Manifest = {
        "type": "ClusterIP",
        "selector": dict(SELECTOR),
        "ports": [
            {"name": "broker", "port": BROKER_PORT, "targetPort": BROKER_PORT, "protocol": "TCP"},
            {"name": "proxy", "port": PROXY_PORT, "targetPort": PROXY_PORT, "protocol": "TCP"},
        ],
    }
    if wish.address is not None:
        spec["clusterIP"] = wish.address
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(wish.namespace), "spec": spec}


def disruption_budget(namespace: str) -> Manifest:
    """Of the two, one goes on while nodes are drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(namespace),
        "spec": {"minAvailable": 1, "selector": {"matchLabels": dict(SELECTOR)}},
    }


def deployment(wish: Wish, given: Brokering) -> Manifest:
    """The program, twice. Passes the `restricted` Pod Security Standard."""
    assert given.image is not None  # noqa: S101 - who calls has looked
    template: Manifest = {
        "metadata": {
            "labels": {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, **SELECTOR},
            "annotations": {
                meta.ANNOTATION_GATEWAY: configuration(given, mounted=wish.mounted),
                meta.ANNOTATION_GATEWAY_CERTIFICATE: wish.certificate,
            },
        },
        "spec": _pod_spec(wish, given, given.image),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(wish.namespace),
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": dict(SELECTOR)},
            "revisionHistoryLimit": 1,
            # As long as nodes know of no pod that takes requests, they lead to those that end; of a gateway that was
            # removed and made anew these have another authority's certificate.
            "minReadySeconds": _KNOWN_SECONDS,
            # Never fewer than both, so that nobody waits for a new one.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template,
        },
    }


def configuration(given: Brokering, *, mounted: bool) -> str:
    """The program's configuration, as compact JSON."""
    tls = {"certificateFile": f"{_TLS_DIRECTORY}/tls.crt", "keyFile": f"{_TLS_DIRECTORY}/tls.key"}
    everywhere = "*"  # the pod's own addresses, of both families; the NetworkPolicy says who may connect
    cluster: Manifest = {"audience": AUDIENCE}
    if mounted:
        cluster["secretsDirectory"] = _SECRETS
    document = {
        "version": 1,
        "listen": {
            "broker": {"host": everywhere, "port": BROKER_PORT, **tls},
            "proxy": {"host": everywhere, "port": PROXY_PORT},
            "health": {"host": everywhere, "port": HEALTH_PORT},
        },
        "spoolDirectory": _PUSHES,
        **given.settings,
        "limits": {**(given.settings.get("limits") or {}), **_limits_of_pushes(given)},
        "kubernetes": cluster,
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()


def _limits_of_pushes(given: Brokering) -> dict[str, int]:
    """`pushBytes`, and `spoolBytes` for as many at once as there may be, as administrators have them."""
    limits = given.settings.get("limits") or {}
    each = int(limits.get("pushBytes", _PUSH_BYTES))
    return {
        "pushBytes": each,
        "spoolBytes": int(limits.get("spoolBytes", each * int(limits.get("pushesAtOnce", _AT_ONCE)))),
    }


def grace_seconds(given: Brokering) -> int:
    """How long a pod has from when it is told to end, in seconds."""
    drain = (given.settings.get("limits") or {}).get("drainSeconds", _DRAIN_SECONDS)
    return LINGER_SECONDS + int(drain) + _END_SECONDS


def fingerprint(certificate: str) -> str:
    """Tells certificates apart, in an annotation."""
    return hashlib.sha256(certificate.encode()).hexdigest()[:32]


def _metadata(namespace: str) -> Manifest:
    labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, **SELECTOR}
    return {"name": meta.GATEWAY, "namespace": namespace, "labels": labels}


def _ports(*numbers: int) -> list[Manifest]:
    return [{"protocol": "TCP", "port": number} for number in numbers]


def _pod_spec(wish: Wish, given: Brokering, image: Image) -> Manifest:
    return {
        "serviceAccountName": meta.GATEWAY,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(given),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(wish, given, image)],
        "volumes": [*_own_volumes(), _spool_volume(given), *(_secret_volume(name) for name in _mounts_of(wish))],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": dict(SELECTOR)},
            }
        ],
    }


def _container(wish: Wish, given: Brokering, image: Image) -> Manifest:
    disk = 64 + _spool_mib(given)
    return {
        "name": CONTAINER,
        "image": image.reference,
        "imagePullPolicy": image.pull_policy,
        "command": _PROGRAM,
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"}
            for name, port in (("broker", BROKER_PORT), ("proxy", PROXY_PORT), ("health", HEALTH_PORT))
        ],
        # The program takes some 70 MiB; hundreds of requests at once, with bodies that are judged, the rest.
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "8Mi"},
            "limits": {"cpu": "2", "memory": "512Mi", "ephemeral-storage": f"{disk}Mi"},
        },
        "securityContext": hardening.hardened_container(),
        # Asked at once it does not listen yet, and the first sandbox of a namespace waits for when it is asked again.
        "readinessProbe": _probe("/readyz", period=1, failures=6),
        "livenessProbe": _probe("/healthz", period=20, failures=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": LINGER_SECONDS}}},
        "volumeMounts": [
            {"name": "configuration", "mountPath": _CONFIGURATION, "readOnly": True},
            {"name": "tls", "mountPath": _TLS_DIRECTORY, "readOnly": True},
            {"name": "account", "mountPath": _ACCOUNT, "readOnly": True},
            {"name": PUSHES, "mountPath": _PUSHES},
            *(
                {"name": _volume_name(name), "mountPath": f"{_SECRETS}/{name}", "readOnly": True}
                for name in _mounts_of(wish)
            ),
        ],
    }


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": HEALTH_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _own_volumes() -> list[Manifest]:
    annotation = {"fieldPath": f"metadata.annotations['{meta.ANNOTATION_GATEWAY}']"}
    space = {"fieldPath": "metadata.namespace"}
    files = [{"key": name, "path": name} for name in ("tls.crt", "tls.key")]
    return [
        {
            "name": "configuration",
            "downwardAPI": {"defaultMode": 0o444, "items": [{"path": "gateway.json", "fieldRef": annotation}]},
        },
        # Without the authority's key, which is in the Secret too.
        {"name": "tls", "secret": {"secretName": meta.GATEWAY_TLS, "defaultMode": 0o440, "items": files}},
        {
            "name": "account",
            "projected": {
                "defaultMode": 0o440,
                "sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_SECONDS}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": space}]}},
                ],
            },
        },
    ]


def _spool_volume(given: Brokering) -> Manifest:
    # On the node's disk: in memory it would count as the program's. The files in it have no names, so that the kubelet
    # does not see them: it is the program that holds to the bound, and the kubelet to what has a name.
    return {"name": PUSHES, "emptyDir": {"sizeLimit": f"{_spool_mib(given)}Mi"}}


def _spool_mib(given: Brokering) -> int:
    return -(-_limits_of_pushes(given)["spoolBytes"] // _MIB)


def _mounts_of(wish: Wish) -> Iterable[str]:
    return sorted(wish.secrets) if wish.mounted else ()


def _secret_volume(name: str) -> Manifest:
    # One that is not there yet keeps no pod from starting; it arrives at the kubelet's pace.
    return {
        "name": _volume_name(name),
        "secret": {"secretName": name, "defaultMode": 0o440, "optional": True},
    }


def _volume_name(secret: str) -> str:
    """A Secret's name may be longer than a volume's, and have dots."""
    return f"secret-{hashlib.sha256(secret.encode()).hexdigest()[:16]}"
