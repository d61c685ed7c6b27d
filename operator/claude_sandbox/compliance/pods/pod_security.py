"""The Pod Security Standards, exactly as the API server's PodSecurity admission decides them.

Source: the Kubernetes documentation "Pod Security Standards" and the behaviour of kube-apiserver 1.34 and 1.37,
against which the tests compare every check on generated pods. Identifiers are those of the admission's checks.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

Level = Literal["baseline", "restricted"]
Object = Mapping[str, Any]
Find = Callable[[Object], Iterator[str]]
"""Yields one sentence for each thing in a pod that a check forbids."""

CONTAINER_FIELDS = ("initContainers", "containers", "ephemeralContainers")
NEWEST_MINOR = 37
"""The newest Kubernetes minor version whose checks are known here; later ones are judged by the same checks."""

_EMPTY: Object = {}


@dataclass(frozen=True)
class Violation:
    """Something in a pod that the standard forbids."""

    check_id: str
    detail: str


@dataclass(frozen=True)
class Check:
    """One check of the standard. `versions` are pairs of the first minor version and what holds from it on."""

    id: str
    level: Level
    versions: tuple[tuple[int, Find], ...]
    overrides: str = ""
    """The baseline check that is left out where this restricted one, which is stricter, is made."""

    def at(self, minor: int) -> Find | None:
        """What is checked in Kubernetes 1.`minor`; None where the check did not exist yet."""
        found = [find for first, find in self.versions if first <= minor]
        return found[-1] if found else None


def violations(pod: Object, level: Level, minor: int) -> tuple[Violation, ...]:
    """All that keeps `pod` out of a namespace that enforces `level` on Kubernetes 1.`minor`; empty if nothing.

    `pod` is a Pod as JSON has it. Init, main and ephemeral containers are judged alike.
    """
    return tuple(Violation(check_id, detail) for check_id, find in checks(level, minor) for detail in find(pod))


@cache
def checks(level: Level, minor: int) -> tuple[tuple[str, Find], ...]:
    """The checks that PodSecurity makes at `level` on Kubernetes 1.`minor`, in its order."""
    made = {check.id: find for check in CHECKS if (find := check.at(minor)) and level in (check.level, "restricted")}
    overridden = {check.overrides for check in CHECKS if check.id in made and check.level == "restricted"}
    return tuple((check_id, find) for check_id, find in made.items() if check_id not in overridden)


def containers(spec: Object) -> Iterator[Object]:
    """The init, main and ephemeral containers of a pod's spec."""
    for field in CONTAINER_FIELDS:
        yield from spec.get(field) or ()


def _spec(pod: Object) -> Object:
    return pod.get("spec") or _EMPTY


def _contexts(pod: Object) -> Iterator[tuple[str, Object]]:
    """The security contexts of the pod and of each container, each with whose it is."""
    spec = _spec(pod)
    yield "the pod", spec.get("securityContext") or _EMPTY
    yield from _container_contexts(pod)


def _container_contexts(pod: Object) -> Iterator[tuple[str, Object]]:
    for container in containers(_spec(pod)):
        yield f"container {container.get('name')}", container.get("securityContext") or _EMPTY


def _in_user_namespace(pod: Object) -> bool:
    return _spec(pod).get("hostUsers") is False


def _is_windows(pod: Object) -> bool:
    return (_spec(pod).get("os") or _EMPTY).get("name") == "windows"


def _never(_pod: Object) -> Iterator[str]:
    yield from ()


def _unless(exempt: Callable[[Object], bool], find: Find) -> Find:
    return lambda pod: _never(pod) if exempt(pod) else find(pod)


# Baseline


def _app_armor(pod: Object) -> Iterator[str]:
    for whose, context in _contexts(pod):
        profile = context.get("appArmorProfile")
        if profile is not None and profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{whose} sets the AppArmor profile {profile.get('type')}"
    for key, value in ((pod.get("metadata") or _EMPTY).get("annotations") or _EMPTY).items():
        if not key.startswith("container.apparmor.security.beta.kubernetes.io/"):
            continue
        if value and value != "runtime/default" and not value.startswith("localhost/"):
            yield f"the annotation {key} is {value}"


_BASELINE_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)


def _added(pod: Object, allowed: frozenset[str]) -> Iterator[str]:
    for whose, context in _container_contexts(pod):
        for capability in (context.get("capabilities") or _EMPTY).get("add") or ():
            if capability not in allowed:
                yield f"{whose} adds the capability {capability}"


def _baseline_capabilities(pod: Object) -> Iterator[str]:
    yield from _added(pod, _BASELINE_CAPABILITIES)


def _host_namespaces(pod: Object) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if _spec(pod).get(field):
            yield f"{field} is true"


def _host_paths(pod: Object) -> Iterator[str]:
    for volume in _spec(pod).get("volumes") or ():
        if volume.get("hostPath") is not None:
            yield f"volume {volume.get('name')} is the host's {volume['hostPath'].get('path')}"


def _host_ports(pod: Object) -> Iterator[str]:
    for container in containers(_spec(pod)):
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield f"container {container.get('name')} uses the host's port {port['hostPort']}"


def _probe_hosts(pod: Object) -> Iterator[str]:
    for container in containers(_spec(pod)):
        lifecycle = container.get("lifecycle") or _EMPTY
        handlers = {
            **{name: container.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe")},
            **{name: lifecycle.get(name) for name in ("postStart", "preStop")},
        }
        for name, handler in handlers.items():
            for action in ("httpGet", "tcpSocket"):
                if host := ((handler or _EMPTY).get(action) or _EMPTY).get("host"):
                    yield f"container {container.get('name')} names the host {host} in its {name}"


def _privileged(pod: Object) -> Iterator[str]:
    for whose, context in _container_contexts(pod):
        if context.get("privileged"):
            yield f"{whose} is privileged"


def _proc_mount(pod: Object) -> Iterator[str]:
    for whose, context in _container_contexts(pod):
        if context.get("procMount") not in (None, "Default"):
            yield f"{whose} sets procMount to {context['procMount']}"


def _selinux(allowed: frozenset[str]) -> Find:
    def find(pod: Object) -> Iterator[str]:
        for whose, context in _contexts(pod):
            options = context.get("seLinuxOptions") or _EMPTY
            if options.get("type", "") not in allowed:
                yield f"{whose} sets the SELinux type {options['type']}"
            for field in ("user", "role"):
                if options.get(field):
                    yield f"{whose} sets an SELinux {field}"

    return find


def _baseline_seccomp(pod: Object) -> Iterator[str]:
    for whose, context in _contexts(pod):
        profile = context.get("seccompProfile")
        if profile is not None and not _is_seccomp_filter(profile):
            yield f"{whose} sets the seccomp profile {profile.get('type')}"


def _is_seccomp_filter(profile: Object | None) -> bool:
    return profile is not None and profile.get("type") in ("RuntimeDefault", "Localhost")


def _seccomp_annotations(pod: Object) -> Iterator[str]:
    annotations = (pod.get("metadata") or _EMPTY).get("annotations") or _EMPTY
    container_prefix = "container.seccomp.security.alpha.kubernetes.io/"
    names = [f"{container_prefix}{container.get('name')}" for container in containers(_spec(pod))]
    for key in ("seccomp.security.alpha.kubernetes.io/pod", *names):
        value = annotations.get(key, "runtime/default")
        if value not in ("runtime/default", "docker/default") and not value.startswith("localhost/"):
            yield f"the annotation {key} is {value}"


def _sysctls(allowed: frozenset[str]) -> Find:
    def find(pod: Object) -> Iterator[str]:
        for sysctl in (_spec(pod).get("securityContext") or _EMPTY).get("sysctls") or ():
            if sysctl.get("name") not in allowed:
                yield f"the pod sets the sysctl {sysctl.get('name')}"

    return find


def _host_process(pod: Object) -> Iterator[str]:
    for whose, context in _contexts(pod):
        if (context.get("windowsOptions") or _EMPTY).get("hostProcess"):
            yield f"{whose} is a Windows HostProcess"


# Restricted


def _privilege_escalation(pod: Object) -> Iterator[str]:
    for whose, context in _container_contexts(pod):
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{whose} does not set allowPrivilegeEscalation to false"


def _restricted_capabilities(pod: Object) -> Iterator[str]:
    for whose, context in _container_contexts(pod):
        if "ALL" not in ((context.get("capabilities") or _EMPTY).get("drop") or ()):
            yield f"{whose} does not drop ALL capabilities"
    yield from _added(pod, frozenset({"NET_BIND_SERVICE"}))


_RESTRICTED_VOLUMES = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
)


def _volume_types(pod: Object) -> Iterator[str]:
    for volume in _spec(pod).get("volumes") or ():
        if all(volume.get(source) is None for source in _RESTRICTED_VOLUMES):
            kinds = [key for key, value in volume.items() if key != "name" and value is not None]
            yield f"volume {volume.get('name')} is of the type {', '.join(kinds) or 'unknown'}"


def _run_as_non_root(pod: Object) -> Iterator[str]:
    inherited = (_spec(pod).get("securityContext") or _EMPTY).get("runAsNonRoot")
    if inherited is False:
        yield "the pod sets runAsNonRoot to false"
    for whose, context in _container_contexts(pod):
        own = context.get("runAsNonRoot")
        if own is False or (own is None and not inherited):
            yield f"{whose} does not set runAsNonRoot to true"


def _run_as_user(pod: Object) -> Iterator[str]:
    for whose, context in _contexts(pod):
        if context.get("runAsUser") == 0:
            yield f"{whose} sets runAsUser to 0"


def _restricted_seccomp(pod: Object) -> Iterator[str]:
    inherited = _is_seccomp_filter((_spec(pod).get("securityContext") or _EMPTY).get("seccompProfile"))
    for whose, context in _contexts(pod):
        profile = context.get("seccompProfile")
        if profile is not None:
            if not _is_seccomp_filter(profile):
                yield f"{whose} sets the seccomp profile {profile.get('type')}"
        elif whose != "the pod" and not inherited:
            yield f"{whose} has no seccomp profile"


_SELINUX_TYPES_0 = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
SELINUX_TYPES = _SELINUX_TYPES_0 | {"container_engine_t"}

_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_syncookies",
    }
)
_SYSCTLS_27 = _SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_29 = _SYSCTLS_27 | {
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
}
_SYSCTLS_32 = _SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
OLDEST_SAFE_SYSCTLS = _SYSCTLS_32
"""Those that the oldest supported Kubernetes lets be set, 1.34."""
SAFE_SYSCTLS = _SYSCTLS_32 | {"net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_slow_start_after_idle"}

CHECKS: tuple[Check, ...] = (
    Check("appArmorProfile", "baseline", ((0, _app_armor),)),
    Check("capabilities_baseline", "baseline", ((0, _baseline_capabilities),)),
    Check("hostNamespaces", "baseline", ((0, _host_namespaces),)),
    Check("hostPathVolumes", "baseline", ((0, _host_paths),)),
    Check("hostPorts", "baseline", ((0, _host_ports),)),
    Check("hostProbesAndHostLifecycle", "baseline", ((34, _probe_hosts),)),
    Check("privileged", "baseline", ((0, _privileged),)),
    Check("procMount", "baseline", ((0, _proc_mount), (35, _unless(_in_user_namespace, _proc_mount)))),
    Check("seLinuxOptions", "baseline", ((0, _selinux(_SELINUX_TYPES_0)), (31, _selinux(SELINUX_TYPES)))),
    Check("seccompProfile_baseline", "baseline", ((0, _seccomp_annotations), (19, _baseline_seccomp))),
    Check(
        "sysctls",
        "baseline",
        (
            (0, _sysctls(_SYSCTLS)),
            (27, _sysctls(_SYSCTLS_27)),
            (29, _sysctls(_SYSCTLS_29)),
            (32, _sysctls(_SYSCTLS_32)),
            (37, _sysctls(SAFE_SYSCTLS)),
        ),
    ),
    Check("windowsHostProcess", "baseline", ((0, _host_process),)),
    Check(
        "allowPrivilegeEscalation",
        "restricted",
        ((8, _privilege_escalation), (25, _unless(_is_windows, _privilege_escalation))),
    ),
    Check(
        "capabilities_restricted",
        "restricted",
        ((22, _restricted_capabilities), (25, _unless(_is_windows, _restricted_capabilities))),
        overrides="capabilities_baseline",
    ),
    Check("procMount_restricted", "restricted", ((35, _proc_mount),), overrides="procMount"),
    Check("restrictedVolumes", "restricted", ((0, _volume_types),), overrides="hostPathVolumes"),
    Check("runAsNonRoot", "restricted", ((0, _run_as_non_root), (35, _unless(_in_user_namespace, _run_as_non_root)))),
    Check("runAsUser", "restricted", ((23, _run_as_user), (35, _unless(_in_user_namespace, _run_as_user)))),
    Check(
        "seccompProfile_restricted",
        "restricted",
        ((19, _restricted_seccomp), (25, _unless(_is_windows, _restricted_seccomp))),
        overrides="seccompProfile_baseline",
    ),
)

_BY_ID = {check.id: check for check in CHECKS}


@cache
def find(check_id: str, minor: int) -> Find:
    """The check `check_id` by itself, whatever level and overrides, as in Kubernetes 1.`minor`.

    Raises KeyError for an unknown identifier.
    """
    return _BY_ID[check_id].at(minor) or _never
