"""Networks of an engine: whether they lead out, and whether the host has an address on them."""

from collections.abc import Iterator, Mapping

from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.evidence.readings import Object

_BRIDGE = "com.docker.network.bridge."
_NAME = f"{_BRIDGE}name"
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


def problems_of(name: str, network: Object, container: Container) -> Iterator[str]:
    if network.get("Internal") is False:
        yield f"the network {name} is not internal, and leads out"
    elif host_address(network, isolates=container.engine.isolates) is True:
        yield f"the host has an address on the network {name}, so what listens on the host can be reached"
    options = network.get("Options")
    if isinstance(options, Mapping) and options.get(_NAME) == "docker0":
        yield f"the network {name} is the default bridge, on which the host has an address"
    if network.get("Driver") in _WITHOUT_HOST and isinstance(options, Mapping) and options.get("parent"):
        yield f"the network {name} is on an interface of the host's, whose neighbours can be reached"


def doubts_about(name: str, network: Object, container: Container) -> Iterator[str]:
    if not isinstance(network.get("Internal"), bool):
        yield f"the document of the network {name} does not tell whether it is internal"
    if network.get("Internal") is True and host_address(network, isolates=container.engine.isolates) is None:
        yield f"whether the host has an address on the network {name} is not told by its document"
    if _is_apart(network):
        return
    if not isinstance(network.get("Containers"), Mapping):
        yield f"the document of the network {name} does not tell who else is on it"
        return
    for peer in peers_of(network, container):
        yield f"nothing declares that {peer} is to be on the network {name} too (--peer)"


def peers_of(network: Object, container: Container) -> list[str]:
    """Who else is on a network and can be connected to there, as far as its document tells, but for declared ones."""
    members, own = network.get("Containers"), container.text("Id")
    if _is_apart(network) or not isinstance(members, Mapping):
        return []
    peers = {
        str(member.get("Name", identifier)) if isinstance(member, Mapping) else identifier
        for identifier, member in members.items()
        if identifier != own
    }
    return sorted(peers - container.declared.peers)


def _is_apart(network: Object) -> bool:
    """Whether the network's members can't connect to each other."""
    options = network.get("Options")
    return isinstance(options, Mapping) and options.get(_ICC) == "false"
