"""The operator's own objects: the files of `manifests/`, for the cluster, the images and the rights that are wanted."""

import hashlib
import json
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from claude_sandbox.api.meta import GROUP

Manifest = dict[str, Any]

NAMESPACE = "claude-sandbox-system"
OPERATOR = "claude-sandbox-operator"
PROBES = "claude-sandbox-probes"
"""The namespace of the pods that see whether what a sandbox may not reach answers at all."""
NODES = "claude-sandbox-nodes"
"""The namespace of the agents on the nodes, where there are some."""
GATEWAYS = "claude-sandbox-gateways"
"""The ConfigMap with what is said for the gateways of all sandboxes."""
TRAIL = "claude-sandbox-trail"
"""The PersistentVolumeClaim with the audit trail."""
_GATEWAYS_DIRECTORY, _GATEWAYS_FILE = "/etc/claude-sandbox", "gateways.json"
# Where the API server is reached in most clusters; manifests/operator/network.yaml allows these.
API_SERVER_PORTS = frozenset({443, 6443})
SESSIONS_SERVICE = f"{NAMESPACE}/claude-sandbox-sessions:8443"
"""By which people work in sandboxes on Docker hosts, as manifests/sessions has it."""
# Docker's own port for TLS, and that of ssh.
DOCKER_HOST_PORTS = (2376, 22)


POLICY_REPORTS = ("Auto", "OpenReports", "PolicyReports")
"""As which objects reports may be written: as `run` has it."""


@dataclass(frozen=True)
class Installation:
    """What an administrator chooses. The defaults give what `kubectl kustomize manifests` does."""

    namespaces: tuple[str, ...] = ()
    """Those that the operator looks after; none for the whole cluster."""
    secrets: bool = True
    """Whether the operator may look at Secrets."""
    docker: bool = False
    """Whether the operator looks after Docker hosts."""
    node_agent: bool = False
    """Whether an agent on each node tells what the node's kernel says."""
    policy_reports: str | None = None
    """As which objects reports are written, one of `POLICY_REPORTS`; None: as none."""
    plugin_policies: bool = False
    """Whether the operator may read policies that network plugins have beside NetworkPolicies."""
    volume_snapshots: bool = False
    """Whether the operator may make VolumeSnapshots, for backups that ask for them."""
    gateways: Mapping[str, Any] | None = None
    """What holds for the gateways of all sandboxes, in the gateway's own format."""
    trail: str | None = None
    """The size of the volume with the audit trail, such as 10Gi; None: there is no trail."""
    trail_class: str | None = None
    """Its StorageClass; None: the default one."""
    operator_image: str | None = None
    sandbox_image: str | None = None
    api_server_ports: frozenset[int] = API_SERVER_PORTS
    """The ports at which the API server's own addresses are reached from a pod."""


def sources() -> Path:
    """The directory `manifests`, of the clone or of the installed package."""
    clone = Path(__file__).parents[3] / "manifests"
    if (clone / "kustomization.yaml").is_file():
        return clone
    return Path(sysconfig.get_path("data")) / "share/claude-sandbox/manifests"


def render(wanted: Installation) -> list[Manifest]:
    """The objects to apply, in an order in which each finds what it needs."""
    scope = "namespaced" if wanted.namespaces else "cluster"
    parts = ["../crds", "operator", "rbac/users", "rbac/roles", "rbac/rights", f"rbac/{scope}"]
    if wanted.secrets:
        parts.append(f"rbac/secrets-{scope}")
    if wanted.docker:
        parts += ["rbac/docker-hosts", "sessions"]
    if wanted.trail:
        parts.append("trail")
    if wanted.node_agent:
        parts.append("node-agent")
    if wanted.policy_reports:
        parts += ["rbac/policy-reports", f"rbac/policy-reports-{scope}"]
    if wanted.plugin_policies:
        parts.append("rbac/plugin-policies")
    if wanted.volume_snapshots:
        parts += ["rbac/volume-snapshots", f"rbac/volume-snapshots-{scope}"]
    found = (manifest for part in parts for manifest in _read(sources() / part))
    if wanted.namespaces:
        found = (scoped for manifest in found for scoped in _scoped(manifest, wanted.namespaces))
    return [one for manifest in found for one in _with_gateways(_adapted(manifest, wanted), wanted)]


def _read(directory: Path) -> Iterator[Manifest]:
    """The objects of a kustomization that does nothing but list files and directories."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        path = directory / name
        if path.is_dir():
            yield from _read(path)
        else:
            yield from yaml.safe_load_all(path.read_text())


def _scoped(manifest: Manifest, namespaces: tuple[str, ...]) -> Iterator[Manifest]:
    """What is written for one namespace, for each of them."""
    if manifest["kind"] in ("Role", "RoleBinding") and manifest["metadata"]["namespace"] not in (
        NAMESPACE,
        NODES,
        PROBES,
    ):
        for namespace in namespaces:
            yield {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    else:
        yield manifest


def _adapted(manifest: Manifest, wanted: Installation) -> Manifest:
    if manifest["kind"] == "Deployment":
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        container["image"] = wanted.operator_image or container["image"]
        container["args"] = _arguments(container["args"], wanted, container["image"])
        if wanted.trail:
            _keep_trail(manifest["spec"], container)
    if manifest["kind"] == "PersistentVolumeClaim" and wanted.trail:
        manifest["spec"]["resources"]["requests"]["storage"] = wanted.trail
        if wanted.trail_class:
            manifest["spec"]["storageClassName"] = wanted.trail_class
    if manifest["kind"] == "DaemonSet":
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        container["image"] = wanted.operator_image or container["image"]
    if manifest["kind"] == "NetworkPolicy" and manifest["metadata"]["name"] == OPERATOR:
        to_api_server = manifest["spec"]["egress"][0]["ports"]
        further = sorted(wanted.api_server_ports - API_SERVER_PORTS)
        to_api_server += [{"protocol": "TCP", "port": port} for port in further]
        if wanted.docker:
            to_hosts = [{"protocol": "TCP", "port": port} for port in DOCKER_HOST_PORTS]
            manifest["spec"]["egress"].append({"ports": to_hosts})
    return manifest


def _keep_trail(deployment: Manifest, container: Manifest) -> None:
    """As manifests/trail does. A volume of one node is one pod's at a time."""
    deployment |= {"replicas": 1, "strategy": {"type": "Recreate"}}
    pod = deployment["template"]["spec"]
    pod["securityContext"] |= {"fsGroup": 65532, "fsGroupChangePolicy": "OnRootMismatch"}
    pod["volumes"] = [{"name": "trail", "persistentVolumeClaim": {"claimName": TRAIL}}]
    container["volumeMounts"] = [{"name": "trail", "mountPath": "/var/lib/claude-sandbox"}]
    container["args"] += ["--trail-directory=/var/lib/claude-sandbox/trail", "--trail-export=stdout"]


def _with_gateways(manifest: Manifest, wanted: Installation) -> tuple[Manifest, ...]:
    """What the operator's pods mount comes before them."""
    if manifest["kind"] != "Deployment" or not wanted.gateways:
        return (manifest,)
    configuration = _configuration(wanted.gateways)
    _mount(manifest["spec"]["template"], configuration)
    return (configuration, manifest)


def _configuration(gateways: Mapping[str, Any]) -> Manifest:
    metadata = {"name": GATEWAYS, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": OPERATOR}}
    data = {_GATEWAYS_FILE: json.dumps(gateways, indent=2, sort_keys=True)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _mount(template: Manifest, configuration: Manifest) -> None:
    """Have the operator's pods read it, and be replaced where it says something else: it is read at the start."""
    digest = hashlib.sha256(configuration["data"][_GATEWAYS_FILE].encode()).hexdigest()[:16]
    template["metadata"].setdefault("annotations", {})[f"{GROUP}/gateway-settings"] = digest
    pod = template["spec"]
    pod["volumes"] = [*pod.get("volumes", ()), {"name": "gateways", "configMap": {"name": GATEWAYS}}]
    container = pod["containers"][0]
    mount = {"name": "gateways", "mountPath": _GATEWAYS_DIRECTORY, "readOnly": True}
    container["volumeMounts"] = [*container.get("volumeMounts", ()), mount]
    container["args"].append(f"--gateway-settings={_GATEWAYS_DIRECTORY}/{_GATEWAYS_FILE}")


def _arguments(given: list[str], wanted: Installation, image: str) -> list[str]:
    """`image`: the operator's own, which is the relays' and the gateways' too."""
    chosen = {"--gateway-image": image}
    if wanted.sandbox_image:
        chosen["--sandbox-image"] = wanted.sandbox_image
    result = []
    for argument in given:
        option = argument.partition("=")[0]
        result.append(f"{option}={chosen[option]}" if option in chosen else argument)
    result += [f"--namespace={namespace}" for namespace in wanted.namespaces]
    if not wanted.secrets:
        result.append("--without-secrets")
    if wanted.docker:
        result += ["--docker", f"--sessions-at={SESSIONS_SERVICE}", f"--relay-image={image}"]
    if wanted.node_agent:
        result.append("--node-agent")
    if wanted.policy_reports:
        result.append(f"--policy-reports={wanted.policy_reports}")
    if wanted.plugin_policies:
        result.append("--plugin-policies")
    return result
