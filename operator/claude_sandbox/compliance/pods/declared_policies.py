"""What a sandbox declares that it may connect to and who may connect to it, and what is said of anything beyond."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, repeat

from claude_sandbox.api import meta
from claude_sandbox.compliance.evidence.pods import Expected
from claude_sandbox.compliance.pods.policies import Allow, Granted, IPBlock, PodPeer, Ports, own_namespace
from claude_sandbox.compliance.pods.selectors import Selector

_RESOLVER = PodPeer(own_namespace("kube-system"), Selector.parse({"matchLabels": {"k8s-app": "kube-dns"}}))
"""The cluster's resolver, as kubeadm, kind, k3s and the managed offerings label it."""
_GATEWAY = Selector.parse({"matchLabels": {meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}})
_NAMED = 10
"""Problems of a kind that a message names."""
_DNS = (Ports("UDP", 53, 53), Ports("TCP", 53, 53))


def declared_egress(expected: Expected, namespace: str) -> tuple[Allow, ...]:
    """What the sandbox may connect to."""
    declared = _declared_egress(expected.egress_cidrs, expected.egress_excepted, expected.egress_ports, expected.dns)
    if not expected.gateway_ports:
        return declared
    ports = tuple(Ports("TCP", port, port) for port in expected.gateway_ports)
    return (*declared, Allow(PodPeer(own_namespace(namespace), _GATEWAY), ports))


def declared_ingress(expected: Expected, namespace: str) -> tuple[Allow, ...]:
    """Who may connect to the sandbox."""
    return _declared_ingress(namespace, expected.ports)


def widened(extra: Sequence[Granted], what: str) -> list[str]:
    """A text for each of them, or for the first ones and how many there are."""
    return first_of(
        [f"NetworkPolicy {one.policy} allows {what} {one.allow}" for one in extra[: _NAMED + 1]], len(extra)
    )


def first_of(texts: Sequence[str], count: int | None = None) -> list[str]:
    count = len(texts) if count is None else count
    return [*texts[:_NAMED], f"and {count - _NAMED} more"] if count > _NAMED else list(texts)


@lru_cache(maxsize=256)
def _declared_egress(
    cidrs: tuple[str, ...], excepted: tuple[tuple[str, ...], ...], ports: tuple[int, ...], dns: bool
) -> tuple[Allow, ...]:
    allowed = tuple(Ports("TCP", port, port) for port in ports)
    blocks = tuple(
        Allow(IPBlock(cidr, parts), allowed) for cidr, parts in zip(cidrs, chain(excepted, repeat(())), strict=False)
    )
    return (*blocks, Allow(_RESOLVER, _DNS)) if dns else blocks


@lru_cache(maxsize=1024)
def _declared_ingress(namespace: str, ports: tuple[int, ...]) -> tuple[Allow, ...]:
    if not ports:
        return ()
    return (Allow(PodPeer(own_namespace(namespace), Selector()), tuple(Ports("TCP", port, port) for port in ports)),)
