"""The evidence, looked at: what several controls need, worked out once for each evaluation."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.evidence.pods import Access, Expected, KubernetesEvidence
from claude_sandbox.compliance.evidence.probes import ProbeReport
from claude_sandbox.compliance.evidence.readings import Object, Reading, Unread
from claude_sandbox.compliance.pods import pod_security
from claude_sandbox.compliance.pods.coverage import beyond
from claude_sandbox.compliance.pods.declared_policies import declared_egress
from claude_sandbox.compliance.pods.plugin_policies import PluginPolicies, plugin_policies, whom_of
from claude_sandbox.compliance.pods.policies import Direction, Granted, Union, union
from claude_sandbox.compliance.verdict import Verdict

T = TypeVar("T")
P = ParamSpec("P")

_EMPTY: Mapping[str, Any] = {}
_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


@dataclass(frozen=True)
class PodContainer:
    """A container of the pod: what it is to be and what the node says it is."""

    kind: str
    """`initContainers`, `containers` or `ephemeralContainers`."""
    name: str
    spec: Object
    context: Object
    """Its securityContext, empty where it has none."""
    status: Object
    """Empty where the node reported nothing yet."""


class View:
    """What was read. A control may only look at what it said it needs: anything else may be missing."""

    def __init__(self, evidence: KubernetesEvidence) -> None:
        self.evidence = evidence

    @property
    def expected(self) -> Expected:
        return self.evidence.expected

    @cached_property
    def pod(self) -> Object:
        return _value(self.evidence.pod)

    @cached_property
    def namespace(self) -> Object:
        return _value(self.evidence.namespace)

    @property
    def services(self) -> tuple[Object, ...]:
        return _value(self.evidence.services)

    @property
    def slices(self) -> tuple[Object, ...]:
        return _value(self.evidence.slices)

    @property
    def service_account(self) -> Object:
        return _value(self.evidence.service_account)

    @property
    def access(self) -> tuple[Access, ...]:
        return _value(self.evidence.access)

    @property
    def grants(self) -> tuple[Grant, ...] | str:
        """What roles grant the ServiceAccount beyond what everybody may; or why that is not known."""
        reading, oldest = self.evidence.grants, self.evidence.now - self.evidence.max_age
        if isinstance(reading, Unread):
            return f"the roles that reach the ServiceAccount could not be read: {reading.reason}"
        if reading.observed_at < oldest:
            return "what is known of the roles that reach the ServiceAccount is too old"
        return reading.value

    @property
    def runtime_class(self) -> Object | None:
        return _value(self.evidence.runtime_class)

    @property
    def quotas(self) -> tuple[Object, ...]:
        return _value(self.evidence.quotas)

    @property
    def gateway(self) -> Gateway | None:
        return _value(self.evidence.gateway)

    @property
    def probe(self) -> ProbeReport:
        return _value(self.evidence.probe)

    @property
    def kernel_probe(self) -> ProbeReport:
        return _value(self.evidence.kernel_probe)

    @property
    def confined(self) -> ProbeReport | str:
        """What a probe that is confined as the pod is tells; or why nothing is known of that, as the end of a
        sentence."""
        reading, most = self.evidence.kernel_probe, self.evidence.probe_max_age
        if isinstance(reading, Unread):
            return f"was not tried: {reading.reason}"
        if self.evidence.now - reading.observed_at > most:
            return f"was tried more than {most.total_seconds():.0f} s ago"
        return reading.value

    @property
    def drift(self) -> tuple[str, ...]:
        return _value(self.evidence.drift)

    @cached_property
    def spec(self) -> Object:
        return self.pod.get("spec") or _EMPTY

    @cached_property
    def context(self) -> Object:
        """The pod's own securityContext, empty where it has none."""
        return self.spec.get("securityContext") or _EMPTY

    @cached_property
    def labels(self) -> Mapping[str, str]:
        return (self.pod.get("metadata") or _EMPTY).get("labels") or _EMPTY

    @property
    def own_namespace(self) -> str:
        """The name of the pod's namespace."""
        return str((self.pod.get("metadata") or _EMPTY).get("namespace", ""))

    @cached_property
    def volumes(self) -> tuple[Object, ...]:
        return tuple(self.spec.get("volumes") or ())

    def is_helper(self, container: PodContainer) -> bool:
        """Whether it is one that the operator has run before the agent, of the image that it is meant to have."""
        meant = self.expected.helpers.get(container.name) if container.kind == "initContainers" else None
        return meant is not None and same_image(str(container.spec.get("image", "")), meant)

    def is_cloner(self, container: PodContainer) -> bool:
        """Whether it is the one of these that clones the agent's repositories."""
        return container.name == self.expected.cloner and self.is_helper(container)

    @cached_property
    def containers(self) -> tuple[PodContainer, ...]:
        """Init, main and ephemeral containers."""
        return tuple(self._containers())

    @cached_property
    def network(self) -> Union:
        """What all NetworkPolicies of the namespace together allow the pod."""
        return union(_value(self.evidence.policies), self.pod)

    @cached_property
    def plugins(self) -> PluginPolicies:
        """What network plugins have beside NetworkPolicies that may select the pod."""
        read, namespace = self.evidence.plugin_policies, self.evidence.namespace
        # Of a pod in its node's network no policy of pods holds, whose ever it is.
        if read is None or self.spec.get("hostNetwork"):
            return PluginPolicies()
        if isinstance(read, Unread):
            return PluginPolicies(unread=read.reason)
        space = None if isinstance(namespace, Unread) else namespace.value
        return plugin_policies(read.value, whom_of(self.pod, space))

    @cached_property
    def undeclared_egress(self) -> tuple[Granted, ...]:
        """What of what they allow it to connect to is not declared; only where something isolates it."""
        return beyond(self.network.egress or (), declared_egress(self.expected, self.own_namespace))

    def violations(self, *check_ids: str, minor: int | None = None) -> list[str]:
        """What these checks of the Pod Security Standards find, as in Kubernetes 1.`minor`."""
        minor = self.evidence.minor if minor is None else minor
        return [detail for check_id in check_ids for detail in pod_security.find(check_id, minor)(self.pod)]

    def _containers(self) -> Iterator[PodContainer]:
        status = self.pod.get("status") or _EMPTY
        for kind, statuses in zip(pod_security.CONTAINER_FIELDS, _STATUSES, strict=True):
            reported = {one.get("name"): one for one in status.get(statuses) or ()}
            for spec in self.spec.get(kind) or ():
                name = str(spec.get("name", ""))
                yield PodContainer(kind, name, spec, spec.get("securityContext") or _EMPTY, reported.get(name, _EMPTY))


def among_plugins(
    direction: Direction,
) -> Callable[[Callable[Concatenate[View, P], Verdict]], Callable[Concatenate[View, P], Verdict]]:
    """Of a judge of what NetworkPolicies allow in a direction: that a plugin's policies may change that."""

    def decorated(judge: Callable[Concatenate[View, P], Verdict]) -> Callable[Concatenate[View, P], Verdict]:
        @wraps(judge)
        def weighing(view: View, /, *args: P.args, **kwargs: P.kwargs) -> Verdict:
            isolated = getattr(view.network, direction) is not None
            return view.plugins.weighed(judge(view, *args, **kwargs), direction, isolated=isolated)

        return weighing

    return decorated


def _value(reading: Reading[T] | Unread) -> T:
    if isinstance(reading, Unread):
        # A mistake of ours, which makes the control Unknown (`verdict.guarded`): what was not read is never taken for
        # empty.
        raise LookupError(f"a control looks at evidence that it did not say it needs: {reading.reason}")
    return reading.value


def same_image(one: str, other: str) -> bool:
    """By name, or by the digest, which says the same from whatever registry."""
    digest = one.partition("@")[2]
    return one == other or (bool(digest) and digest == other.partition("@")[2])
