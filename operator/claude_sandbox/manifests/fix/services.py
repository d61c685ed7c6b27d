"""What mends a service of a Compose file, for each control that can be mended without knowing what it is for."""

import re
from collections.abc import Callable, MutableSequence
from typing import Any

from claude_sandbox.compliance.conventions import FIRST_ORDINARY_GROUP
from claude_sandbox.compliance.pods.pod_security import SAFE_SYSCTLS, SELINUX_TYPES
from claude_sandbox.manifests.fix.edit import Edit, Object, mapping, mappings

_USER = "1000:1000"
_MEMORY, _CPUS, _PROCESSES, _SCRATCH, _SCRATCH_BYTES = "2g", 2, 512, "256m", 268435456
"""Limits for what has none: to be adapted."""
_FILES = {"soft": 4096, "hard": 8192}
_LOG_SIZE = "10m"
_PORT = re.compile(r"(?:(?P<ip>\[.*\]|[0-9.]+):)?(?P<rest>\d+(?:-\d+)?:\d+(?:-\d+)?(?:/\w+)?)")

Mend = Callable[[Edit], None]


def _set(key: str, value: Any) -> Mend:
    return lambda edit: edit.set(edit.value, "", key, value)


def _without(*keys: str) -> Mend:
    def mend(edit: Edit) -> None:
        for key in keys:
            edit.remove(edit.value, "", key)

    return mend


def _without_value(key: str, value: str) -> Mend:
    def mend(edit: Edit) -> None:
        if edit.value.get(key) == value:
            edit.remove(edit.value, "", key)

    return mend


def _capabilities(edit: Edit) -> None:
    edit.set(edit.value, "", "cap_drop", ["ALL"])
    edit.keep(edit.value, "", "cap_add", lambda name: str(name).upper() in ("NET_BIND_SERVICE", "CAP_NET_BIND_SERVICE"))


def _option(option: Any) -> tuple[str, str]:
    text = str(option)
    key, _, value = text.partition("=" if "=" in text else ":")
    return key.lower(), value


def _without_options(wrong: Callable[[str, str], bool]) -> Mend:
    return lambda edit: edit.keep(edit.value, "", "security_opt", lambda one: not wrong(*_option(one)))


def _no_new_privileges(edit: Edit) -> None:
    _without_options(lambda key, _: key == "no-new-privileges")(edit)
    if not isinstance(edit.value.get("security_opt"), MutableSequence):
        edit.value["security_opt"] = []
    edit.value["security_opt"].append("no-new-privileges:true")
    edit.changes.append("security_opt: no-new-privileges:true added")


def _bad_label(key: str, value: str) -> bool:
    kind, _, name = value.partition(":")
    return key == "label" and (kind in ("disable", "user", "role") or (kind == "type" and name not in SELINUX_TYPES))


def _not_root(edit: Edit) -> None:
    """Only where the user is root or is not named: another's name may be written in the image."""
    user = edit.value.get("user")
    if user is None or str(user).partition(":")[0] in ("", "0", "root"):
        edit.set(edit.value, "", "user", _USER)


def _groups(edit: Edit) -> None:
    user, _, group = str(edit.value.get("user") or "").partition(":")
    if user.isdecimal() and int(user) and (not group or group == "root" or (group.isdecimal() and int(group) == 0)):
        edit.set(edit.value, "", "user", f"{user}:{user}")
    else:
        _not_root(edit)
    edit.keep(edit.value, "", "group_add", lambda one: str(one).isdecimal() and int(str(one)) >= FIRST_ORDINARY_GROUP)


def _sysctls(edit: Edit) -> None:
    edit.keep(edit.value, "", "sysctls", lambda one: str(one).partition("=")[0] in SAFE_SYSCTLS)


def _own_names(edit: Edit) -> None:
    _without_value("uts", "host")(edit)
    edit.set(edit.value, "", "cgroup", "private")


def _loopback(edit: Edit) -> None:
    """Published ports stay reachable from the host itself; ports of the host below 1024 are left."""
    ports: Any = edit.value.get("ports")
    for number, port in enumerate(ports if isinstance(ports, MutableSequence) else ()):
        if isinstance(port, dict):
            if port.get("host_ip") not in ("127.0.0.1", "::1"):
                edit.set(port, f"ports[{port.get('target')}]", "host_ip", "127.0.0.1")
        elif (match := _PORT.fullmatch(str(port))) and match["ip"] not in ("127.0.0.1", "[::1]"):
            ports[number] = f"127.0.0.1:{match['rest']}"
            edit.changes.append(f"ports: 127.0.0.1:{match['rest']}")


def _propagation(edit: Edit) -> None:
    for volume in mappings(edit.value.get("volumes")):
        edit.remove(mapping(volume.get("bind")), f"volumes[{volume.get('target')}].bind", "propagation")


def _scratch(edit: Edit) -> None:
    tmpfs: Any = edit.value.get("tmpfs")
    if isinstance(tmpfs, str):
        edit.set(edit.value, "", "tmpfs", _bounded(tmpfs))
    for number, one in enumerate(tmpfs if isinstance(tmpfs, MutableSequence) else ()):
        if isinstance(one, str) and (mended := _bounded(one)) != one:
            tmpfs[number] = mended
            edit.changes.append(f"tmpfs: {mended}")
    for volume in mappings(edit.value.get("volumes")):
        if volume.get("type") == "tmpfs" and not mapping(volume.get("tmpfs")).get("size"):
            where = f"volumes[{volume.get('target')}].tmpfs"
            edit.set(edit.below(volume, "tmpfs"), where, "size", _SCRATCH_BYTES)


def _bounded(tmpfs: str) -> str:
    path, _, options = tmpfs.partition(":")
    kept = [one for one in options.split(",") if one and one not in ("suid", "dev")]
    if not any(re.fullmatch(r"size=0*[1-9]\d*[kKmMgG%]?", one) for one in kept):
        kept = [*(one for one in kept if not one.startswith("size=")), f"size={_SCRATCH}"]
    return f"{path}:{','.join(kept)}"


def _limited(key: str, below: str, value: Any) -> Mend:
    """Where the service says its limits: Compose refuses the two to differ."""

    def mend(edit: Edit) -> None:
        resources = mapping(mapping(edit.value.get("deploy")).get("resources"))
        limits = mapping(resources.get("limits"))
        if key not in edit.value and (below in limits or limits):
            edit.set(limits, "deploy.resources.limits", below, str(value) if below != "pids" else value)
        else:
            edit.remove(limits, "deploy.resources.limits", below)
            edit.set(edit.value, "", key, value)

    return mend


def _files(edit: Edit) -> None:
    limits: Object = edit.below(edit.value, "ulimits")
    edit.keep(edit.value, "", "ulimits", lambda name: not _is_unlimited(limits[name]))
    edit.set(edit.below(edit.value, "ulimits"), "ulimits", "nofile", dict(_FILES))


def _is_unlimited(limit: Any) -> bool:
    hard = mapping(limit).get("hard") if isinstance(limit, dict) else limit
    return not isinstance(hard, int) or hard < 0


def _log(edit: Edit) -> None:
    """A bound that is missing or none; the driver stays, since whoever reads the log may depend on it."""
    logging = edit.below(edit.value, "logging")
    edit.set(edit.below(logging, "options"), "logging.options", "max-size", _LOG_SIZE)


MENDS: dict[str, Mend] = {
    "PRIV-01": _without("privileged"),
    "PRIV-02": _capabilities,
    "PRIV-03": _no_new_privileges,
    "PRIV-04": _not_root,
    "PRIV-05": _groups,
    "KERN-01": _without_options(lambda key, value: key == "seccomp" and value.strip().lower() == "unconfined"),
    "KERN-02": _without_options(lambda key, value: key == "apparmor" and value.strip().lower() == "unconfined"),
    "KERN-03": _without_options(_bad_label),
    "KERN-04": _without_options(lambda key, _: key in ("systempaths", "writable-cgroups")),
    "KERN-05": _sysctls,
    "NS-01": _without_value("pid", "host"),
    "NS-02": _without_value("ipc", "host"),
    "NS-03": _without_value("network_mode", "host"),
    "NS-04": _own_names,
    "NS-06": _loopback,
    "FS-01": _set("read_only", True),
    "FS-06": _propagation,
    "FS-07": _scratch,
    "RES-01": _limited("mem_limit", "memory", _MEMORY),
    "RES-02": _limited("cpus", "cpus", _CPUS),
    "RES-03": _limited("pids_limit", "pids", _PROCESSES),
    "RES-04": _files,
    "RES-08": _log,
}
