"""What was read of the gateway of a namespace on Kubernetes, and what it is meant to be. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.evidence.readings import Object

MOST_REPLICAS = 16
"""Pods with the gateway's labels that are looked at. Its Deployment has two, one more while it is changed, and for as
long as they finish what they do those that were replaced."""


@dataclass(frozen=True)
class Replica:
    """A pod with the labels by which sandboxes are let to their gateway, whoever made it.

    `differences`: in what it is not the pod that the operator wants. `replaced`: these are what a rollout changes, and
    one is under way, or the pod is about to end.
    """

    pod: Object
    differences: tuple[str, ...] = ()
    replaced: bool = False


@dataclass(frozen=True)
class Meant:
    """What a gateway is meant to be, beside what `Gateway.differences` compares."""

    name: str
    """Of all its objects, its ServiceAccount among them."""
    labels: Mapping[str, str]
    """Those by which its pods are found."""
    container: str
    image: str
    """As the operator's administrator names it."""
    ports: tuple[int, ...]
    """TCP ports that sandboxes of its namespace may connect to, and nobody else."""
    mounted: frozenset[str]
    """Names of the Secrets that its pods have as files."""
    readable: frozenset[str]
    """Names of the Secrets that it may read by the API: those that sandboxes of its namespace name."""
    policy: Object
    """Its NetworkPolicy, which says who may connect to its other ports."""


@dataclass(frozen=True, eq=False)
class Gateway:
    """A namespace's gateway as it was seen. What could not be read says why, as a clause.

    Compared by identity: what is found of one is found once, for all sandboxes of its namespace.
    """

    namespace: str
    meant: Meant
    objects: Mapping[str, Object]
    """The live objects under its name, by kind."""
    differences: tuple[str, ...]
    """In what these are not the desired ones, as "Kind: path"."""
    replicas: tuple[Replica, ...] | str
    policies: tuple[Object, ...] | str
    """The NetworkPolicies of the namespace that may select its pods."""
    services: tuple[Object, ...] | str
    """The Services of the namespace that may select its pods."""
    slices: tuple[Object, ...] | str
    """The EndpointSlices of its Service, and those of the namespace that are too large to be kept."""
    grants: tuple[Grant, ...] | str
    """What roles grant its ServiceAccount beyond what everybody may."""
    authority: str | None = None
    """Whom sandboxes have to believe that it is the one, in PEM; None where that is not known."""
    minor: int = 34
    """The minor version of the API server."""
    doubts: tuple[str, ...] = field(default=())
    """What else of it is not known, as clauses."""

    @property
    def size(self) -> int:
        """How many objects there are to look at."""
        lists = (self.replicas, self.policies, self.services, self.slices)
        return sum(len(one) for one in lists if not isinstance(one, str))
