"""NET-11 on Docker: who may connect to the container, and by what."""

from collections.abc import Iterator, Mapping
from typing import Any

from claude_sandbox.compliance.control import Verdict
from claude_sandbox.compliance.docker.container import Container, doubts_of
from claude_sandbox.compliance.docker.evidence import Relay
from claude_sandbox.compliance.docker.measure import decided, shared
from claude_sandbox.compliance.docker.namespaces import bindings_of

_ROOT = ("", "0", "root")


def ingress(container: Container) -> Verdict:
    """Nothing is published but what is declared, and that by a hardened relay on the addresses that are declared."""
    declared, relay = container.declared.ports, container.relay
    mode = container.text("HostConfig.NetworkMode")
    doubts = list(doubts_of(("HostConfig.PortBindings", container.mapping("HostConfig.PortBindings"))))
    if mode is not None and mode.startswith("container:"):
        doubts.append("its ports are those of the container whose network it shares")
    own = sorted({port for port, _ in bindings_of(container.document)})
    if declared is None:
        doubts += [f"nothing declares that {port} is to be published" for port in own]
        return decided((), doubts)
    problems = [f"it publishes {port} itself" for port in own]
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


def _loose(relay: Mapping[str, Any]) -> Iterator[str]:
    """In what a relay is less hardened than a sandbox."""
    host, config = relay.get("HostConfig") or {}, relay.get("Config") or {}
    options = [str(one) for one in host.get("SecurityOpt") or ()]
    loose = {
        "is privileged": bool(host.get("Privileged")),
        "keeps capabilities": "ALL" not in (host.get("CapDrop") or ()) or bool(host.get("CapAdd")),
        "may gain privileges": not {"no-new-privileges", "no-new-privileges:true"} & set(options),
        "has no seccomp filter": "seccomp=unconfined" in options,
        "has a root file system that can be written to": not host.get("ReadonlyRootfs"),
        "runs as root": str(config.get("User") or "").partition(":")[0] in _ROOT,
        "has something mounted": bool(relay.get("Mounts") or host.get("Binds") or host.get("Mounts")),
        "is in a namespace of the host": "host"
        in (host.get("NetworkMode"), host.get("PidMode"), host.get("IpcMode"), host.get("UTSMode")),
    }
    yield from (f"its relay {what}" for what, true in loose.items() if true)


MEASURES = (
    shared(
        "NET-11",
        ingress,
        "Declare the port in spec.network.ports; remove what else publishes it, and the relay, which is made again.",
    ),
)
