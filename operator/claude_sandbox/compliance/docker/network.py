"""NET on Docker: whom the container can speak with, as far as its networks tell."""

from collections.abc import Iterator, Mapping

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import Level, Verdict, failed, maps, unknown
from claude_sandbox.compliance.docker.container import Container, doubts_of, untold
from claude_sandbox.compliance.docker.measure import decided, docker_only, unmeasured
from claude_sandbox.compliance.evidence import Object

_DEFAULT = ("", "bridge", "default")
_ICC = "com.docker.network.bridge.enable_icc"


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
            problems += _problems_of(name, document)
            doubts += _doubts_of(name, document, container)
    return decided(problems, doubts, ", ".join(sorted(names)))


def _identifier(endpoint: object) -> str | None:
    identifier = endpoint.get("NetworkID") if isinstance(endpoint, Mapping) else None
    return identifier if isinstance(identifier, str) else None


def _problems_of(name: str, network: Object) -> Iterator[str]:
    if network.get("Internal") is False:
        yield f"the network {name} is not internal, and leads out"


def _doubts_of(name: str, network: Object, container: Container) -> Iterator[str]:
    if not isinstance(network.get("Internal"), bool):
        yield f"the document of the network {name} does not tell whether it is internal"
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
        "Run it with --network none, or one of its own made by: docker network create --internal NAME.",
        internal,
        mappings=maps(cis_docker=("2.2", "5.30")),
    ),
)
