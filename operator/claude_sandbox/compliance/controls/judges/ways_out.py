"""NET: what a sandbox can connect to: networks, resolvers, its gateway. The judges; their controls are in `network`."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network

from claude_sandbox.api.networks import WIDEST
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.containers.networks import doubts_about, peers_of, problems_of
from claude_sandbox.compliance.evidence.pods import Expected
from claude_sandbox.compliance.pods.coverage import too_wide
from claude_sandbox.compliance.pods.declared_policies import widened
from claude_sandbox.compliance.pods.policies import Granted
from claude_sandbox.compliance.pods.view import View, among_plugins
from claude_sandbox.compliance.verdict import Verdict, decided, failed, judged, not_applicable, unknown

_DEFAULT = ("", "bridge", "default")
_RESOLVERS = frozenset({("UDP", 53), ("TCP", 53), ("TCP", 853), ("UDP", 853)})
"""Ports of resolvers, in plain and over TLS or QUIC (RFC 1035, 7858, 9250)."""
_NOWHERE = tuple(map(ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")))
"""Networks for documentation (RFC 5737, 3849), in which nothing answers.

The loopback is none of them: what an engine is to ask there, it asks on its host (CVE-2024-29018).
"""
_UNRESTRICTED = "no NetworkPolicy restricts egress: everything can be connected to"


@among_plugins("egress")
def pod_egress(view: View) -> Verdict:
    """All policies together allow the declared networks and the resolver, and those networks are narrow."""
    granted = view.network.egress
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed(_UNRESTRICTED)
    problems = widened(view.undeclared_egress, "egress to")
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


@among_plugins("egress")
def pod_by_gateway(view: View) -> Verdict:
    """All policies together let it connect to its gateway, and beside that to what its spec asks for by address."""
    expected, granted = view.expected, view.network.egress
    if expected.gateway is None:
        return not_applicable("it has no gateway; NET-02 tells where it may connect to")
    if view.spec.get("hostNetwork"):
        return failed("NetworkPolicies do not hold for a pod in its node's network")
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed(_UNRESTRICTED)
    return judged(widened(view.undeclared_egress, "egress past the gateway, to"), _besides(expected))


def container_by_gateway(container: Container) -> Verdict:
    """Its own network leads nowhere, it is on no other, and nobody but its gateway and its relay is there with it."""
    if not container.declared.gateway:
        return not_applicable(_no_gateway(container))
    networks = container.mapping("NetworkSettings.Networks")
    ways = container_internal(container)
    problems = [ways.message] if ways.result is Result.FAIL else []
    own = sorted(set(networks or ()) - {"none"})
    if len(own) > 1:
        problems.append(f"it is on more networks than its own: {', '.join(own)}")
    problems += strangers(container)
    doubts = [] if ways.result is not Result.UNKNOWN else [ways.message]
    return decided(problems, doubts, ", ".join(own) or "no network")


def strangers(container: Container) -> Iterator[str]:
    """Who is on the container's networks, and is nobody that the operator put there."""
    for name, endpoint in (container.mapping("NetworkSettings.Networks") or {}).items():
        document = container.network(name, _identifier(endpoint))
        if document is not None:
            yield from (f"{peer} is on its network {name} too" for peer in peers_of(document, container))


@among_plugins("egress")
def pod_resolver(view: View) -> Verdict:
    """No resolver can be asked, unless the spec asks for the cluster's; a name that is asked for is a way out."""
    expected, granted = view.expected, view.network.egress
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed("no NetworkPolicy restricts egress: every resolver can be asked")
    asked = tuple(one for one in view.undeclared_egress if _reaches_resolver(one))
    problems = widened(asked, "to ask a resolver at")
    if expected.gateway is not None:
        problems += _left_on(view)
    return judged(problems, "the cluster's" if expected.dns else "none")


def container_resolver(container: Container) -> Verdict:
    """What an engine would ask for it is nowhere: older ones ask from their host's own network."""
    if container.declared.gateway is None:
        return not_applicable("nothing declares whether it is to ask a resolver; NET-08 tells whether it gets out")
    servers = container.strings("HostConfig.Dns")
    if servers is None:
        return unknown(untold("HostConfig.Dns"))
    if not servers:
        return failed("its engine asks the host's resolver for it; older ones from the host's network (CVE-2024-29018)")
    return judged((f"its resolver is {one}" for one in servers if not _is_nowhere(one)), "none")


def _besides(expected: Expected) -> str:
    """What the spec asks for that goes past the gateway."""
    asked = [f"{len(expected.egress_cidrs)} networks of spec.network.egress.allowedCIDRs"] * bool(expected.egress_cidrs)
    asked += ["the cluster's resolver"] * expected.dns
    return f"the gateway, and as declared {' and '.join(asked)}" if asked else "the gateway alone"


def _reaches_resolver(granted: Granted) -> bool:
    ports = granted.allow.ports
    return ports is None or any(
        one.protocol == protocol and (bool(one.name) or one.first <= number <= one.last)
        for one in ports
        for protocol, number in _RESOLVERS
    )


def _left_on(view: View) -> Iterator[str]:
    """In what a pod that has a gateway finds it by a resolver, or could ask one."""
    expected, spec = view.expected, view.spec
    if not expected.dns:
        policy, servers = spec.get("dnsPolicy"), (spec.get("dnsConfig") or {}).get("nameservers") or ()
        if policy != "None":
            yield f"its dnsPolicy is {policy or 'ClusterFirst'}, and no resolver is declared"
        yield from (f"its resolver is {one}" for one in servers if not _is_loopback(one))
    names = {name for alias in spec.get("hostAliases") or () for name in alias.get("hostnames") or ()}
    if expected.gateway_host not in names:
        yield f"{expected.gateway_host} is not in its file of hosts, so that a resolver has to be asked for its gateway"


def _is_loopback(address: str) -> bool:
    """Of a pod, which is its own."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _is_nowhere(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in one for one in _NOWHERE if found.version == one.version)


def _identifier(endpoint: object) -> str | None:
    identifier = endpoint.get("NetworkID") if isinstance(endpoint, Mapping) else None
    return identifier if isinstance(identifier, str) else None


def _no_gateway(container: Container) -> str:
    if container.declared.gateway is None:
        return "nothing declares by what it is to get out; NET-08 tells whether it can by itself"
    return "it holds its key itself, and has no gateway"
