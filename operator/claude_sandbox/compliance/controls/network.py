"""NET: whom the sandbox can speak with."""

from collections.abc import Collection, Iterator, Mapping

from claude_sandbox.api.networks import WIDEST
from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.containers.networks import INHIBIT, doubts_about, problems_of
from claude_sandbox.compliance.containers.published_ports import bindings_of
from claude_sandbox.compliance.control import (
    AS_FOR_A_SANDBOX,
    ContainerCheck,
    Control,
    Evidence,
    Level,
    PodCheck,
    Undeclared,
    Unmeasured,
    maps,
)
from claude_sandbox.compliance.evidence.containers import Companion
from claude_sandbox.compliance.evidence.pods import SLICE_OF
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.coverage import beyond, too_wide
from claude_sandbox.compliance.pods.declared_policies import declared_egress, declared_ingress, first_of, widened
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.compliance.pods.selectors import matches
from claude_sandbox.compliance.pods.undeclared import wide_egress, wide_ingress
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, decided, failed, judged, not_applicable, unknown

_DEFAULT = ("", "bridge", "default")
_ROOT = ("", "0", "root")


def pod_default_deny(view: View) -> Verdict:
    """Some policy isolates the pod in each direction, so that all else is denied."""
    if view.spec.get("hostNetwork"):
        return failed("NetworkPolicies do not hold for a pod in its node's network")
    effective = view.network
    if effective.unjudged:
        return failed(effective.unjudged)
    return judged(
        f"no NetworkPolicy of the namespace restricts the sandbox's {direction}"
        for direction, granted in (("ingress", effective.ingress), ("egress", effective.egress))
        if granted is None
    )


def pod_egress(view: View) -> Verdict:
    """All policies together allow the declared networks and the resolver, and those networks are narrow."""
    granted = view.network.egress
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed("no NetworkPolicy restricts egress: everything can be connected to")
    problems = widened(beyond(granted, declared_egress(view.expected, view.own_namespace)), "egress to")
    if wide := too_wide(granted, WIDEST):
        problems.append(wide)
    return judged(problems, f"{len(granted)} allowed")


def container_internal(container: Container) -> Verdict:
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
            problems += problems_of(name, document, container)
            doubts += doubts_about(name, document, container)
    return decided(problems, doubts, ", ".join(sorted(names)))


def pod_exposed(view: View) -> Verdict:
    """No Service of others leads to the pod, by selector or by endpoints; its own does not lead out of the cluster."""
    problems, seen = [], set()
    for service in view.services:
        spec = service.get("spec") or {}
        selector, name = spec.get("selector"), _name(service)
        if OUTSIZE in service:
            problems.append(f"the Service {name} is not judged: {service[OUTSIZE]}; delete it")
        if not selector or not matches({"matchLabels": selector}, view.labels):
            continue
        seen.add(name)
        if name not in view.expected.service_names:
            problems.append(f"the Service {name}, which is not the sandbox's own, leads to it")
        elif reason := _leads_out(spec):
            problems.append(f"the Service {name} {reason}")
    problems += _by_endpoints(view, seen)
    return judged(first_of(sorted(problems)), ", ".join(sorted(seen)))


def pod_ingress(view: View) -> Verdict:
    """All policies together allow the declared ports, to pods of the same namespace."""
    granted = view.network.ingress
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed("no NetworkPolicy restricts ingress: everyone can connect")
    return judged(widened(beyond(granted, declared_ingress(view)), "ingress from"), f"{len(granted)} allowed")


def container_ingress(container: Container) -> Verdict:
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
        problems += _loose(relay.document, "its relay")
        problems += [f"its relay is not the desired one: {path}" for path in relay.differences]
    value = ", ".join(f"{port.number}/tcp on {port.address}" for port in declared) if relay is not None else "none"
    return decided(problems, doubts, value)


def container_gateway(container: Container) -> Verdict:
    """What a sandbox that holds no key gets out by is hardened, and the desired one."""
    gateway = container.gateway
    if container.declared.gateway is None:
        return not_applicable("nothing declares by what it is to get out; NET-08 tells whether it can by itself")
    if not container.declared.gateway:
        return not_applicable("it holds its key itself, and has no gateway")
    if gateway is None:
        return judged([], "none: nothing gets out")
    ports = sorted({port for port, _ in bindings_of(gateway.document)})
    published = [f"its gateway publishes {port}" for port in ports]
    differences = [f"its gateway is not the desired one: {path}" for path in gateway.differences]
    return judged(
        [*published, *_loose(gateway.document, "its gateway", gateway.volume), *differences], "hardened, and as desired"
    )


def _by_endpoints(view: View, seen: Collection[str]) -> Iterator[str]:
    """A Service without a selector leads to whatever its EndpointSlices name."""
    home = (view.pod.get("metadata") or {}).get("namespace")
    known = view.expected.service_names | set(seen)
    for one in view.slices:
        metadata = one.get("metadata") or {}
        service, namespace = (metadata.get("labels") or {}).get(SLICE_OF), metadata.get("namespace")
        if OUTSIZE in one:
            yield f"the EndpointSlice {_name(one)} is not judged: {one[OUTSIZE]}; delete it"
        elif service and not (namespace == home and service in known):
            where = service if namespace == home else f"{namespace}/{service}"
            yield f"the Service {where}, which is not the sandbox's own, leads to it by EndpointSlice {_name(one)}"


def _name(live: Object) -> str:
    return str((live.get("metadata") or {}).get("name"))


def _leads_out(spec: Object) -> str:
    if spec.get("type", "ClusterIP") not in ("ClusterIP", "ExternalName"):
        return f"is of type {spec['type']}"
    if spec.get("externalIPs"):
        return "has external addresses"
    return ""


def _identifier(endpoint: object) -> str | None:
    identifier = endpoint.get("NetworkID") if isinstance(endpoint, Mapping) else None
    return identifier if isinstance(identifier, str) else None


def _too_much(relay: Companion, allowed: set[tuple[str, str]]) -> Iterator[str]:
    for port, address in bindings_of(relay.document):
        # Empty is every address; an address that is not told is not one that is declared.
        if (port, address) not in allowed:
            yield f"its relay publishes {port} on {address or 'every address'}, which is not declared"


def _loose(document: Object, what_it_is: str, volume: str = "") -> Iterator[str]:
    """In what a relay or a gateway is less hardened than a sandbox. What its document does not tell counts against
    it. `volume`: the one that it may have mounted."""
    relay = Document(document)
    options = relay.strings("HostConfig.SecurityOpt") or ()
    places = ("Mounts", "HostConfig.Binds", "HostConfig.Mounts")
    mounted = [relay.tells(path) and _holds(relay, path, volume) for path in places]
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
    yield from (f"{what_it_is} {what}" for what, true in found.items() if true)


def _holds(relay: Document, path: str, volume: str) -> bool:
    """Whether a list has anything else than this volume, once, as far as it can be understood."""
    if path.endswith("Binds"):
        return relay.strings(path) is None or bool(relay.strings(path))
    found = relay.objects(path)
    named = "Name" if path == "Mounts" else "Source"
    return found is None or len(found) > 1 or any(not volume or not _is_volume(one, named, volume) for one in found)


def _is_volume(mount: Object, named: str, volume: str) -> bool:
    # What it is to be made of where it is missing can be a directory of the host's.
    made_of = (mount.get("VolumeOptions") or {}).get("DriverConfig")
    return mount.get("Type") == "volume" and mount.get(named) == volume and not made_of


_NETWORK_EVIDENCE = (Evidence.POLICIES, Evidence.POD)


CONTROLS: tuple[Control, ...] = (
    Control(
        "NET-01",
        "Default deny in both directions",
        Severity.CRITICAL,
        Level.SANDBOX,
        pod=PodCheck(
            pod_default_deny,
            "Let the operator's NetworkPolicy be: it selects the sandbox, with policyTypes Ingress and Egress.",
            needs=_NETWORK_EVIDENCE,
            undeclared=Undeclared(remedy="Make a NetworkPolicy that selects it, with policyTypes Ingress and Egress."),
        ),
        mappings=maps(
            kubescape=("C-0030", "C-0206", "C-0260"),
            trivy=("KSV-0038",),
        ),
    ),
    Control(
        "NET-02",
        "Egress only where declared, and narrow",
        Severity.HIGH,
        Level.SANDBOX,
        pod=PodCheck(
            pod_egress,
            "Narrow spec.network.egress, and change the policies named so that they do not select sandboxes.",
            needs=_NETWORK_EVIDENCE,
            undeclared=Undeclared(
                wide_egress,
                "Narrow the policies named to where it has to connect to; what it needs of a private network,"
                " declare (--open-private-network).",
            ),
        ),
        mappings=maps(kubescape=("C-0301",)),
    ),
    Control(
        "NET-03",
        "Egress denial proven",
        Severity.HIGH,
        Level.SANDBOX,
        pod=Unmeasured(
            "connections from here and from a pod without a policy to one target",
            EvidenceSource.NETWORK_PROBE,
            "Use a network plug-in that enforces NetworkPolicy.",
        ),
        container=Unmeasured("connections from it and from elsewhere to one target", EvidenceSource.NETWORK_PROBE),
        mappings=maps(kubescape=("C-0205",)),
    ),
    Control(
        "NET-08",
        "Only internal networks",
        Severity.HIGH,
        Level.SANDBOX,
        container=ContainerCheck(
            container_internal,
            f"Use --network none, or: docker network create --internal -o {INHIBIT}=true NAME",
        ),
        mappings=maps(cis_docker=("2.2", "5.30")),
    ),
    Control(
        "NET-10",
        "Not exposed by a Service",
        Severity.HIGH,
        Level.SANDBOX,
        pod=PodCheck(
            pod_exposed,
            "Delete or change the Service or EndpointSlice named, or make it a ClusterIP without external addresses.",
            needs=(Evidence.SERVICES, Evidence.SLICES, Evidence.POD),
            undeclared=AS_FOR_A_SANDBOX,
        ),
        mappings=maps(kubescape=("C-0256",), trivy=("KSV-0108",)),
    ),
    Control(
        "NET-11",
        "Ingress only on declared ports",
        Severity.HIGH,
        Level.SANDBOX,
        pod=PodCheck(
            pod_ingress,
            "Declare the port in spec.network.ports, or change the policy named so that it does not select sandboxes.",
            needs=_NETWORK_EVIDENCE,
            undeclared=Undeclared(wide_ingress, "Narrow the policies named to who has to connect to it."),
        ),
        container=ContainerCheck(
            container_ingress,
            "Declare the port in spec.network.ports; remove what else publishes it, and the relay, which is made"
            " again.",
        ),
    ),
    Control(
        "NET-12",
        "A hardened gateway is the way out",
        Severity.CRITICAL,
        Level.SANDBOX,
        container=ContainerCheck(
            container_gateway,
            "Remove the gateway's container: it is made again as it should be.",
        ),
    ),
)
