"""NET on Docker: whom the container can speak with, as far as its networks tell."""

from collections.abc import Iterator, Mapping

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.control import Level, Verdict, failed, maps, unknown
from claude_sandbox.compliance.docker.measure import decided, docker_only, unmeasured
from claude_sandbox.compliance.pods.evidence import Object

_DEFAULT = ("", "bridge", "default")
_BRIDGE = "com.docker.network.bridge."
_ICC = f"{_BRIDGE}enable_icc"
INHIBIT = f"{_BRIDGE}inhibit_ipv4"
GATEWAY_MODE = f"{_BRIDGE}gateway_mode_ipv4"
GATEWAY_MODE_6 = f"{_BRIDGE}gateway_mode_ipv6"
# Of these the host has no address: containers are on an interface of their own, with nobody on the host's side.
_WITHOUT_HOST = ("macvlan", "ipvlan")
# As Go's strconv.ParseBool, with which the engine reads such an option.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")


def host_address(network: Object, *, isolates: bool | None = None) -> bool | None:
    """Whether the host has an address on a network, so that whatever listens on the host can be reached from it.

    An engine gives the host one on every bridge, an internal one too, unless it is told not to: by `inhibit_ipv4`, or
    since Docker 28.0 (API 1.48) by the gateway mode `isolated`. `isolates`: whether the engine knows that mode, which
    an older one takes without a word and ignores; None where it was not asked, and the document has to show it by a
    field that came with the mode. None: it can't be told.
    """
    driver, options = network.get("Driver"), network.get("Options")
    if driver in _WITHOUT_HOST:
        return False
    if driver != "bridge" or not isinstance(options, Mapping | None):
        return None
    told = options or {}
    known = isolates if isolates is not None else isinstance(network.get("EnableIPv4"), bool)

    def on(mode: str) -> bool | None:
        if told.get(mode) != "isolated":
            return True
        if known:
            return False
        return None if isolates is None else True

    found: set[bool | None] = set()
    if network.get("EnableIPv4") is not False and told.get(INHIBIT) not in _TRUE:
        found.add(on(GATEWAY_MODE))
    if (six := network.get("EnableIPv6")) is not False:
        found.add(on(GATEWAY_MODE_6) if six is True else None)
    return next((one for one in (True, None) if one in found), False)


def internal(container: Container) -> Verdict:
    """No network, or networks without a way out, and nobody on them who is not meant to be."""
    mode, networks = container.text("HostConfig.NetworkMode"), container.mapping("NetworkSettings.Networks")
    if mode == "host" or (networks is not None and "host" in networks):
        return failed("it is in the host's network")
    if mode is not None and mode.startswith("container:"):
        return unknown("it is in the network of another container, whose document tells its networks", mode)
    problems: list[str] = []
    doubts = list(doubts_of(("HostConfig.NetworkMode", mode), ("NetworkSettings.Networks", networks)))
    names = set(networks or ())
    if not names and networks is not None and mode is not None and not container.running:
        # One that never ran is in no network yet, only in the one that it asks for.
        names = {"bridge" if mode in _DEFAULT else mode}
    for name in sorted(names - {"none"}):
        if name == "bridge":
            problems.append("it is on the default bridge, from which everything can be reached")
            continue
        # Empty for a container that does not run, and for a network that it only asks for.
        identifier = _identifier(networks[name]) if networks and name in networks else ""
        document = container.network(name, identifier)
        if identifier is None:
            doubts.append(untold(f"NetworkSettings.Networks.{name}.NetworkID"))
        elif document is None:
            doubts.append(f"the document of the network {name} was not given (docker network inspect {name})")
        else:
            problems += _problems_of(name, document, container)
            doubts += _doubts_of(name, document, container)
    return decided(problems, doubts, ", ".join(sorted(names)))


def _identifier(endpoint: object) -> str | None:
    identifier = endpoint.get("NetworkID") if isinstance(endpoint, Mapping) else None
    return identifier if isinstance(identifier, str) else None


def _problems_of(name: str, network: Object, container: Container) -> Iterator[str]:
    if network.get("Internal") is False:
        yield f"the network {name} is not internal, and leads out"
    elif host_address(network, isolates=container.engine.isolates) is True:
        yield f"the host has an address on the network {name}, so what listens on the host can be reached"
    options = network.get("Options")
    if network.get("Driver") in _WITHOUT_HOST and isinstance(options, Mapping) and options.get("parent"):
        yield f"the network {name} is on an interface of the host's, whose neighbours can be reached"


def _doubts_of(name: str, network: Object, container: Container) -> Iterator[str]:
    if not isinstance(network.get("Internal"), bool):
        yield f"the document of the network {name} does not tell whether it is internal"
    if network.get("Internal") is True and host_address(network, isolates=container.engine.isolates) is None:
        yield f"whether the host has an address on the network {name} is not told by its document"
    members, options = network.get("Containers"), network.get("Options")
    if isinstance(options, Mapping) and options.get(_ICC) == "false":
        return
    if not isinstance(members, Mapping):
        yield f"the document of the network {name} does not tell who else is on it"
        return
    own = container.text("Id")
    peers = {
        str(member.get("Name", identifier)) if isinstance(member, Mapping) else identifier
        for identifier, member in members.items()
        if identifier != own
    }
    for peer in sorted(peers - container.declared.peers):
        yield f"nothing declares that {peer} is to be on the network {name} too (--peer)"


MEASURES = (
    unmeasured("NET-03", "connections from it and from elsewhere to one target"),
    docker_only(
        "NET-08",
        "Only internal networks",
        Severity.HIGH,
        Level.SANDBOX,
        f"Use --network none, or: docker network create --internal -o {INHIBIT}=true NAME",
        internal,
        mappings=maps(cis_docker=("2.2", "5.30")),
    ),
)
