"""One thing wrong at a time: exactly the controls that are about it fail, and no other."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from compliant_gateway import Gateways
from compliant_sandbox import (
    API_SERVER,
    DIGEST,
    GATEWAY,
    METADATA,
    World,
    changed,
    compliant,
    holds_its_key,
    results,
)

from claude_sandbox.api import meta
from claude_sandbox.api.spec import AppArmorProfile, AppArmorProfileType
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.catalogue import POD_CONTROLS
from claude_sandbox.compliance.control import PodCheck
from claude_sandbox.compliance.evidence.pods import Access
from claude_sandbox.compliance.evidence.probes import Expected, KernelCall, Tried
from claude_sandbox.compliance.evidence.readings import ClaudeCode, Unread
from claude_sandbox.compliance.reports.pods import findings

Mutate = Callable[[World], Any]

_DEBUG_CONTAINER = {
    "name": "debug",
    "image": f"registry.example/sandboxes/claude@{DIGEST}",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
}
_STATUS = {"name": "debug", "imageID": f"registry.example/sandboxes/claude@{DIGEST}"}


def pod(**fields: Any) -> Mutate:
    """Set fields of the pod's spec; None removes."""
    return lambda world: _set(world.spec, fields)


def context(**fields: Any) -> Mutate:
    """Set fields of the pod's security context; None removes."""
    return lambda world: _set(world.spec["securityContext"], fields)


def asks_for_strict(profile: dict[str, str]) -> Mutate:
    """One whose sandbox asks for the Strict filter, and whose pod has this one."""

    def mutate(world: World) -> None:
        world.declare(seccomp_file="strict.json")
        world.spec["securityContext"]["seccompProfile"] = profile

    return mutate


def strict_is_tried(*calls: KernelCall) -> Mutate:
    """One whose pod names the file of Strict, and what a probe in it says."""
    named = asks_for_strict({"type": "Localhost", "localhostProfile": "strict.json"})

    def mutate(world: World) -> None:
        named(world)
        if calls:
            world.probe = replace(world.probe, strict=calls)

    return mutate


def asks_for_app_armor(profile: dict[str, str] | None) -> Mutate:
    """One whose sandbox asks for a profile of AppArmor, and whose pod has this one."""

    def mutate(world: World) -> None:
        world.declare(app_armor=AppArmorProfile(type=AppArmorProfileType.LOCALHOST, localhost_profile="claude"))
        _set(world.spec["securityContext"], {"appArmorProfile": profile})

    return mutate


def agent(**fields: Any) -> Mutate:
    """Set fields of the agent's container; None removes."""
    return lambda world: _set(world.agent, fields)


def agent_context(**fields: Any) -> Mutate:
    """Set fields of the security context of the agent's container; None removes."""
    return lambda world: _set(world.agent["securityContext"], fields)


def reported(**fields: Any) -> Mutate:
    """Set fields of what the node reports of the agent's container; None removes."""
    return lambda world: _set(world.pod["status"]["containerStatuses"][0], fields)


def host_path(path: str, **fields: Any) -> Mutate:
    return lambda world: world.add_volume(hostPath={"path": path, **fields})


def volume(**source: Any) -> Mutate:
    return lambda world: world.add_volume(**source)


def mounted(source: dict[str, Any], **mount: Any) -> Mutate:
    def mutate(world: World) -> None:
        world.add_volume(**source)
        world.mount(**mount)

    return mutate


def env(**variable: Any) -> Mutate:
    return lambda world: world.agent["env"].append(variable)


def key_volume(**fields: Any) -> Mutate:
    """Of a sandbox that holds its key itself."""
    return lambda world: (holds_its_key(world), _set(world.spec["volumes"][2]["secret"], fields))


def token(**fields: Any) -> Mutate:
    """Set fields of the token by which its gateway knows it; None removes."""
    return lambda world: _set(world.spec["volumes"][2]["projected"]["sources"][0]["serviceAccountToken"], fields)


def at_gateway(change: Callable[[Gateways], Any]) -> Mutate:
    """Change something of the namespace's gateway."""
    return lambda world: change(world.gateway) if world.gateway is not None else None


def tried(*attempts: Tried) -> Mutate:
    return lambda world: setattr(world, "probe", replace(world.probe, tried=attempts))


def also(attempt: Tried) -> Mutate:
    """One more target."""
    return lambda world: tried(*world.probe.tried, attempt)(world)


def outcome(of: Tried, said: str) -> Mutate:
    """What came of a target, otherwise."""
    return lambda world: tried(*(replace(one, outcome=said) if one is of else one for one in world.probe.tried))(world)


def told(*calls: KernelCall) -> Mutate:
    """What a probe that is confined as the sandbox is says of the kernel."""
    return lambda world: setattr(world, "probe", replace(world.probe, kernel=calls))


def policy(**spec: Any) -> Mutate:
    """Somebody else's policy that selects the sandbox too."""
    return lambda world: world.add_policy(**spec)


def own_policy(**spec: Any) -> Mutate:
    return lambda world: _set(world.own_policy, spec)


def service(**spec: Any) -> Mutate:
    return lambda world: _set(world.services[0]["spec"], spec)


def added(kind: str, **fields: Any) -> Mutate:
    """Another container, hardened as the agent's is but for `fields`."""

    def mutate(world: World) -> None:
        world.spec.setdefault(kind, []).append(_DEBUG_CONTAINER | fields)
        statuses = {"containers": "containerStatuses", "initContainers": "initContainerStatuses"}
        world.pod["status"].setdefault(statuses.get(kind, "ephemeralContainerStatuses"), []).append(_STATUS)

    return mutate


def cloning(image: str, kind: str = "initContainers", **fields: Any) -> Mutate:
    """A sandbox with repositories, and a container that is called as what clones them."""
    return _before("clone", "clone", image, kind, **fields)


def bringing(image: str, **fields: Any) -> Mutate:
    """A sandbox that Claude Code is brought to, and a container that is called as what brings it."""
    return _before("tools", "", image, "initContainers", **fields)


def _before(name: str, cloner: str, image: str, kind: str, **fields: Any) -> Mutate:
    def mutate(world: World) -> None:
        world.declare(helpers={name: f"mirror.example/claude@{DIGEST}"}, cloner=cloner)
        world.spec.setdefault(kind, []).append(_DEBUG_CONTAINER | {"name": name, "image": image} | fields)
        statuses = {"containers": "containerStatuses", "initContainers": "initContainerStatuses"}[kind]
        user = world.pod["status"]["containerStatuses"][0]["user"]
        world.pod["status"].setdefault(statuses, []).append({"name": name, "imageID": image, "user": user})

    return mutate


_WORKSPACE = {"name": "workspace", "mountPath": "/workspace"}


def cloning_beside_a_kept_home(world: World) -> None:
    """What clones has the agent's mounts, and so that of what outlives the pod of its home."""
    place = "/home/claude/.claude"
    kept = {"name": "added", "mountPath": place}
    cloning(str(_DEBUG_CONTAINER["image"]), volumeMounts=[_WORKSPACE, kept])(world)
    world.declare(kept_claims={place: "sandbox-alice-home"})
    mounted({"persistentVolumeClaim": {"claimName": "sandbox-alice-home"}}, mountPath=place)(world)


def read_only_workspace(mutate: Mutate) -> Mutate:
    """The same in a sandbox whose workspace is not to be written to by the agent."""

    def both(world: World) -> None:
        mutate(world)
        world.declare(workspace_read_only=True)
        world.agent["volumeMounts"][0].update(readOnly=True)

    return both


def no_dns(world: World) -> None:
    """Nothing resolves names, and nothing has to."""
    world.declare(dns=False)
    world.own_policy["egress"].pop(0)
    world.spec.update(dnsPolicy="None", dnsConfig={"nameservers": ["127.0.0.1"]})


def _set(target: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = value


_HTTP = {"port": 8080, "path": "/"}
_EVERYONE_IN: list[dict[str, Any]] = [{}]

MUTATIONS: dict[str, tuple[Mutate, str]] = {
    # PRIV
    "privileged": (agent_context(privileged=True), "PRIV-01 NET-09"),
    "a privileged init container": (
        added("initContainers", securityContext=_DEBUG_CONTAINER["securityContext"] | {"privileged": True}),  # type: ignore[operator]
        "PRIV-01 PRIV-08 NET-09",
    ),
    "a Windows HostProcess": (agent_context(windowsOptions={"hostProcess": True}), "PRIV-01"),
    "capabilities not mentioned": (agent_context(capabilities=None), "PRIV-02"),
    "capabilities dropped but for one": (agent_context(capabilities={"drop": ["NET_RAW"]}), "PRIV-02"),
    "SYS_ADMIN added": (agent_context(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "PRIV-02 NET-09"),
    "ALL dropped, in lower case": (agent_context(capabilities={"drop": ["all"]}), "PRIV-02"),
    "privilege escalation not mentioned": (agent_context(allowPrivilegeEscalation=None), "PRIV-03"),
    "privilege escalation allowed": (agent_context(allowPrivilegeEscalation=True), "PRIV-03"),
    "said to be for Windows": (pod(os={"name": "windows"}), "PRIV-02 PRIV-03 KERN-01"),
    "runAsNonRoot not mentioned": (context(runAsNonRoot=None), "PRIV-04"),
    "runAsNonRoot false for a container": (agent_context(runAsNonRoot=False), "PRIV-04"),
    "runAsUser 0": (context(runAsUser=0), "PRIV-04"),
    "runs as root whatever was asked for": (reported(user={"linux": {"uid": 0, "gid": 1000}}), "PRIV-04"),
    "root's group": (reported(user={"linux": {"uid": 1000, "gid": 0}}), "PRIV-05"),
    "root's group as a supplementary one": (
        reported(user={"linux": {"uid": 1000, "gid": 1000, "supplementalGroups": [1000, 0]}}),
        "PRIV-05",
    ),
    "a group of the system's that the image gives": (
        reported(user={"linux": {"uid": 1000, "gid": 1000, "supplementalGroups": [1000, 6]}}),
        "PRIV-05",
    ),
    "a group of the system's": (context(supplementalGroups=[999]), "PRIV-05"),
    "fsGroup 0": (context(fsGroup=0), "PRIV-05"),
    "no user namespace": (pod(hostUsers=None), "PRIV-06"),
    "another container": (added("containers", livenessProbe={}, readinessProbe={}), "PRIV-08 OPS-01"),
    "an init container": (added("initContainers"), "PRIV-08"),
    "what clones repositories, of another image": (
        cloning(f"registry.example/sandboxes/other@{DIGEST[:-1]}0"),
        "PRIV-08",
    ),
    "an init container that is called as what brings Claude Code, of another image": (
        bringing(f"registry.example/sandboxes/other@{DIGEST[:-1]}0"),
        "PRIV-08",
    ),
    "a container that is called as what clones repositories": (
        cloning(str(_DEBUG_CONTAINER["image"]), "containers", livenessProbe={}, readinessProbe={}),
        "PRIV-08 OPS-01",
    ),
    "a debug container": (added("ephemeralContainers"), "PRIV-08"),
    "a debug container that looks into the agent's": (
        added("ephemeralContainers", targetContainerName="agent"),
        "PRIV-08 NS-05",
    ),
    "a debug container without limits": (added("ephemeralContainers", resources={}), "PRIV-08 RES-01 RES-02"),
    "a debug container without a security context": (
        added("ephemeralContainers", securityContext={}),
        "PRIV-02 PRIV-03 PRIV-08 FS-01",
    ),
    "the agent's container under another name": (agent(name="other"), "PRIV-08 FS-08 ID-04 IMG-01"),
    # KERN
    "seccomp unconfined for a container": (agent_context(seccompProfile={"type": "Unconfined"}), "KERN-01"),
    "seccomp unconfined for the pod": (context(seccompProfile={"type": "Unconfined"}), "KERN-01"),
    "no seccomp profile": (context(seccompProfile=None), "KERN-01"),
    "the runtime's filter where Strict is asked for": (asks_for_strict({"type": "RuntimeDefault"}), "KERN-01"),
    "another file than that of Strict": (
        asks_for_strict({"type": "Localhost", "localhostProfile": "other.json"}),
        "KERN-01",
    ),
    "a file that lets through what Strict refuses": (
        strict_is_tried(KernelCall("ptrace", "denied", "EPERM"), KernelCall("adjtimex", "possible")),
        "KERN-01",
    ),
    "AppArmor unconfined": (agent_context(appArmorProfile={"type": "Unconfined"}), "KERN-02"),
    "AppArmor unconfined by annotation": (
        lambda world: world.pod["metadata"]["annotations"].update(
            {"container.apparmor.security.beta.kubernetes.io/agent": "unconfined"}
        ),
        "KERN-02",
    ),
    "no AppArmor profile where its sandbox asks for one": (asks_for_app_armor(None), "KERN-02"),
    "another AppArmor profile than its sandbox asks for": (
        asks_for_app_armor({"type": "Localhost", "localhostProfile": "other"}),
        "KERN-02",
    ),
    "an SELinux type of the host's": (context(seLinuxOptions={"type": "spc_t"}), "KERN-03"),
    "an SELinux role": (agent_context(seLinuxOptions={"role": "sysadm_r"}), "KERN-03"),
    "/proc unmasked, in a user namespace": (agent_context(procMount="Unmasked"), "KERN-04"),
    "/proc unmasked where the standard lets a user namespace excuse it": (
        lambda world: (setattr(world, "minor", 37), agent_context(procMount="Unmasked")(world)),
        "KERN-04",
    ),
    "root where the standard lets a user namespace excuse it": (
        lambda world: (setattr(world, "minor", 37), context(runAsNonRoot=False, runAsUser=0)(world)),
        "PRIV-04",
    ),
    "an unsafe sysctl": (context(sysctls=[{"name": "net.ipv4.ip_forward", "value": "1"}]), "KERN-05"),
    "a sysctl that 1.34 does not hold for safe": (
        context(sysctls=[{"name": "net.ipv4.tcp_notsent_lowat", "value": "1"}]),
        "KERN-05",
    ),
    "a plain runtime": (lambda world: _set(world.runtime_class or {}, {"handler": "runc"}), "KERN-06"),
    "no RuntimeClass": (lambda world: setattr(world, "runtime_class", None), "KERN-06"),
    # NS
    "host process namespace": (pod(hostPID=True), "NS-01"),
    "host IPC namespace": (pod(hostIPC=True), "NS-02"),
    "host network": (pod(hostNetwork=True), "NS-03 NET-01 NET-13"),
    "shared process namespace": (pod(shareProcessNamespace=True), "NS-05"),
    "a host port": (agent(ports=[{"name": "web", "containerPort": 8080, "hostPort": 8080}]), "NS-06"),
    "a host port on IPv6 only": (agent(ports=[{"containerPort": 8080, "hostPort": 1, "hostIP": "::1"}]), "NS-06"),
    "a probe of another host": (agent(livenessProbe={"httpGet": _HTTP | {"host": "192.0.2.1"}}), "NS-07"),
    "a hook of another host": (agent(lifecycle={"preStop": {"tcpSocket": {"port": 1, "host": "x"}}}), "NS-07"),
    # FS
    "root file system writable": (agent_context(readOnlyRootFilesystem=False), "FS-01"),
    "root file system not mentioned": (agent_context(readOnlyRootFilesystem=None), "FS-01"),
    "a host path": (host_path("/home"), "FS-02 FS-04"),
    "a host path, mounted": (mounted({"hostPath": {"path": "/home"}}), "FS-02 FS-04 FS-08"),
    "a host path, mounted read-only": (mounted({"hostPath": {"path": "/home"}}, readOnly=True), "FS-02 FS-04"),
    "Docker's socket": (host_path("/var/run/docker.sock"), "FS-02 FS-03 FS-04"),
    "containerd's socket": (host_path("/run/containerd/containerd.sock", type="Socket"), "FS-02 FS-03 FS-04"),
    "the directory of a socket": (host_path("/var/run/"), "FS-02 FS-03 FS-04"),
    "the directory above it": (host_path("/run"), "FS-02 FS-03 FS-04"),
    "the host's root": (host_path("/"), "FS-02 FS-03 FS-04"),
    "the kubelet's directory": (host_path("//var/lib/kubelet"), "FS-02 FS-03 FS-04"),
    "an engine's socket in a user's directory": (
        host_path("/home/me/.colima/docker.sock"),
        "FS-02 FS-03 FS-04",
    ),
    "the directory of rootless engines": (host_path("/run/user/1000"), "FS-02 FS-03 FS-04"),
    "the socket of a user's agent": (host_path("/tmp/ssh-XXXXabcd/agent.7"), "FS-02 FS-03 FS-04"),
    "a socket under another name": (host_path("/opt/engine", type="Socket"), "FS-02 FS-03 FS-04"),
    "a directory that only begins like a socket's": (host_path("/run/dockerfiles"), "FS-02 FS-04"),
    "NFS": (volume(nfs={"server": "192.0.2.1", "path": "/"}), "FS-04"),
    "a device": (host_path("/dev/kvm", type="CharDevice"), "FS-02 FS-04 FS-05"),
    "all devices": (host_path("/dev"), "FS-02 FS-04 FS-05"),
    "a raw block volume": (agent(volumeDevices=[{"name": "workspace", "devicePath": "/dev/x"}]), "FS-05"),
    "a device plugin's resource": (
        agent(resources={"limits": {"cpu": "2", "memory": "2Gi", "nvidia.com/gpu": "1"}}),
        "FS-05",
    ),
    "a claimed device": (pod(resourceClaims=[{"name": "gpu", "resourceClaimName": "gpu"}]), "FS-05"),
    "mounts seen by the host": (
        lambda world: world.agent["volumeMounts"][0].update(mountPropagation="Bidirectional"),
        "FS-06",
    ),
    "mounts seen from the host": (
        lambda world: world.agent["volumeMounts"][0].update(mountPropagation="HostToContainer"),
        "FS-06",
    ),
    "scratch space without bound": (volume(emptyDir={}), "FS-07"),
    "another claim, writable": (mounted({"persistentVolumeClaim": {"claimName": "other"}}), "FS-08"),
    "another claim as the workspace": (
        lambda world: world.spec["volumes"][0]["persistentVolumeClaim"].update(claimName="other"),
        "FS-08",
    ),
    "the workspace writable against its declaration": (lambda world: world.declare(workspace_read_only=True), "FS-08"),
    "the workspace elsewhere": (
        lambda world: world.agent["volumeMounts"][0].update(mountPath="/elsewhere"),
        "FS-08",
    ),
    "the workspace shared with what is not of the operator's image": (
        cloning(f"registry.example/sandboxes/other@{DIGEST[:-1]}0", volumeMounts=[_WORKSPACE]),
        "PRIV-08 FS-08",
    ),
    "the workspace with what brings Claude Code": (
        bringing(str(_DEBUG_CONTAINER["image"]), volumeMounts=[_WORKSPACE]),
        "FS-08",
    ),
    "another claim in the place of the workspace, for what clones": (
        cloning(str(_DEBUG_CONTAINER["image"]), volumeMounts=[{"name": "other", "mountPath": "/workspace"}]),
        "FS-08",
    ),
    "the workspace shared with another container": (
        added("ephemeralContainers", volumeMounts=[{"name": "workspace", "mountPath": "/workspace"}]),
        "PRIV-08 FS-08",
    ),
    # RES
    "a memory limit of nothing": (agent(resources={"limits": {"cpu": "2", "memory": "0"}}), "RES-01"),
    "limits of nothing": (agent(resources={"limits": {"cpu": "0m", "memory": "0.0Gi"}}), "RES-01 RES-02"),
    "no memory limit": (agent(resources={"limits": {"cpu": "2"}}), "RES-01"),
    "a memory limit that the node does not enforce": (reported(resources={"limits": {"cpu": "2"}}), "RES-01"),
    "no CPU limit": (agent(resources={"limits": {"memory": "2Gi"}}), "RES-02"),
    "no limits at all": (agent(resources={"requests": {"memory": "2Gi", "cpu": "2"}}), "RES-01 RES-02"),
    "no end": (pod(activeDeadlineSeconds=None), "RES-05"),
    "no quota": (lambda world: world.quotas.clear(), "RES-06"),
    "a call that the kernel lets through": (told(KernelCall("keyctl", "possible")), "KERN-07"),
    # NET
    "the API server is reached": (outcome(API_SERVER, "connected"), "NET-03 NET-05 NET-09"),
    "a metadata service is reached": (outcome(METADATA, "connected"), "NET-03 NET-04 NET-09"),
    "something else is reached": (also(Tried("another sandbox", Expected.DENIED, "connected")), "NET-03 NET-09"),
    "the gateway is not reached": (outcome(GATEWAY, "timeout"), "NET-07"),
    "NET_ADMIN added": (
        agent_context(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        "PRIV-02 NET-09",
    ),
    "no policy": (lambda world: world.policies.clear(), "NET-01 NET-02 NET-06 NET-11 NET-13"),
    "the policy selects others": (
        own_policy(podSelector={"matchLabels": {"sandbox": "bob"}}),
        "NET-01 NET-02 NET-06 NET-11 NET-13",
    ),
    "the policy is for ingress only": (own_policy(policyTypes=["Ingress"]), "NET-01 NET-02 NET-06 NET-13"),
    "the policy is for egress only": (own_policy(policyTypes=["Egress"]), "NET-01 NET-11"),
    "egress to everywhere, by another policy": (policy(policyTypes=["Egress"], egress=[{}]), "NET-02 NET-06 NET-13"),
    "egress to one address more": (
        policy(policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "198.51.100.1/32"}}]}]),
        "NET-02 NET-06 NET-13",
    ),
    "egress to declared addresses on another port": (
        policy(
            policyTypes=["Egress"],
            egress=[{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 22}]}],
        ),
        "NET-02 NET-13",
    ),
    "egress to everywhere, with exceptions": (
        own_policy(egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}]}]),
        "NET-02 NET-06 NET-13",
    ),
    "egress to everywhere, declared": (
        lambda world: (
            world.declare(egress_cidrs=("::/0",)),
            world.own_policy.update(egress=[{"to": [{"ipBlock": {"cidr": "::/0"}}], "ports": [{"port": 443}]}]),
        ),
        "NET-02",
    ),
    "egress to everywhere, declared in halves": (
        lambda world: (
            world.declare(egress_cidrs=("0.0.0.0/1", "128.0.0.0/1")),
            world.own_policy.update(
                egress=[
                    {"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": 443}]}
                    for cidr in ("0.0.0.0/1", "128.0.0.0/1")
                ]
            ),
        ),
        "NET-02",
    ),
    "egress to what was carved out of the declared networks": (
        lambda world: world.declare(egress_excepted=(("192.0.2.128/25",), ())),
        "NET-02 NET-13",
    ),
    "egress to pods of the same namespace": (
        policy(policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}]),
        "NET-02 NET-06 NET-13",
    ),
    "DNS at any pod of kube-system": (
        policy(
            policyTypes=["Egress"],
            egress=[
                {
                    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
                    "ports": [{"protocol": "UDP", "port": 53}],
                }
            ],
        ),
        "NET-02 NET-06 NET-13",
    ),
    "DNS although not declared": (lambda world: world.declare(dns=False), "NET-02 NET-06 NET-13"),
    "a Service of somebody else's": (
        lambda world: world.services.append({"metadata": {"name": "x"}, "spec": {"selector": {"sandbox": "alice"}}}),
        "NET-10",
    ),
    "a Service on the nodes' ports": (service(type="NodePort"), "NET-10"),
    "a load balancer": (service(type="LoadBalancer"), "NET-10"),
    "external addresses": (service(externalIPs=["192.0.2.1"]), "NET-10"),
    "ingress from everyone, by another policy": (policy(policyTypes=["Ingress"], ingress=_EVERYONE_IN), "NET-11"),
    "ingress from everyone, policyTypes left to default": (policy(ingress=_EVERYONE_IN), "NET-11"),
    "ingress on a port that is not declared": (
        policy(policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": 9090}]}]),
        "NET-11",
    ),
    "ingress from another namespace": (
        policy(
            policyTypes=["Ingress"],
            ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}], "ports": [{"port": 8080}]}],
        ),
        "NET-11",
    ),
    # ID
    "token by default": (pod(automountServiceAccountToken=None), "ID-01"),
    "token automounted": (pod(automountServiceAccountToken=True), "ID-01"),
    "token by a volume": (
        volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]}),
        "ID-01 ID-04",
    ),
    "certificate by a volume": (
        volume(projected={"sources": [{"podCertificate": {"keyType": "ED25519"}}]}),
        "ID-01",
    ),
    "another ServiceAccount": (pod(serviceAccountName="builder"), "ID-02"),
    "the default ServiceAccount": (pod(serviceAccountName="default"), "ID-02"),
    "may read Secrets": (lambda world: world.access.append(Access("get", "", "secrets", "", True)), "ID-03"),
    "has a role at its cloud": (
        lambda world: world.service_account["metadata"].update(annotations={"eks.amazonaws.com/role-arn": "x"}),
        "ID-03",
    ),
    # SEC
    "key in the environment": (env(name="X", value="sk-ant-api03-" + "x9" * 20), "SEC-01 SEC-05"),
    "password in the environment": (env(name="DB_PASSWORD", value="hunter2hunter2"), "SEC-01"),
    "other managed settings": (
        lambda world: world.pod["metadata"]["annotations"].pop(meta.ANNOTATION_MANAGED_SETTINGS),
        "SEC-04",
    ),
    "variable from a Secret": (
        env(name="X", valueFrom={"secretKeyRef": {"name": "anthropic", "key": "api-key"}}),
        "SEC-01 SEC-05",
    ),
    "all variables from a Secret": (agent(envFrom=[{"secretRef": {"name": "anthropic"}}]), "SEC-01 SEC-05"),
    "key in the arguments": (agent(args=["--api-key=sk-ant-api03-" + "x9" * 20]), "SEC-01"),
    "token in the command": (agent(command=["sh", "-c", "GITHUB_TOKEN=abcdefgh1234 claude"]), "SEC-01"),
    "key in a probe": (
        agent(livenessProbe={"exec": {"command": ["check", "sk-ant-api03-" + "x9" * 20]}}),
        "SEC-01",
    ),
    "another Secret": (volume(secret={"secretName": "other", "defaultMode": 0o440}), "SEC-02"),
    "another Secret, projected": (volume(projected={"sources": [{"secret": {"name": "other"}}]}), "SEC-02"),
    "a Secret by a storage driver": (
        volume(csi={"driver": "secrets-store.csi.k8s.io", "readOnly": True}),
        "SEC-02",
    ),
    "a storage driver with another Secret": (
        volume(csi={"driver": "x", "nodePublishSecretRef": {"name": "other"}}),
        "SEC-02",
    ),
    "a network file system's Secret": (
        volume(cephfs={"monitors": ["x"], "secretRef": {"name": "other"}}),
        "FS-04 SEC-02",
    ),
    "key readable by all": (key_volume(defaultMode=0o444), "SEC-02 SEC-05"),
    "key writable by its group": (key_volume(defaultMode=0o460), "SEC-02 SEC-05"),
    "key's mode left to default": (key_volume(defaultMode=None), "SEC-02 SEC-05"),
    "key's own mode": (key_volume(items=[{"key": "api-key", "path": "api-key", "mode": 0o644}]), "SEC-02 SEC-05"),
    "key by subPath": (
        lambda world: (holds_its_key(world), world.agent["volumeMounts"][2].update(subPath="api-key")),
        "SEC-02 SEC-05",
    ),
    "key in another container": (
        lambda world: (
            holds_its_key(world),
            added("ephemeralContainers", volumeMounts=[{"name": "api-key", "mountPath": "/k", "readOnly": True}])(
                world
            ),
        ),
        "PRIV-08 SEC-02 SEC-05",
    ),
    "it holds its key itself": (holds_its_key, "SEC-05"),
    "the key as a file beside the token": (
        volume(secret={"secretName": "anthropic", "defaultMode": 0o440}),
        "SEC-02 SEC-05",
    ),
    "a subscription's token": (env(name="CLAUDE_CODE_OAUTH_TOKEN", value="abcdefgh1234"), "SEC-01 SEC-05"),
    "the key from its Secret": (
        env(name="X", valueFrom={"secretKeyRef": {"name": "anthropic", "key": "api-key"}}),
        "SEC-01 SEC-05",
    ),
    # ID, of the gateway
    "a token for the API server in place of the gateway's": (token(audience=None), "ID-01 ID-04"),
    "a token for somebody else in place of the gateway's": (token(audience="vault"), "ID-01 ID-04"),
    "a token for the gateway that is good for a day": (token(expirationSeconds=86400), "ID-04"),
    "no token for the gateway": (lambda world: world.spec["volumes"][2].update(projected={"sources": []}), "ID-04"),
    "a token for the gateway that all may read": (
        lambda world: world.spec["volumes"][2]["projected"].update(defaultMode=0o444),
        "ID-04",
    ),
    "the gateway's token in another container": (
        added("ephemeralContainers", volumeMounts=[{"name": "api-key", "mountPath": "/k", "readOnly": True}]),
        "PRIV-08 ID-04",
    ),
    # NET, of the gateway and of resolvers
    "a pod that looks like the gateway's": (
        at_gateway(lambda found: found.pods.append(found.pod | {"spec": {**found.pod["spec"], "hostNetwork": True}})),
        "NET-12",
    ),
    "everyone may connect to the gateway": (at_gateway(lambda found: found.add_policy(ingress=[{}])), "NET-12"),
    "a resolver of somebody else's": (
        policy(egress=[{"to": [{"ipBlock": {"cidr": "198.51.100.1/32"}}], "ports": [{"protocol": "UDP", "port": 53}]}]),
        "NET-02 NET-06 NET-13",
    ),
    "a gateway that a resolver has to be asked for": (pod(hostAliases=None), "NET-06"),
    "a resolver, and none declared": (
        lambda world: (no_dns(world), _set(world.spec, {"dnsPolicy": "ClusterFirst", "dnsConfig": None})),
        "NET-06",
    ),
    "a resolver of its own, and none declared": (
        lambda world: (no_dns(world), _set(world.spec["dnsConfig"], {"nameservers": ["127.0.0.1", "198.51.100.1"]})),
        "NET-06",
    ),
    "a pod beside the gateway": (
        policy(policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}], "ports": [{"port": 8443}]}]),
        "NET-02 NET-13",
    ),
    # IMG
    "image by tag": (agent(image="registry.example/sandboxes/claude:1"), "IMG-01 IMG-03"),
    "another image runs": (reported(imageID="registry.example/sandboxes/claude@sha256:" + "b" * 64), "IMG-01"),
    "another digest than declared": (lambda world: world.declare(image_digest="sha256:" + "c" * 64), "IMG-01"),
    "image from elsewhere": (agent(image=f"ghcr.io/x/claude@{DIGEST}"), "IMG-02"),
    "image from a registry that only begins alike": (
        agent(image=f"registry.example.evil.test/sandboxes/claude@{DIGEST}"),
        "IMG-02",
    ),
    "Claude Code of an image that is not the operator's": (
        lambda world: world.declare(claude_code=ClaudeCode("registry.example/other:1", "/opt/claude-sandbox")),
        "IMG-03",
    ),
    "image from another path": (agent(image=f"registry.example/sandboxes-evil/claude@{DIGEST}"), "IMG-02"),
    # TEN
    "the default namespace": (lambda world: world.namespace["metadata"].update(name="default"), "TEN-01"),
    "the cluster's namespace": (lambda world: world.namespace["metadata"].update(name="kube-system"), "TEN-01"),
    "namespace enforces nothing": (lambda world: world.namespace["metadata"].pop("labels"), "TEN-02"),
    "namespace enforces baseline": (
        lambda world: world.namespace["metadata"]["labels"].update({"pod-security.kubernetes.io/enforce": "baseline"}),
        "TEN-02",
    ),
    "namespace enforces an old standard": (
        lambda world: world.namespace["metadata"]["labels"].update(
            {"pod-security.kubernetes.io/enforce-version": "v1.21"}
        ),
        "TEN-02",
    ),
    # OPS
    "no liveness probe": (agent(livenessProbe=None), "OPS-01"),
    "no readiness probe": (agent(readinessProbe=None), "OPS-01"),
    "drift": (lambda world: world.drift.append("spec.containers[agent].image"), "OPS-03"),
}


def test_a_compliant_sandbox_passes_everything_that_is_measured() -> None:
    found = results(compliant().evidence())
    measured = {control.id for control in POD_CONTROLS if isinstance(control.pod, PodCheck)}
    assert {id for id, result in found.items() if result is Result.PASS} == measured
    assert {id for id, result in found.items() if result is Result.UNKNOWN} == found.keys() - measured


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_wrong_fails_the_controls_that_are_about_it_and_no_other(name: str) -> None:
    mutate, failing = MUTATIONS[name]
    failed = [finding for finding in findings(changed(mutate).evidence()) if finding.result is Result.FAIL]
    assert {finding.control.id for finding in failed} == set(failing.split())
    assert all(finding.verdict.message and finding.remedy for finding in failed)


def test_every_control_that_can_fail_is_seen_failing() -> None:
    seen = {control for _, failing in MUTATIONS.values() for control in failing.split()}
    # Evidence is fresh or it is not known to be; it can't be known to be stale and still say so.
    assert {control.id for control in POD_CONTROLS if isinstance(control.pod, PodCheck)} - seen == {"OPS-04"}


PERMITTED: dict[str, Mutate] = {
    "what clones repositories": cloning(str(_DEBUG_CONTAINER["image"])),
    "what brings Claude Code": bringing(str(_DEBUG_CONTAINER["image"])),
    "... into the workspace": cloning(str(_DEBUG_CONTAINER["image"]), volumeMounts=[_WORKSPACE]),
    "... beside a home that is kept": cloning_beside_a_kept_home,
    "... which the agent has read-only": read_only_workspace(
        cloning(str(_DEBUG_CONTAINER["image"]), volumeMounts=[_WORKSPACE])
    ),
    "one capability that the standard allows": agent_context(
        capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    ),
    "a seccomp profile of the node's": agent_context(
        seccompProfile={"type": "Localhost", "localhostProfile": "claude.json"}
    ),
    "what the pod would set, set by the container": lambda world: (
        context(seccompProfile=None, runAsNonRoot=None, runAsUser=None, runAsGroup=None)(world),
        agent_context(seccompProfile={"type": "RuntimeDefault"}, runAsNonRoot=True, runAsUser=1000, runAsGroup=1000)(
            world
        ),
    ),
    "a safe sysctl": context(sysctls=[{"name": "net.ipv4.tcp_syncookies", "value": "1"}]),
    "a policy that allows only what is declared": policy(
        policyTypes=["Egress"],
        egress=[{"to": [{"ipBlock": {"cidr": "192.0.2.128/25"}}], "ports": [{"port": 443}]}],
    ),
    "what was carved out of the declared networks, carved out": lambda world: (
        world.declare(egress_excepted=(("192.0.2.128/25",),)),
        world.own_policy["egress"][1]["to"][0]["ipBlock"].update({"except": ["192.0.2.128/25"]}),
    ),
    "a policy of another pod": lambda world: world.policies.append(
        {"metadata": {"name": "x"}, "spec": {"podSelector": {"matchLabels": {"app": "x"}}, "egress": [{}]}}
    ),
    "another pod's load balancer": lambda world: world.services.append(
        {"metadata": {"name": "x"}, "spec": {"type": "LoadBalancer", "selector": {"app": "x"}}}
    ),
    "a Service without a selector": lambda world: world.services.append({"metadata": {"name": "x"}, "spec": {}}),
    "a configuration map, mounted writable": mounted({"configMap": {"name": "x"}}),
    "another claim, read-only": mounted({"persistentVolumeClaim": {"claimName": "x"}}, readOnly=True),
    "limits for the pod as a whole": lambda world: (
        _set(world.agent, {"resources": None}),
        _set(world.spec, {"resources": {"limits": {"cpu": "2", "memory": "2Gi"}}}),
    ),
    "a path in a variable that is called a token": env(name="TOKEN_FILE", value="/run/token"),
    "a prompt that speaks of keys": agent(args=["--print", "Explain why the api key and the token are not in env"]),
    "an ephemeral workspace": lambda world: (
        world.declare(workspace_claim=None),
        world.spec["volumes"].__setitem__(0, {"name": "workspace", "emptyDir": {"sizeLimit": "1Gi"}}),
    ),
    "a read-only workspace": lambda world: (
        world.declare(workspace_read_only=True),
        world.agent["volumeMounts"][0].update(readOnly=True),
    ),
    "the standard of a version": lambda world: world.namespace["metadata"]["labels"].update(
        {"pod-security.kubernetes.io/enforce-version": "v1.34"}
    ),
    "no resolver, and none declared": no_dns,
    "nothing but the gateway": lambda world: (
        no_dns(world),
        world.declare(egress_cidrs=()),
        world.own_policy["egress"].pop(0),
    ),
    "a metadata service that nobody has": also(
        Tried("the metadata service", Expected.DENIED_IF_THERE, "timeout", answers=False)
    ),
    "a token for half an hour": token(expirationSeconds=1800),
    "a sysctl that is safe on the API server's version": lambda world: (
        setattr(world, "minor", 37),
        context(sysctls=[{"name": "net.ipv4.tcp_notsent_lowat", "value": "1"}])(world),
    ),
}


@pytest.mark.parametrize("name", PERMITTED)
def test_what_is_not_wrong_fails_nothing(name: str) -> None:
    found = results(changed(PERMITTED[name]).evidence())
    assert found == results(compliant().evidence())


UNDECIDED: dict[str, tuple[Mutate, str]] = {
    "no user told by spec or runtime": (
        lambda world: (context(runAsUser=None)(world), reported(user=None)(world)),
        "PRIV-04 PRIV-05",
    ),
    "a node that tells no groups": (reported(user=None), "PRIV-05"),
    "a node that tells the first group only": (reported(user={"linux": {"uid": 1000, "gid": 1000}}), "PRIV-05"),
    "an image of which nobody says that it declares no VOLUME": (
        agent(image=f"registry.example/sandboxes/other@{DIGEST}"),
        "FS-08",
    ),
    "a handler that is not known": (lambda world: _set(world.runtime_class or {}, {"handler": "mine"}), "KERN-06"),
    "no question asked about rights": (lambda world: world.access.clear(), "ID-03"),
    "variables from a ConfigMap": (agent(envFrom=[{"configMapRef": {"name": "x"}}]), "SEC-01 SEC-04 SEC-05"),
    "a variable from a ConfigMap": (env(name="X", valueFrom={"configMapKeyRef": {"name": "x"}}), "SEC-01 SEC-05"),
    "a container that has not started": (reported(imageID=""), "IMG-01"),
    "an image that was loaded by hand": (reported(imageID="sha256:" + "d" * 64), "IMG-01"),
    "nothing but its gateway is tried": (tried(GATEWAY), "NET-03 NET-04 NET-05 NET-09"),
    "no call is tried": (told(), "KERN-07"),
    "a file of Strict in which nothing was tried": (strict_is_tried(), "KERN-01"),
    "a file of Strict of which the kernel says nothing": (
        strict_is_tried(KernelCall("adjtimex", "failed", "EMFILE")),
        "KERN-01",
    ),
    "a call of which the kernel says nothing": (told(KernelCall("mount", "failed", "EMFILE")), "KERN-07"),
    "a probe that is confined otherwise": (
        lambda world: setattr(world, "probe", replace(world.probe, kernel="it is confined otherwise")),
        "KERN-07",
    ),
    "nobody answers elsewhere either": (
        tried(GATEWAY, Tried("the kubelet", Expected.DENIED_IF_THERE, "timeout", answers=False)),
        "NET-03 NET-04 NET-05 NET-09",
    ),
    "no metadata service answers its node": (
        tried(GATEWAY, API_SERVER, replace(METADATA, answers=False)),
        "NET-04",
    ),
    "none of the declared addresses is reached": (
        tried(API_SERVER, METADATA, Tried("192.0.2.1", Expected.PERMITTED, "timeout")),
        "NET-03 NET-04 NET-05 NET-07 NET-09",
    ),
    "a namespace without a name": (lambda world: world.namespace["metadata"].pop("name"), "TEN-01"),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_can_not_be_told_is_unknown(name: str) -> None:
    mutate, undecided = UNDECIDED[name]
    before, found = results(compliant().evidence()), results(changed(mutate).evidence())
    assert {id: result for id, result in found.items() if result is not before[id]} == dict.fromkeys(
        undecided.split(), Result.UNKNOWN
    )


def test_strict_is_proven_by_what_a_probe_may_not_do_and_required_as_soon_as_one_was_made() -> None:
    world = changed(strict_is_tried(KernelCall("adjtimex", "denied", "EPERM")))
    assert results(world.evidence())["KERN-01"] is Result.PASS
    stale = replace(world.evidence(), probe_max_age=timedelta(seconds=-1))
    for evidence, result, required in (
        (world.evidence(), Result.PASS, True),
        (changed(strict_is_tried(KernelCall("adjtimex", "possible"))).evidence(), Result.FAIL, True),
        (changed(strict_is_tried()).evidence(), Result.UNKNOWN, True),
        (stale, Result.UNKNOWN, False),
        (replace(world.evidence(), probe=Unread("that is under way")), Result.UNKNOWN, False),
    ):
        found = next(one for one in findings(evidence) if one.control.id == "KERN-01")
        assert (found.result, found.required) == (result, required), found
    # What the pod's object says is required whether or not anybody tries it.
    loose = changed(asks_for_strict({"type": "RuntimeDefault"})).evidence()
    assert next(one for one in findings(replace(loose, probe=Unread("x"))) if one.control.id == "KERN-01").required
