"""What mends a pod's template, for each control that can be mended without knowing what the pod is for."""

from collections.abc import Callable, Iterator
from typing import Any

from claude_sandbox.compliance.conventions import FIRST_ORDINARY_GROUP
from claude_sandbox.compliance.pods.pod_security import CONTAINER_FIELDS, OLDEST_SAFE_SYSCTLS, SELINUX_TYPES
from claude_sandbox.manifests.fix.edit import Edit, Object, mapping, mappings

_USER = 1000
_MEMORY, _CPU, _SCRATCH, _IN_MEMORY = "1Gi", "1", "1Gi", "64Mi"
"""Limits for what has none: to be adapted. Where something is requested the limit is that."""
_CONTEXT = "securityContext"
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP = ("seccomp.security.alpha.kubernetes.io/", "container.seccomp.security.alpha.kubernetes.io/")
_HANDLERS = ("livenessProbe", "readinessProbe", "startupProbe")

Mend = Callable[[Edit], None]
"""Mends a template: `edit.value` has `spec`, and perhaps `metadata`."""


def _spec(edit: Edit) -> Object:
    return mapping(edit.value.get("spec"))


def _containers(edit: Edit) -> Iterator[tuple[str, Object]]:
    for kind in CONTAINER_FIELDS:
        for one in mappings(_spec(edit).get(kind)):
            yield f"{kind}[{one.get('name')}]", one


def _contexts(edit: Edit) -> Iterator[tuple[str, Object]]:
    """Each securityContext that there is."""
    for where, one in (("", _spec(edit)), *_containers(edit)):
        if isinstance(one.get(_CONTEXT), dict):
            yield f"{where}.{_CONTEXT}".lstrip("."), one[_CONTEXT]


def _not_privileged(edit: Edit) -> None:
    for where, context in _contexts(edit):
        edit.remove(context, where, "privileged")
        if "hostProcess" in mapping(context.get("windowsOptions")):
            edit.remove(context["windowsOptions"], f"{where}.windowsOptions", "hostProcess")


def _capabilities(edit: Edit) -> None:
    for where, one in _containers(edit):
        capabilities = edit.below(edit.below(one, _CONTEXT), "capabilities")
        edit.set(capabilities, f"{where}.{_CONTEXT}.capabilities", "drop", ["ALL"])
        edit.keep(capabilities, f"{where}.{_CONTEXT}.capabilities", "add", lambda name: name == "NET_BIND_SERVICE")


def _no_new_privileges(edit: Edit) -> None:
    _in_each(edit, "allowPrivilegeEscalation", False)


def _read_only_root(edit: Edit) -> None:
    _in_each(edit, "readOnlyRootFilesystem", True)


def _in_each(edit: Edit, field: str, value: Any) -> None:
    for where, one in _containers(edit):
        edit.set(edit.below(one, _CONTEXT), f"{where}.{_CONTEXT}", field, value)


def _not_root(edit: Edit) -> None:
    for where, context in _contexts(edit):
        if context.get("runAsNonRoot") is not True:
            edit.remove(context, where, "runAsNonRoot")
        if context.get("runAsUser") == 0:
            edit.remove(context, where, "runAsUser")
    whole = edit.below(_spec(edit), _CONTEXT)
    edit.set(whole, _CONTEXT, "runAsNonRoot", True)
    if not _all_say(edit, "runAsUser"):
        edit.set(whole, _CONTEXT, "runAsUser", _USER)


def _groups(edit: Edit) -> None:
    for where, context in _contexts(edit):
        if _is_system(context.get("runAsGroup")):
            edit.remove(context, where, "runAsGroup")
    whole = edit.below(_spec(edit), _CONTEXT)
    if (
        not all("runAsGroup" in mapping(one.get(_CONTEXT)) for _, one in _containers(edit))
        and "runAsGroup" not in whole
    ):
        edit.set(whole, _CONTEXT, "runAsGroup", _USER)
    if _is_system(whole.get("fsGroup")):
        edit.set(whole, _CONTEXT, "fsGroup", _USER)
    edit.keep(whole, _CONTEXT, "supplementalGroups", lambda group: not _is_system(group))
    edit.set(whole, _CONTEXT, "supplementalGroupsPolicy", "Strict")


def _all_say(edit: Edit, field: str) -> bool:
    """Whether the pod has the field, or each of its containers."""
    if field in mapping(_spec(edit).get(_CONTEXT)):
        return True
    return all(field in mapping(one.get(_CONTEXT)) for _, one in _containers(edit))


def _is_system(group: Any) -> bool:
    return isinstance(group, int) and group < FIRST_ORDINARY_GROUP


def _seccomp(edit: Edit) -> None:
    for where, context in _contexts(edit):
        if mapping(context.get("seccompProfile")).get("type") not in ("RuntimeDefault", "Localhost", None):
            edit.remove(context, where, "seccompProfile")
    # Before 1.27 an annotation said it; the API server refuses one that says something else than the field.
    annotations = mapping(mapping(edit.value.get("metadata")).get("annotations"))
    for key in [key for key in annotations if str(key).startswith(_SECCOMP)]:
        edit.remove(annotations, "metadata.annotations", key)
    whole = edit.below(_spec(edit), _CONTEXT)
    if "seccompProfile" not in whole:
        edit.set(whole, _CONTEXT, "seccompProfile", {"type": "RuntimeDefault"})


def _app_armor(edit: Edit) -> None:
    for where, context in _contexts(edit):
        if mapping(context.get("appArmorProfile")).get("type") not in ("RuntimeDefault", "Localhost", None):
            edit.remove(context, where, "appArmorProfile")
    annotations = mapping(mapping(edit.value.get("metadata")).get("annotations"))
    for key in [key for key in annotations if str(key).startswith(_APP_ARMOR)]:
        if not str(annotations[key]).startswith(("runtime/default", "localhost/")):
            edit.remove(annotations, "metadata.annotations", key)


def _selinux(edit: Edit) -> None:
    for where, context in _contexts(edit):
        options = mapping(context.get("seLinuxOptions"))
        for key in ("user", "role"):
            edit.remove(options, f"{where}.seLinuxOptions", key)
        if options.get("type") not in (None, *SELINUX_TYPES):
            edit.remove(options, f"{where}.seLinuxOptions", "type")


def _masks(edit: Edit) -> None:
    for where, context in _contexts(edit):
        edit.remove(context, where, "procMount")


def _sysctls(edit: Edit) -> None:
    whole = mapping(_spec(edit).get(_CONTEXT))
    edit.keep(whole, _CONTEXT, "sysctls", lambda one: mapping(one).get("name") in OLDEST_SAFE_SYSCTLS)


def _without(field: str) -> Mend:
    return lambda edit: edit.remove(_spec(edit), "", field)


def _host_ports(edit: Edit) -> None:
    for where, one in _containers(edit):
        for port in mappings(one.get("ports")):
            edit.remove(port, f"{where}.ports[{port.get('containerPort')}]", "hostPort")


def _probe_hosts(edit: Edit) -> None:
    for where, one in _containers(edit):
        hooks = {f"lifecycle.{key}": value for key, value in mapping(one.get("lifecycle")).items()}
        for name, handler in ({key: one.get(key) for key in _HANDLERS} | hooks).items():
            for kind in ("httpGet", "tcpSocket"):
                edit.remove(mapping(mapping(handler).get(kind)), f"{where}.{name}.{kind}", "host")


def _propagation(edit: Edit) -> None:
    for where, one in _containers(edit):
        for mount in mappings(one.get("volumeMounts")):
            edit.remove(mount, f"{where}.volumeMounts[{mount.get('name')}]", "mountPropagation")


def _scratch(edit: Edit) -> None:
    for volume in mappings(_spec(edit).get("volumes")):
        if "emptyDir" not in volume:
            continue
        scratch = edit.below(volume, "emptyDir")
        if scratch.get("sizeLimit") in (None, 0, "0", ""):
            size = _IN_MEMORY if scratch.get("medium") == "Memory" else _SCRATCH
            edit.set(scratch, f"volumes[{volume.get('name')}].emptyDir", "sizeLimit", size)


def _limited(resource: str, default: str) -> Mend:
    def mend(edit: Edit) -> None:
        for where, one in _containers(edit):
            if where.startswith("ephemeral"):
                continue
            resources = edit.below(one, "resources")
            asked = mapping(resources.get("requests")).get(resource)
            limits = edit.below(resources, "limits")
            if limits.get(resource) is None:
                edit.set(limits, f"{where}.resources.limits", resource, asked if asked is not None else default)

    return mend


def _no_token(edit: Edit) -> None:
    edit.set(_spec(edit), "", "automountServiceAccountToken", False)


MENDS: dict[str, Mend] = {
    "PRIV-01": _not_privileged,
    "PRIV-02": _capabilities,
    "PRIV-03": _no_new_privileges,
    "PRIV-04": _not_root,
    "PRIV-05": _groups,
    "KERN-01": _seccomp,
    "KERN-02": _app_armor,
    "KERN-03": _selinux,
    "KERN-04": _masks,
    "KERN-05": _sysctls,
    "NS-01": _without("hostPID"),
    "NS-02": _without("hostIPC"),
    "NS-03": _without("hostNetwork"),
    "NS-05": _without("shareProcessNamespace"),
    "NS-06": _host_ports,
    "NS-07": _probe_hosts,
    "FS-01": _read_only_root,
    "FS-06": _propagation,
    "FS-07": _scratch,
    "RES-01": _limited("memory", _MEMORY),
    "RES-02": _limited("cpu", _CPU),
    "ID-01": _no_token,
}
