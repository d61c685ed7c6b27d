"""NS on Docker: what the container shares with its host and with other containers."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.control import Level, Verdict, failed, maps, passed, unknown
from claude_sandbox.compliance.docker.measure import Judge, decided, docker_only, shared
from claude_sandbox.compliance.pods.evidence import Object

_BINDINGS = ("HostConfig.PortBindings", "NetworkSettings.Ports")
_FIRST_ORDINARY_PORT = 1024
_JOINABLE = ("HostConfig.PidMode", "HostConfig.IpcMode", "HostConfig.NetworkMode", "HostConfig.Cgroup")


def own(path: str, what: str) -> Judge:
    """Fails where the container shares this namespace of its host."""

    def judge(container: Container) -> Verdict:
        mode = container.text(path)
        if mode is None:
            return unknown(untold(path))
        if mode == "host":
            return failed(f"it shares the host's {what}", mode)
        if mode.startswith("container:"):
            return unknown(f"it shares the {what} of another container, which may share the host's", mode)
        return passed(mode or "its own")

    return judge


def uts_and_cgroup(container: Container) -> Verdict:
    """Neither the host's name nor its tree of cgroups."""
    uts, cgroup = container.text("HostConfig.UTSMode"), container.text("HostConfig.CgroupnsMode")
    problems, doubts = [], list(doubts_of(("HostConfig.UTSMode", uts), ("HostConfig.CgroupnsMode", cgroup)))
    if uts == "host":
        problems.append("it shares the host's UTS namespace, and with it its name")
    if cgroup == "host":
        problems.append("it shares the host's cgroup namespace")
    elif cgroup not in ("private", None):
        doubts.append("its cgroup namespace is what the engine's default was when it was made")
    return decided(problems, doubts, f"cgroup namespace: {cgroup or 'not told'}")


def joined(container: Container) -> Verdict:
    """It is in no namespace of another container."""
    modes = [(path, container.text(path)) for path in _JOINABLE]
    problems = (f"{path} is {mode}" for path, mode in modes if mode and mode.startswith("container:"))
    return decided(problems, doubts_of(*modes))


def published(container: Container) -> Verdict:
    """No port of the host leads to it, but for what only the host itself can connect to, by an ordinary port."""
    network = container.text("HostConfig.NetworkMode")
    if network is not None and network.startswith("container:"):
        return unknown("its ports are those of the container whose network it shares")
    problems, doubts, local = [], [untold("HostConfig.NetworkMode")] if network is None else [], []
    everything = container.flag("HostConfig.PublishAllPorts")
    if everything:
        problems.append("it publishes every port that its image exposes (PublishAllPorts)")
    asked, actual = container.mapping("HostConfig.PortBindings"), container.mapping("NetworkSettings.Ports")
    bound = {port for port, _ in _addresses(actual or {})} if container.running else set()
    # An address that is not asked for is the engine's or the network's default; the actual ones tell which.
    open_to_default = (one for one in _addresses(asked or {}) if one[1] != "" or one[0] not in bound)
    for port, address in (*open_to_default, *_addresses(actual or {})):
        if address is None:
            doubts.append(f"the document does not tell where {port} is published")
        elif not _is_loopback(address):
            problems.append(f"{port} is published on {address or 'every address'}")
        else:
            local.append(f"{port} on {address}")
    doubts += doubts_of(
        ("HostConfig.PublishAllPorts", everything),
        ("HostConfig.PortBindings", asked),
        ("NetworkSettings.Ports", actual),
    )
    for port, address in bindings_of(container.relay.document if container.relay is not None else {}):
        if address is None:
            doubts.append(f"the relay's document does not tell where {port} is published")
        elif not _is_loopback(address) and container.declared.addresses is None:
            doubts.append(f"its relay publishes {port} on {address}, and what the DockerHost allows is not known")
        elif not _is_loopback(address) and address not in (container.declared.addresses or ()):
            problems.append(f"its relay publishes {port} on {address or 'every address'}")
        else:
            local.append(f"{port} on {address} (relay)")
    relay = Document(container.relay.document if container.relay is not None else {})
    problems += _privileged(one.mapping(path) or {} for one in (container, relay) for path in _BINDINGS)
    if local and not _is_confined_to_host(container):
        doubts.append("an engine before 28.0 lets neighbours of the host connect to ports on its loopback address")
    return decided(problems, doubts, ", ".join(sorted(set(local))))


def bindings_of(document: Object) -> tuple[tuple[str, str | None], ...]:
    """Each port that a container asks to publish, or publishes, with the host's address; None where that is not told.

    Ports as the engine writes them, for example 8080/tcp.
    """
    read = Document(document)
    asked, actual = read.mapping("HostConfig.PortBindings"), read.mapping("NetworkSettings.Ports")
    return tuple(dict.fromkeys((*_addresses(asked or {}), *_addresses(actual or {}))))


def _addresses(bindings: Mapping[str, object]) -> Iterator[tuple[str, str | None]]:
    """Each port with each of the host's addresses that it is published on; None where that is not told."""
    for port, places in bindings.items():
        # Null for a port that the image exposes and nobody publishes.
        for place in places if isinstance(places, list) else [places] if places is not None else ():
            address = place.get("HostIp") if isinstance(place, Mapping) else None
            yield port, address if isinstance(address, str) else None


def _privileged(bindings: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Each port that is published on a port of the host below 1024 (CIS Docker Benchmark, 5.8)."""
    for port, places in ((port, places) for one in bindings for port, places in one.items()):
        for place in places if isinstance(places, list) else ():
            # A range of ports is asked for by its ends.
            first = str(place.get("HostPort", "")).partition("-")[0] if isinstance(place, Mapping) else ""
            if first.isascii() and first.isdecimal() and 0 < int(first) < _FIRST_ORDINARY_PORT:
                yield f"{port} is published on the host's privileged port {int(first)}"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_confined_to_host(container: Container) -> bool:
    """Whether the document is of an engine that keeps neighbours from the loopback address: 28.0 or newer.

    GwPriority came with its version of the API, 1.48.
    """
    networks = container.mapping("NetworkSettings.Networks") or {}
    return any(isinstance(one, Mapping) and "GwPriority" in one for one in networks.values())


MEASURES = (
    shared("NS-01", own("HostConfig.PidMode", "process namespace"), "Run it without --pid=host."),
    shared("NS-02", own("HostConfig.IpcMode", "IPC namespace"), "Run it without --ipc=host."),
    shared("NS-03", own("HostConfig.NetworkMode", "network"), "Run it without --network=host."),
    docker_only(
        "NS-04",
        "No host UTS or cgroup namespace",
        Severity.MEDIUM,
        Level.BASELINE,
        "Run it with --cgroupns=private and without --uts=host.",
        uts_and_cgroup,
        mappings=maps(cis_docker=("5.21",)),
    ),
    shared("NS-05", joined, "Run it without --pid, --ipc or --network=container:… ."),
    shared("NS-06", published, "Publish no port, or only on the loopback address, from 1024 on: -p 127.0.0.1:8080:80."),
)
