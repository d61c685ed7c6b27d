"""NET-11 on Docker: who may connect to the container, and by what."""

from collections.abc import Iterator

from claude_sandbox.compliance.containers.container import Container, doubts_of
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.containers.evidence import Relay
from claude_sandbox.compliance.control import Verdict, not_applicable, unknown
from claude_sandbox.compliance.docker.measure import decided, shared
from claude_sandbox.compliance.docker.namespaces import bindings_of
from claude_sandbox.compliance.pods.evidence import Object

_ROOT = ("", "0", "root")


def ingress(container: Container) -> Verdict:
    """Nothing is published but what is declared, and that by a hardened relay on the addresses that are declared."""
    declared, relay = container.declared.ports, container.relay
    if declared is None:
        return not_applicable("nothing declares which ports it is to have; NS-06 tells where they are published")
    mode = container.text("HostConfig.NetworkMode")
    if mode is not None and mode.startswith("container:"):
        return unknown("its ports are those of the container whose network it shares")
    paths = ("HostConfig.PortBindings", "NetworkSettings.Ports")
    doubts = list(doubts_of(*((path, container.mapping(path)) for path in paths)))
    problems = [f"it publishes {port} itself" for port in sorted({port for port, _ in bindings_of(container.document)})]
    if container.flag("HostConfig.PublishAllPorts"):
        problems.append("it publishes every port that its image exposes (PublishAllPorts)")
    if relay is not None:
        allowed = {(f"{port.number}/tcp", port.address) for port in declared}
        problems += _too_much(relay, allowed)
        problems += _loose(relay.document)
        problems += [f"its relay is not the desired one: {path}" for path in relay.differences]
    value = ", ".join(f"{port.number}/tcp on {port.address}" for port in declared) if relay is not None else "none"
    return decided(problems, doubts, value)


def _too_much(relay: Relay, allowed: set[tuple[str, str]]) -> Iterator[str]:
    for port, address in bindings_of(relay.document):
        # Empty is every address; an address that is not told is not one that is declared.
        if (port, address) not in allowed:
            yield f"its relay publishes {port} on {address or 'every address'}, which is not declared"


def _loose(document: Object) -> Iterator[str]:
    """In what a relay is less hardened than a sandbox. What its document does not tell counts against it."""
    relay = Document(document)
    options = relay.strings("HostConfig.SecurityOpt") or ()
    places = ("Mounts", "HostConfig.Binds", "HostConfig.Mounts")
    mounted = [relay.tells(path) and _holds(relay, path) for path in places]
    shared = [relay.text(f"HostConfig.{name}") == "host" for name in ("NetworkMode", "PidMode", "IpcMode", "UTSMode")]
    dropped, added = relay.strings("HostConfig.CapDrop") or (), relay.strings("HostConfig.CapAdd")
    found = {
        "is privileged": relay.flag("HostConfig.Privileged") is not False,
        "keeps capabilities": "ALL" not in dropped or bool(added) or added is None,
        "may gain privileges": not {"no-new-privileges", "no-new-privileges:true"} & set(options),
        "has no seccomp filter": "seccomp=unconfined" in options,
        "has a root file system that can be written to": relay.flag("HostConfig.ReadonlyRootfs") is not True,
        "runs as root": (relay.text("Config.User") or "").partition(":")[0] in _ROOT,
        "has something mounted": any(mounted),
        "is in a namespace of the host": any(shared),
    }
    yield from (f"its relay {what}" for what, true in found.items() if true)


def _holds(relay: Document, path: str) -> bool:
    """Whether a list is not empty, as far as it can be understood."""
    found = relay.strings(path) if path.endswith("Binds") else relay.objects(path)
    return found is None or bool(found)


MEASURES = (
    shared(
        "NET-11",
        ingress,
        "Declare the port in spec.network.ports; remove what else publishes it, and the relay, which is made again.",
    ),
)
