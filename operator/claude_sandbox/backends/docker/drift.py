"""In what live objects differ from the desired documents. Pure.

Every field that a live object has is compared, not only those that are asked for: where a document says nothing, the
live one may hold what an engine fills in by itself, and nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.documents import sizes
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.compliance.containers.networks import GATEWAY_MODE, INHIBIT, host_address

# What `docker update` can change, and change back.
UPDATABLE = frozenset(
    {"Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "PidsLimit", "RestartPolicy"}
)

# What engines from 20.10 to 29 write for what was not asked for, beside what is empty (null, 0, false, "", [], {}).
_FILLED_IN: Mapping[str, tuple[Any, ...]] = {
    "Isolation": ("default",),
    "MemorySwappiness": (-1,),
    "ConsoleSize": ([0, 0],),
}
# The engine's own lists, which may only grow; the shortest are those of Docker 20.10 (moby's oci/defaults.go).
_AT_LEAST: Mapping[str, frozenset[str]] = {
    "MaskedPaths": frozenset(
        {
            *("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi"),
            *("/proc/timer_list", "/sys/firmware"),
        }
    ),
    "ReadonlyPaths": frozenset({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}),
}
# What a container is made with on an engine that can do more or less; right on either, and changed by no one.
_DEPENDS_ON_ENGINE = frozenset({"Init"})
# How often is asked depends on the engine's version (`objects._health`): its upgrade is no drift.
_PACE_OF_CHECKS = frozenset({"Interval", "StartInterval"})
_UNORDERED = frozenset({"Ulimits", "SecurityOpt", "CapDrop", "Mounts"})

# Of a container's Config: what the image may add to.
_FROM_IMAGE = ("ExposedPorts", "Volumes")
_PLAIN = ("Hostname", "User", "WorkingDir", "Image", "StopTimeout")
_UNLESS_WANTED = ("Tty", "OpenStdin", "StdinOnce", "Domainname", "NetworkDisabled", "ArgsEscaped")


@dataclass(frozen=True)
class Differences:
    """The paths in which a container differs: what can be put back while it runs, and what only a new one could."""

    updatable: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()


def container_differences(
    desired: Object, live: Object, image: Object | None, capabilities: EngineCapabilities
) -> Differences:
    """Of a container, but for its name and networks. `image`: its image's document, None where that is gone."""
    host = live.get("HostConfig") or {}
    wanted = desired["HostConfig"]
    can = capabilities
    found = [key for key in sorted({*wanted, *host}) if not _same_choice(key, wanted.get(key), host.get(key), can)]
    fixed = [
        *(f"HostConfig.{key}" for key in found if key not in UPDATABLE),
        *_config_differences(desired, live.get("Config") or {}, (image or {}).get("Config") if image else None),
        *_mount_differences(wanted["Mounts"], live.get("Mounts") or (), (image or {}).get("Config") or {}),
    ]
    return Differences(tuple(f"HostConfig.{key}" for key in found if key in UPDATABLE), tuple(fixed))


def network_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a network, but for its addresses, which the engine may choose, and its members."""
    found = [
        key for key in ("Driver", "Internal", "Attachable", "Ingress", "EnableIPv6") if live.get(key) != desired[key]
    ]
    # A network of a swarm reaches other machines; one that is only a configuration keeps nobody from anything.
    if live.get("ConfigOnly") or live.get("Scope") != "local":
        found.append("Scope")
    options: Mapping[str, str] = live.get("Options") or {}
    wanted: Mapping[str, str] = desired["Options"]
    # Either of two options keeps the host off the network: one that was made before an engine's upgrade is as good. One
    # that was made before a return to an older engine is not: that one ignores the newer option.
    hostless = host_address(live, isolates=wanted.get(GATEWAY_MODE) == "isolated") is False
    as_good = frozenset({INHIBIT, GATEWAY_MODE}) if hostless else frozenset()
    found += [f"Options.{key}" for key in sorted({*wanted, *options} - as_good) if wanted.get(key) != options.get(key)]
    return (*found, *_label_differences(desired, live))


def volume_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a volume, but for its labels: what it is kept in decides whether a key may be written there.

    Nor for its size, where it is on a disk: an engine that can't enforce any, or made it before, is as good, and no
    volume can be given another. What it has is told (`sizes`).
    """
    found = [] if live.get("Driver") == desired["Driver"] else ["Driver"]
    options: Mapping[str, str] = live.get("Options") or {}
    wanted: Mapping[str, str] = desired["DriverOpts"]
    for key in sorted({*wanted, *options} - {sizes.SIZE}):
        if _mount_options(wanted.get(key)) != _mount_options(options.get(key)):
            found.append(f"Options.{key}")
    return tuple(found)


def filled_otherwise(desired: Object, live: Object) -> tuple[str, ...]:
    """Whether a volume is to be filled with other files than it was."""
    key = names.LABEL_FILES
    wanted, actual = ((one.get("Labels") or {}).get(key) for one in (desired, live))
    return () if wanted == actual else (f"Labels.{key}",)


def networks_of(live: Object) -> dict[str, str]:
    """The networks that a container is on, or will be when it is started: name to identifier, empty where unknown."""
    networks: Mapping[str, Object] = (live.get("NetworkSettings") or {}).get("Networks") or {}
    return {name: str((endpoint or {}).get("NetworkID") or "") for name, endpoint in networks.items()}


def _same_choice(key: str, desired: Any, live: Any, capabilities: EngineCapabilities) -> bool:
    if key in _AT_LEAST:
        return isinstance(live, list) and _AT_LEAST[key] <= set(live)
    if key in _DEPENDS_ON_ENGINE:
        return True
    if key == "Runtime":
        # Where none is asked for, an engine writes the name of its default into the container.
        return live == desired if desired else live in ("", None, capabilities.default_runtime)
    if key == "Mounts":
        return _by_target(desired) == _by_target(live)
    wanted, actual = _reduced(key, desired), _reduced(key, live)
    return wanted == actual or (desired is None and live in _FILLED_IN.get(key, ()))


def _config_differences(desired: Object, live: Object, image: Object | None) -> Iterator[str]:
    yield from (f"Config.{key}" for key in _PLAIN if live.get(key) != desired.get(key))
    yield from (f"Config.{key}" for key in _UNLESS_WANTED if bool(live.get(key)) != bool(desired.get(key)))
    if _check(desired["Healthcheck"]) != _check(live.get("Healthcheck") or {}):
        yield "Config.Healthcheck"
    yield from _environment_differences(desired, live, image)
    command, entrypoint = desired.get("Cmd"), desired.get("Entrypoint")
    if image is not None:
        # An entrypoint of one's own takes the image's command away with it.
        command = command or (None if entrypoint else image.get("Cmd"))
        entrypoint = entrypoint or image.get("Entrypoint")
    for key, wanted in (("Cmd", command), ("Entrypoint", entrypoint)):
        if (image is not None or wanted) and (live.get(key) or None) != (wanted or None):
            yield f"Config.{key}"
    for label in (*_label_differences(desired, live), *_further_labels(desired, live)):
        yield f"Config.{label}"
    if image is None:
        return
    for key in _FROM_IMAGE:
        known = {**(image.get(key) or {}), **(desired.get(key) or {})}
        yield from (f"Config.{key}.{extra}" for extra in sorted((live.get(key) or {}).keys() - known.keys()))


def _environment_differences(desired: Object, live: Object, image: Object | None) -> Iterator[str]:
    """By name alone: a value may be what must not be shown."""
    wanted, actual = _variables(desired.get("Env")), _variables(live.get("Env"))
    known = {**_variables((image or {}).get("Env")), **wanted}
    for name in sorted(known if image is not None else wanted):
        if actual.get(name) != known[name]:
            yield f"Config.Env.{name}"
    if image is not None:
        yield from (f"Config.Env.{name}" for name in sorted(actual.keys() - known.keys()))


def _mount_differences(desired: Iterable[Object], live: Iterable[Object], image: Object) -> Iterator[str]:
    """Of what is mounted, which is not only what was asked for: an image may declare volumes of its own."""
    wanted = {mount["Target"]: mount for mount in desired}
    for mount in live:
        target = mount.get("Destination")
        expected = wanted.pop(target, None)
        if expected is None:
            # A tmpfs is asked for in HostConfig, and compared there. What the image declares, every container of it
            # would have: a new one would not be better.
            if mount.get("Type") != "tmpfs" and target not in (image.get("Volumes") or {}):
                yield f"Mounts.{target}"
        elif mount.get("Name") != expected["Source"] or mount.get("RW") is bool(expected.get("ReadOnly")):
            yield f"Mounts.{target}"
    yield from (f"Mounts.{target}" for target in wanted)


def _label_differences(desired: Object, live: Object) -> tuple[str, ...]:
    wanted: Mapping[str, str] = desired["Labels"]
    actual: Mapping[str, str] = live.get("Labels") or {}
    return tuple(
        f"Labels.{key}"
        for key, value in sorted(wanted.items())
        # That the spec is another one is no drift: it has a name of its own.
        if actual.get(key) != value and key != names.LABEL_SPEC_HASH
    )


def _further_labels(desired: Object, live: Object) -> Iterator[str]:
    """Labels that somebody else's program may act upon: a reverse proxy, a scheduler. An image's are made empty."""
    actual: Mapping[str, str] = live.get("Labels") or {}
    known = {*desired["Labels"], names.LABEL_CLONED}
    yield from (f"Labels.{key}" for key in sorted(actual.keys() - known) if actual[key])


def _reduced(key: str, value: Any) -> Any:
    if key in _UNORDERED and isinstance(value, list):
        return sorted((_without_empty(item) for item in value), key=str) or None
    reduced = _without_empty(value)
    return reduced if reduced not in (None, False, 0, "", [], {}) else None


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_empty(item) for key, item in value.items() if item not in (None, False, 0, "", [], {})}
    return value


def _by_target(mounts: Any) -> dict[str, Any]:
    """Mounts without what engines say differently: whether swap is kept away depends on the kernel of the day.

    Nor do labels count, which are for a volume that was missing when the container was made.
    """
    found = {}
    for mount in mounts or ():
        one = _without_empty(mount)
        if "VolumeOptions" in one:
            one["VolumeOptions"] = {key: value for key, value in one["VolumeOptions"].items() if key != "Labels"}
        driver = (one.get("VolumeOptions") or {}).get("DriverConfig") or {}
        if "o" in (driver.get("Options") or {}):
            options = {**driver["Options"], "o": sorted(_mount_options(driver["Options"]["o"]))}
            one["VolumeOptions"] = {**one["VolumeOptions"], "DriverConfig": {**driver, "Options": options}}
        found[str(one.get("Target"))] = one
    return found


def _mount_options(options: str | None) -> frozenset[str]:
    return frozenset((options or "").split(",")) - {"noswap"}


def _check(check: Object) -> Any:
    return _without_empty({key: value for key, value in check.items() if key not in _PACE_OF_CHECKS})


def _variables(entries: Iterable[str] | None) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in entries or ())}
