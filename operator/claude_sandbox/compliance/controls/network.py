"""NET: whom the sandbox can speak with."""

from collections.abc import Collection, Iterator

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.companions import loose
from claude_sandbox.compliance.containers.container import Container, doubts_of
from claude_sandbox.compliance.containers.networks import INHIBIT
from claude_sandbox.compliance.containers.published_ports import bindings_of
from claude_sandbox.compliance.control import (
    AS_FOR_A_SANDBOX,
    ContainerCheck,
    Control,
    Evidence,
    Level,
    PodCheck,
    Undeclared,
    maps,
)
from claude_sandbox.compliance.controls.judges.gateways import container_gateway, pod_gateway
from claude_sandbox.compliance.controls.judges.ways_out import (
    container_by_gateway,
    container_internal,
    container_resolver,
    pod_by_gateway,
    pod_egress,
    pod_resolver,
)
from claude_sandbox.compliance.evidence.containers import Companion
from claude_sandbox.compliance.evidence.pods import SLICE_OF
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.coverage import beyond
from claude_sandbox.compliance.pods.declared_policies import declared_ingress, first_of, widened
from claude_sandbox.compliance.pods.plugin_policies import DIRECTIONS
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.compliance.pods.selectors import matches
from claude_sandbox.compliance.pods.undeclared import (
    nobodys_gateway,
    nobodys_resolver,
    wide_egress,
    wide_ingress,
)
from claude_sandbox.compliance.pods.view import View, among_plugins
from claude_sandbox.compliance.verdict import Verdict, decided, failed, judged, not_applicable, unknown


def pod_default_deny(view: View) -> Verdict:
    """Some policy isolates the pod in each direction, so that all else is denied."""
    if view.spec.get("hostNetwork"):
        return failed("NetworkPolicies do not hold for a pod in its node's network")
    effective = view.network
    if effective.unjudged:
        return failed(effective.unjudged)
    both = (("ingress", effective.ingress), ("egress", effective.egress))
    free = [direction for direction, granted in both if granted is None]
    # Of a direction that no policy of anybody's is about it is certain.
    certain = [direction for direction in free if not view.plugins.about(direction)]
    told = [f"no NetworkPolicy of the namespace restricts the sandbox's {one}" for one in certain or free]
    if certain and not view.plugins.unread:
        return judged(told)
    return view.plugins.weighed(judged(told), *(free or DIRECTIONS), isolated=False)


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


@among_plugins("ingress")
def pod_ingress(view: View) -> Verdict:
    """All policies together allow the declared ports, to pods of the same namespace."""
    granted = view.network.ingress
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed("no NetworkPolicy restricts ingress: everyone can connect")
    return judged(
        widened(beyond(granted, declared_ingress(view.expected, view.own_namespace)), "ingress from"),
        f"{len(granted)} allowed",
    )


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
    everything = container.flag("HostConfig.PublishAllPorts")
    doubts += doubts_of(("HostConfig.NetworkMode", mode), ("HostConfig.PublishAllPorts", everything))
    problems = [f"it publishes {port} itself" for port in sorted({port for port, _ in bindings_of(container.document)})]
    if everything:
        problems.append("it publishes every port that its image exposes (PublishAllPorts)")
    if relay is not None:
        allowed = {(f"{port.number}/tcp", port.address) for port in declared}
        problems += _too_much(relay, allowed)
        problems += loose(relay.document, "its relay")
        problems += [f"its relay is not the desired one: {path}" for path in relay.differences]
    value = ", ".join(f"{port.number}/tcp on {port.address}" for port in declared) if relay is not None else "none"
    return decided(problems, doubts, value)


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


def _too_much(relay: Companion, allowed: set[tuple[str, str]]) -> Iterator[str]:
    for port, address in bindings_of(relay.document):
        # Empty is every address; an address that is not told is not one that is declared.
        if (port, address) not in allowed:
            yield f"its relay publishes {port} on {address or 'every address'}, which is not declared"


_NETWORK_EVIDENCE = (Evidence.POLICIES, Evidence.POD)


CONTROLS: tuple[Control, ...] = (
    Control(
        "NET-01",
        "Default deny in both directions",
        Severity.CRITICAL,
        Level.SANDBOX,
        meaning="Policies isolate the pod in both directions, so that what is not allowed is denied.",
        why=(
            "Without a policy that selects it a pod talks with everything: other tenants, the node, the cloud's "
            "metadata, the internet. Direction by direction, the absence of a policy allows all."
        ),
        pod=PodCheck(
            pod_default_deny,
            "Let the operator's NetworkPolicy be: it selects the sandbox, with policyTypes Ingress and Egress.",
            needs=_NETWORK_EVIDENCE,
            undeclared=Undeclared(remedy="Make a NetworkPolicy that selects it, with policyTypes Ingress and Egress."),
        ),
        mappings=maps(
            kubescape=("C-0030", "C-0206", "C-0260"),
            trivy=("KSV-0038",),
            cis_kubernetes=("5.3.2",),
            nsa=("Network policies",),
            nist=("4.3.3", "4.4.2"),
        ),
    ),
    Control(
        "NET-02",
        "Egress only where declared, and narrow",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="All policies that select the pod allow together what the spec declares, and that is narrow.",
        why=(
            "Policies add up: one that is meant for others opens the sandbox too. An agent that reads hostile "
            "text and can connect anywhere can carry away whatever it reads."
        ),
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
        mappings=maps(kubescape=("C-0301",), nsa=("Network policies",), nist=("4.4.2",)),
    ),
    Control(
        "NET-06",
        "No resolver but the declared one",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="The sandbox can ask no resolver, unless the cluster's is declared.",
        why=(
            "A name can carry data: what is looked up below a domain reaches the server of who owns it, through "
            "every firewall."
        ),
        pod=PodCheck(
            pod_resolver,
            "Change the policy named so that it does not select sandboxes, or delete the pod, which comes back.",
            needs=_NETWORK_EVIDENCE,
            unseen="a resolver that answers on another port, or over HTTPS, among networks that are declared.",
            undeclared=Undeclared(nobodys_resolver),
        ),
        container=ContainerCheck(
            container_resolver,
            "Remove the container: it is made again with a resolver that is nowhere (--dns 192.0.2.1).",
        ),
        mappings=maps(nist=("4.4.2",)),
    ),
    Control(
        "NET-08",
        "Only internal networks",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "The container is on networks without a way out, with nobody else on them who isn't meant to be there."
        ),
        why=(
            "On Docker a network is the only wall. An ordinary bridge leads to the internet, the host and every "
            "other container on it."
        ),
        container=ContainerCheck(
            container_internal,
            f"Use --network none, or: docker network create --internal -o {INHIBIT}=true NAME",
        ),
        mappings=maps(cis_docker=("2.2", "5.30"), nist=("4.3.3", "4.4.2")),
    ),
    Control(
        "NET-10",
        "Not exposed by a Service",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="No Service or EndpointSlice of others leads to the pod, and its own is for the cluster only.",
        why=(
            "A Service with the right labels makes a port of the sandbox part of somebody's application, or "
            "opens it to the outside."
        ),
        pod=PodCheck(
            pod_exposed,
            "Delete or change the Service or EndpointSlice named, or make it a ClusterIP without external addresses.",
            needs=(Evidence.SERVICES, Evidence.SLICES, Evidence.POD),
            undeclared=AS_FOR_A_SANDBOX,
        ),
        mappings=maps(kubescape=("C-0256",), trivy=("KSV-0108",), nist=("4.3.3",)),
    ),
    Control(
        "NET-11",
        "Ingress only on declared ports",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="What can connect to the sandbox can do so on the declared ports only.",
        why=(
            "What an agent starts to serve (a debugger, a notebook, a development server) has seldom a "
            "password, and whoever reaches it has the agent's rights."
        ),
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
        mappings=maps(nsa=("Network policies",), nist=("4.3.3",)),
    ),
    Control(
        "NET-12",
        "A hardened gateway is the way out",
        Severity.CRITICAL,
        Level.SANDBOX,
        meaning=(
            "The gateway that the sandbox gets out by is the operator's own, hardened, and takes only the "
            "declared clients."
        ),
        why=(
            "The gateway holds the keys and decides where to. One that was changed, or that somebody else "
            "stands in for, sees all that the agent says."
        ),
        pod=PodCheck(
            pod_gateway,
            "Delete what is named: what is the gateway's own is made again as it should be.",
            needs=(Evidence.GATEWAY, Evidence.POD),
            unseen="what a program in the gateway's pods does, and who was let into them by `kubectl exec`.",
            undeclared=Undeclared(nobodys_gateway),
        ),
        container=ContainerCheck(
            container_gateway,
            "Remove the gateway's container: it is made again as it should be.",
        ),
        mappings=maps(nist=("4.4.2",)),
    ),
    Control(
        "NET-13",
        "No way out past the gateway",
        Severity.CRITICAL,
        Level.SANDBOX,
        meaning="There is no way out but the gateway and what the spec allows by address.",
        why=(
            "A gateway that can be walked around decides nothing: neither domains, nor budgets, nor what is "
            "logged hold then."
        ),
        pod=PodCheck(
            pod_by_gateway,
            "Change the policy named so that it does not select sandboxes; declare where to in allowedDomains.",
            needs=_NETWORK_EVIDENCE,
            undeclared=Undeclared(nobodys_gateway),
        ),
        container=ContainerCheck(
            container_by_gateway,
            "Take it off the network named, and from its own who is named (docker network disconnect).",
        ),
        mappings=maps(nist=("4.4.2",)),
    ),
)
