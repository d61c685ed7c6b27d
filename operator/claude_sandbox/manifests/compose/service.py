"""From a service to what `docker inspect` would print of its container, with an engine's own defaults filled in.

What the file does not decide is left out, and makes results Unknown: who the user is where none is named, as the image
says that. What is written about variables, commands and labels is judged by itself: what the image adds is not known.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from claude_sandbox.api.credentials import measured
from claude_sandbox.compliance.evidence.containers import ExecSession, ExecSessions
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.manifests.compose import mounts
from claude_sandbox.manifests.compose.values import (
    UNTOLD,
    bindings,
    interpolated,
    mapping,
    mappings,
    nano_cpus,
    number,
    pairs,
    size,
    text,
    texts,
    truth,
)

_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap"),
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What engines mask and write-protect in containers that are not privileged (moby, oci/defaults.go)."""
_UNTOLD: Any = object()


def networks_of(service: Object) -> list[str]:
    """The project's networks that it is on, by their keys: `default` where it names none."""
    if service.get("network_mode") is not None:
        return []
    those = service.get("networks")
    return [str(one) for one in those] if isinstance(those, list | Mapping) and those else ["default"]


def document(name: str, service: Object, project: Object, directory: str) -> Object:
    """As `docker inspect` would print it, before the container is started."""
    service = interpolated(service)
    networks, mode = networks_of(service), text(service.get("network_mode"))
    if mode is None:
        mode = networks[0] if networks else ""
    elif mode.startswith("service:"):
        mode = f"container:{mode.removeprefix('service:')}"
    places = mounts.host_part(service, project, directory)
    return _told(
        {
            "Id": name,
            "Name": f"/{name}",
            "Path": "",
            "Args": [],
            "State": {"Running": False},
            "AppArmorProfile": "",
            "ProcessLabel": "",
            "ExecIDs": None,
            "Config": _config(service),
            "HostConfig": _told({**_host(service), **places, "NetworkMode": mode}),
            "Mounts": [] if mounts.is_all_told(service) else _UNTOLD,
            "NetworkSettings": {
                "Ports": {},
                "Networks": {one: {"NetworkID": one} for one in networks or [mode] if ":" not in one},
            },
        }
    )


def hooks(service: Object) -> ExecSessions:
    """What Compose runs in the container from outside after it is started, and before it is stopped."""
    sessions = [
        ExecSession(truth(one.get("privileged")), "" if one.get("user") is None else text(one.get("user")))
        for key in ("post_start", "pre_stop")
        for one in mappings(service.get(key))
    ]
    return ExecSessions(tuple(sessions))


def _config(service: Object) -> Object:
    labels, image, user = pairs(service.get("labels")), text(service.get("image")), text(service.get("user"))
    return _told(
        {
            "Image": _UNTOLD if image is None else image,
            "User": _UNTOLD if user is None else user,
            "Env": _environment(service),
            "Cmd": _words(service.get("command")),
            "Entrypoint": _words(service.get("entrypoint")),
            "Labels": _UNTOLD if labels is None else {key: str(value or "") for key, value in labels},
            "Healthcheck": _health(service.get("healthcheck")),
        }
    )


def _environment(service: Object) -> Any:
    """A variable without a value, or whose value is another variable, has one that Compose takes from where it runs."""
    found = pairs(service.get("environment"))
    if found is None:
        return _UNTOLD
    entries = [(key, _value(value)) for key, value in found]
    unread = bool(service.get("env_file"))
    if unread and not any(measured.variable_holds_credential(key, value) for key, value in entries):
        return _UNTOLD
    return [f"{key}={value}" for key, value in entries]


def _value(value: Any) -> str:
    return "x" if value is None else str(value).replace(UNTOLD, "x")


def _words(value: Any) -> Any:
    if value is None:
        return None
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError:
        return _UNTOLD
    return [_value(one) for one in words] if isinstance(words, list) else _UNTOLD


def _health(check: Any) -> Any:
    if check is None:
        return _UNTOLD
    test = mapping(check).get("test")
    if mapping(check).get("disable") is True:
        return {"Test": ["NONE"]}
    return {"Test": ["CMD-SHELL", _value(test)] if isinstance(test, str) else _words(test) or []}


def _host(service: Object) -> Object:
    limits = mapping(mapping(mapping(service.get("deploy")).get("resources")).get("limits"))
    privileged = truth(service.get("privileged"))
    unmasked = privileged is not False
    return {
        "Privileged": privileged,
        "CapAdd": texts(service.get("cap_add")),
        "CapDrop": texts(service.get("cap_drop")),
        "SecurityOpt": texts(service.get("security_opt")),
        "ReadonlyRootfs": truth(service.get("read_only")),
        "MaskedPaths": None if unmasked else list(_MASKED),
        "ReadonlyPaths": None if unmasked else list(_READ_ONLY),
        "Memory": size(service.get("mem_limit", limits.get("memory"))),
        "NanoCpus": nano_cpus(service.get("cpus", limits.get("cpus"))),
        "CpuQuota": number(service.get("cpu_quota")),
        "CpuPeriod": number(service.get("cpu_period")),
        "PidsLimit": number(service.get("pids_limit", limits.get("pids"))),
        "Ulimits": _ulimits(service.get("ulimits")),
        "LogConfig": _log(service.get("logging")),
        "GroupAdd": texts(service.get("group_add")),
        "PidMode": _mode(service.get("pid")),
        "IpcMode": _mode(service.get("ipc")),
        "UTSMode": _mode(service.get("uts")),
        "UsernsMode": _mode(service.get("userns_mode")),
        "CgroupnsMode": _mode(service.get("cgroup")),
        "Cgroup": "",
        "Runtime": _mode(service.get("runtime")),
        "Sysctls": _sysctls(service.get("sysctls")),
        "Dns": texts(service.get("dns")),
        "PublishAllPorts": False,
        "PortBindings": bindings(service.get("ports")),
        "RestartPolicy": _restart(service),
        "Devices": _devices(service.get("devices")),
        "DeviceCgroupRules": texts(service.get("device_cgroup_rules")),
        "DeviceRequests": _device_requests(service),
    }


def _mode(value: Any) -> Any:
    if value is None:
        return ""
    mode = text(value)
    return mode.replace("service:", "container:", 1) if mode is not None else None


def _ulimits(value: Any) -> Any:
    if not isinstance(value, Mapping | None):
        return None
    found = []
    for name, one in (value or {}).items():
        hard = number(mapping(one).get("hard") if isinstance(one, Mapping) else one)
        found.append({"Name": str(name), "Hard": hard})
    return found


def _log(value: Any) -> Any:
    """Without a driver it is the engine's own choice, which no file tells."""
    driver = text(mapping(value).get("driver"))
    options = pairs(mapping(value).get("options"))
    return {
        "Type": driver if driver is None else _value(driver),
        "Config": None if options is None else {key: _value(one) for key, one in options},
    }


def _sysctls(value: Any) -> Any:
    found = pairs(value)
    return "not told" if found is None else {name: str(one) for name, one in found}


def _devices(value: Any) -> Any:
    if not isinstance(value, list | None):
        return None
    sources = [mapping(one).get("source") if isinstance(one, Mapping) else one for one in value or ()]
    return [{"PathOnHost": (text(one) or "not told").partition(":")[0]} for one in sources]


def _device_requests(service: Object) -> list[Object]:
    reserved = mapping(mapping(mapping(service.get("deploy")).get("resources")).get("reservations")).get("devices")
    asked = [{"Driver": text(one.get("driver")) or ""} for one in mappings(reserved)]
    return [*asked, *([{"Driver": "gpus"}] if service.get("gpus") else [])]


def _restart(service: Object) -> Object:
    policy = service.get("restart")
    if policy is None:
        swarm = mapping(mapping(service.get("deploy")).get("restart_policy"))
        condition = {"any": "always", "none": "no"}.get(str(swarm.get("condition")), swarm.get("condition"))
        attempts = swarm.get("max_attempts")
        policy = "no" if not swarm else f"{condition or 'always'}:{attempts if attempts is not None else 0}"
    # A `no` without quotes is false.
    name, _, attempts = ("no" if policy is False else str(policy)).partition(":")
    return {"Name": name, "MaximumRetryCount": number(attempts or None)}


_EMPTY_WHEN_NULL = frozenset({"ExecIDs", "Cmd", "Entrypoint"})
"""What an engine writes null for where it is empty. Elsewhere null is what could not be told, and is left out."""
_ENGINES_OWN_NULL = frozenset({"MaskedPaths", "ReadonlyPaths"})


def _told(fields: Object) -> Object:
    return {
        key: value
        for key, value in fields.items()
        if value is not _UNTOLD and (value is not None or key in _EMPTY_WHEN_NULL or key in _ENGINES_OWN_NULL)
    }
