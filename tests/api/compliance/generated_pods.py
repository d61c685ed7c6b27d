"""Pods that differ from a restricted one in a few fields, over all that the Pod Security Standards look at."""

import copy
import random
from collections.abc import Callable
from typing import Any

Pod = dict[str, Any]
Mutate = Callable[[random.Random, Pod], None]

_PROFILES = ("RuntimeDefault", "Localhost", "Unconfined")
_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "NET_RAW", "NET_ADMIN", "SYS_PTRACE", "BPF", "ALL"),
    *("CAP_NET_BIND_SERVICE", "net_bind_service"),
)
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t", "spc_t")
_SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.ip_forward",
    "net.core.somaxconn",
)
_VOLUMES: tuple[dict[str, Any], ...] = (
    {"configMap": {"name": "x"}},
    {"csi": {"driver": "example.com"}},
    {"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    {"emptyDir": {}},
    {},
    {
        "ephemeral": {
            "volumeClaimTemplate": {
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            }
        }
    },
    {"image": {"reference": "example.com/x:1"}},
    {"persistentVolumeClaim": {"claimName": "x"}},
    {"projected": {"sources": [{"secret": {"name": "x"}}]}},
    {"secret": {"secretName": "x"}},
    {"hostPath": {"path": "/etc"}},
    {"gcePersistentDisk": {"pdName": "x"}},
    {"awsElasticBlockStore": {"volumeID": "x"}},
    {"nfs": {"server": "x", "path": "/x"}},
    {"iscsi": {"targetPortal": "x", "iqn": "iqn.2001-04.com.example:x", "lun": 0}},
    {"glusterfs": {"endpoints": "x", "path": "x"}},
    {"rbd": {"monitors": ["x"], "image": "x"}},
    {"flexVolume": {"driver": "example.com/x"}},
    {"cinder": {"volumeID": "x"}},
    {"cephfs": {"monitors": ["x"]}},
    {"flocker": {"datasetName": "x"}},
    {"fc": {"targetWWNs": ["x"], "lun": 0}},
    {"azureFile": {"secretName": "x", "shareName": "x"}},
    {"azureDisk": {"diskName": "x", "diskURI": "https://example.com/x", "kind": "Managed"}},
    {"vsphereVolume": {"volumePath": "x"}},
    {"quobyte": {"registry": "x:1", "volume": "x"}},
    {"portworxVolume": {"volumeID": "x"}},
    {"photonPersistentDisk": {"pdID": "x"}},
    {"scaleIO": {"gateway": "x", "system": "x", "secretRef": {"name": "x"}, "volumeName": "x"}},
    {"storageos": {"volumeName": "x"}},
    {"gitRepo": {"repository": "x"}},
)


def restricted(name: str) -> Pod:
    """A pod that the restricted standard admits, with an init container, a sidecar and a main one."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [_container("init"), _container("sidecar") | {"restartPolicy": "Always"}],
            "containers": [_container("main"), _container("second")],
            "volumes": [],
        },
    }


def generate(seed: int) -> Pod:
    """A pod with a few mutations; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311
    name = f"p{seed}"
    if chance.random() < 0.04:
        return _windows(chance, name)
    pod = restricted(name)
    match chance.choices(("bare", "by container", "by pod"), weights=(30, 20, 50))[0]:
        case "bare":
            _bare(pod)
        case "by container":
            _by_container(pod)
    if chance.random() < 0.15:
        pod["spec"]["hostUsers"] = False
    for mutate in chance.choices(MUTATIONS, k=chance.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        mutate(chance, pod)
    return pod


def ephemeral_container(seed: int) -> dict[str, Any]:
    """A debug container with a few mutations."""
    chance = random.Random(seed)  # noqa: S311
    pod = restricted("unused")
    container = pod["spec"]["containers"][0] | {"name": f"debug{seed}"}
    pod["spec"] |= {"initContainers": [], "containers": [container]}
    for mutate in chance.choices(_SECURITY, k=chance.choice((0, 1, 1, 2, 3))):
        mutate(chance, pod)
    return container


def _container(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": "example.com/x:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _bare(pod: Pod) -> None:
    """What people write who have not heard of the standards."""
    del pod["spec"]["securityContext"]
    for container in _containers(pod):
        del container["securityContext"]


def _by_container(pod: Pod) -> None:
    """What the pod would set for all containers, set by each of them."""
    common = pod["spec"].pop("securityContext")
    for container in _containers(pod):
        container["securityContext"] |= copy.deepcopy(common)


def _windows(chance: random.Random, name: str) -> Pod:
    pod = restricted(name)
    _bare(pod)
    pod["spec"]["os"] = {"name": "windows"}
    if chance.random() < 0.5:
        pod["spec"]["securityContext"] = {"runAsNonRoot": chance.random() < 0.7}
    if chance.random() < 0.3:
        pod["spec"]["hostNetwork"] = True
        context = pod["spec"].setdefault("securityContext", {})
        context["windowsOptions"] = {"hostProcess": True}
    return pod


def _containers(pod: Pod) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def _one(chance: random.Random, pod: Pod) -> dict[str, Any]:
    return chance.choice(_containers(pod))


def _context(chance: random.Random, pod: Pod) -> dict[str, Any]:
    """The security context of one container."""
    context: dict[str, Any] = _one(chance, pod).setdefault("securityContext", {})
    return context


def _any_context(chance: random.Random, pod: Pod) -> dict[str, Any]:
    """The security context of the pod or of one container."""
    if chance.random() < 0.4:
        context: dict[str, Any] = pod["spec"].setdefault("securityContext", {})
        return context
    return _context(chance, pod)


def _privileged(chance: random.Random, pod: Pod) -> None:
    context = _context(chance, pod)
    context["privileged"] = chance.choice((True, True, False))
    if context["privileged"] and context.get("allowPrivilegeEscalation") is False:
        # The API server refuses that as a contradiction.
        chance.choice((lambda: context.pop("allowPrivilegeEscalation"), lambda: _escalate(context)))()


def _escalate(context: dict[str, Any]) -> None:
    context["allowPrivilegeEscalation"] = True


def _escalation(chance: random.Random, pod: Pod) -> None:
    context = _context(chance, pod)
    if context.get("privileged") or chance.random() < 0.5:
        _escalate(context)
    else:
        context.pop("allowPrivilegeEscalation", None)


def _capabilities(chance: random.Random, pod: Pod) -> None:
    context = _context(chance, pod)
    kind = chance.choice(("none", "empty", "add", "add", "drop", "case"))
    if kind == "none":
        context.pop("capabilities", None)
    elif kind == "empty":
        context["capabilities"] = {}
    elif kind == "add":
        context.setdefault("capabilities", {})["add"] = chance.sample(_CAPABILITIES, k=chance.choice((1, 1, 2)))
    elif kind == "drop":
        context["capabilities"] = {"drop": chance.sample(_CAPABILITIES, k=2)}
    else:
        context["capabilities"] = {"drop": [chance.choice(("all", "All", "CAP_ALL"))]}


def _user(chance: random.Random, pod: Pod) -> None:
    context = _any_context(chance, pod)
    context["runAsUser"] = chance.choice((0, 0, 1, 1000))
    if context["runAsUser"] == 0 and context.get("runAsNonRoot") and chance.random() < 0.5:
        context["runAsNonRoot"] = False


def _non_root(chance: random.Random, pod: Pod) -> None:
    context = _any_context(chance, pod)
    choice = chance.choice((True, False, None))
    if choice is None:
        context.pop("runAsNonRoot", None)
    else:
        context["runAsNonRoot"] = choice


def _profile(chance: random.Random) -> dict[str, Any]:
    kind = chance.choice(_PROFILES)
    return {"type": kind} | ({"localhostProfile": "x.json"} if kind == "Localhost" else {})


def _seccomp(chance: random.Random, pod: Pod) -> None:
    context = _any_context(chance, pod)
    if chance.random() < 0.25:
        context.pop("seccompProfile", None)
    else:
        context["seccompProfile"] = _profile(chance)


def _app_armor(chance: random.Random, pod: Pod) -> None:
    _any_context(chance, pod)["appArmorProfile"] = _profile(chance)


def _app_armor_annotation(chance: random.Random, pod: Pod) -> None:
    container = _one(chance, pod)
    value = chance.choice(("runtime/default", "localhost/x", "unconfined", ""))
    pod["metadata"]["annotations"][f"container.apparmor.security.beta.kubernetes.io/{container['name']}"] = value


def _seccomp_annotation(chance: random.Random, pod: Pod) -> None:
    key = chance.choice(
        ("seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/main")
    )
    pod["metadata"]["annotations"][key] = chance.choice(("unconfined", "runtime/default", "localhost/x"))


def _selinux(chance: random.Random, pod: Pod) -> None:
    options = {"level": "s0:c1,c2"}
    if chance.random() < 0.7:
        options["type"] = chance.choice(_SELINUX_TYPES)
    if chance.random() < 0.25:
        options["user"] = chance.choice(("", "system_u"))
    if chance.random() < 0.25:
        options["role"] = chance.choice(("", "system_r"))
    _any_context(chance, pod)["seLinuxOptions"] = options


def _proc_mount(chance: random.Random, pod: Pod) -> None:
    kind = chance.choice(("Default", "Unmasked"))
    if kind == "Unmasked":
        pod["spec"]["hostUsers"] = False
    _context(chance, pod)["procMount"] = kind


def _sysctls(chance: random.Random, pod: Pod) -> None:
    names = chance.sample(_SYSCTLS, k=chance.choice((1, 1, 2, 3)))
    context = pod["spec"].setdefault("securityContext", {})
    context["sysctls"] = [{"name": name, "value": "1"} for name in names]


def _host_namespace(chance: random.Random, pod: Pod) -> None:
    pod["spec"].pop("hostUsers", None)
    pod["spec"][chance.choice(("hostNetwork", "hostPID", "hostIPC"))] = chance.choice((True, True, False))


def _host_port(chance: random.Random, pod: Pod) -> None:
    number = chance.randint(1024, 60000)
    port = {
        "containerPort": number,
        "hostPort": chance.choice((number, number, 0)),
        "hostIP": chance.choice(("", "::1")),
    }
    _one(chance, pod)["ports"] = [port]


def _volume(chance: random.Random, pod: Pod) -> None:
    name = f"v{len(pod['spec']['volumes'])}"
    source = {"hostPath": {"path": "/etc"}} if chance.random() < 0.2 else chance.choice(_VOLUMES)
    pod["spec"]["volumes"].append({"name": name, **source})


def _probe(chance: random.Random, pod: Pod) -> None:
    # Ordinary init containers have no probes.
    container = chance.choice([one for one in _containers(pod) if one["name"] != "init"])
    probe = chance.choice(("livenessProbe", "readinessProbe", "startupProbe"))
    container[probe] = _handler(chance)


def _hook(chance: random.Random, pod: Pod) -> None:
    container = chance.choice([one for one in _containers(pod) if one["name"] != "init"])
    container.setdefault("lifecycle", {})[chance.choice(("postStart", "preStop"))] = _handler(chance)


def _handler(chance: random.Random) -> dict[str, Any]:
    host = chance.choice(({}, {"host": ""}, {"host": "127.0.0.1"}, {"host": "example.com"}))
    return chance.choice(
        (
            {"httpGet": {"port": 8080, "path": "/", **host}},
            {"tcpSocket": {"port": 8080, **host}},
            {"exec": {"command": ["true"]}},
        )
    )


def _host_process(chance: random.Random, pod: Pod) -> None:
    _any_context(chance, pod)["windowsOptions"] = {"hostProcess": chance.choice((True, False))}


def _user_namespace(chance: random.Random, pod: Pod) -> None:
    pod["spec"]["hostUsers"] = chance.choice((True, False))


_SECURITY: tuple[Mutate, ...] = (
    _privileged,
    _escalation,
    _capabilities,
    _user,
    _non_root,
    _seccomp,
    _app_armor,
    _selinux,
)
MUTATIONS: tuple[Mutate, ...] = (
    *_SECURITY,
    *_SECURITY,
    _app_armor_annotation,
    _seccomp_annotation,
    _proc_mount,
    _sysctls,
    _host_namespace,
    _host_port,
    _volume,
    _volume,
    _probe,
    _hook,
    _host_process,
    _user_namespace,
)
