"""Policies that network plugins have beside NetworkPolicies: told where they concern a pod, and not evaluated. Pure.

What one of them allows is added to what NetworkPolicies allow, or comes before it; some deny as well. Each plugin has
rules of its own for that, and for whom they hold. So no control is decided against what such a policy could change.
Whom one selects is read as far as it is written in labels. What can't be read may select every pod.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.pods import calico_selectors
from claude_sandbox.compliance.pods.policy_size import size_of
from claude_sandbox.compliance.pods.selectors import NAMESPACE_NAME_LABEL, Requirement, Selector
from claude_sandbox.compliance.verdict import Verdict, unknown

Object = Mapping[str, Any]
DIRECTIONS = ("ingress", "egress")
MOST_READ = 40_000
"""What selectors of all policies together may hold to be read: characters, labels, values. Some 40 ms' worth, in a
thread."""
FEW = 4000
"""The same of what is read on the event loop."""
_TOO_MUCH = "there is more of them in the namespace, or longer selectors, than is read"
_NAMED = 3
"""Policies that a message names."""
_NOT_OF_IDENTITY = re.compile(r"(?:.*[./])?(?:kubernetes|k8s)\.io/.*|.*-hash|annotation.*|statefulset\..*|etcd_node")
"""Labels that Cilium's identities leave out unless it is told otherwise (Documentation/operations/performance/
scalability/identity-relevant-labels.rst): to it a pod that has one lacks it."""


@dataclass(frozen=True)
class Whom:
    """The pod, as selectors of plugins see it."""

    labels: Mapping[str, str]
    namespace: str
    """Empty: not known."""
    namespace_labels: Mapping[str, str] | None
    account: str


@dataclass(frozen=True)
class PluginPolicy:
    """One that may select the pod: by which of its rules it is about a direction, and could deny something there."""

    kind: str
    name: str
    about: frozenset[str]
    denies: frozenset[str]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class PluginPolicies:
    """Those of all plugins that may select the pod."""

    selecting: tuple[PluginPolicy, ...] = ()
    unread: str = ""
    """Why it is not known which there are; empty where it is, or nobody looks."""

    def about(self, direction: str) -> tuple[PluginPolicy, ...]:
        """Those that may change what is allowed in a direction."""
        return tuple(one for one in self.selecting if direction in one.about)

    def weighed(self, verdict: Verdict, *directions: str, isolated: bool) -> Verdict:
        """The verdict on NetworkPolicies alone, or Unknown where a plugin's could change it.

        `isolated`: whether NetworkPolicies isolate the pod in these directions. If so, what they allow stays allowed
        unless something denies it.
        """
        if verdict.result not in (Result.PASS, Result.FAIL):
            return verdict
        those = list(dict.fromkeys(one for direction in directions for one in self.about(direction)))
        if verdict.result is Result.FAIL and isolated:
            those = [one for one in those if one.denies.intersection(directions)]
        if those:
            who = f"{_listed(those)} may select the pod, and {'is' if len(those) == 1 else 'are'} not evaluated"
        elif self.unread:
            who = f"the policies of the network plugin could not be read ({self.unread})"
        else:
            return verdict
        if verdict.result is Result.PASS:
            return unknown(f"{who}: more could be allowed than NetworkPolicies allow", verdict.value)
        return unknown(f"{verdict.message}; but {who}", verdict.value)


def whom_of(pod: Object, namespace: Object | None) -> Whom:
    """`namespace`: the pod's; None: it is not known."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    space = None if namespace is None else (namespace.get("metadata") or {}).get("labels") or {}
    account = str(spec.get("serviceAccountName") or "default")
    return Whom(metadata.get("labels") or {}, str(metadata.get("namespace", "")), space, account)


def may_select(policy: Object, whom: Whom) -> bool:
    """Whether a policy of a plugin's may be about the pod."""
    return bool(_those(policy, whom))


def plugin_policies(policies: Iterable[Object], whom: Whom) -> PluginPolicies:
    """Those among `policies`, objects of any kind, that may select the pod."""
    read, is_all = readable(policies)
    return PluginPolicies(tuple(_selecting(read, whom)), "" if is_all else _TOO_MUCH)


def readable(policies: Iterable[Object], most: int = MOST_READ) -> tuple[tuple[Object, ...], bool]:
    """Those whose selectors are not too much to be read, the first ones; and whether that is all."""
    left, found = most, list[Object]()
    for policy in policies:
        # Each is something to look at, whatever it selects by.
        left -= 1 + sum(size_of(one, left) for one in _selectors(policy))
        if left < 0:
            return tuple(found), False
        found.append(policy)
    return tuple(found), True


def _selectors(policy: Object) -> Iterator[Any]:
    if (kind := KINDS.get(_key(policy))) is not None:
        for one in _rule_sets(policy):
            yield from (one.get(field) for field in kind.by) if isinstance(one, Mapping) else ()


def is_plugin_policy(value: Object) -> bool:
    """Whether an object is one."""
    return _key(value) in KINDS


@dataclass(frozen=True)
class _Kind:
    namespaced: bool
    selects: Callable[[Object, Whom], bool]
    """Whether a rule set of it may select the pod."""
    by: tuple[str, ...]
    """The fields that are read for that."""
    denies: Callable[[Object, str], bool] = lambda _spec, _direction: True


def _selecting(policies: Iterable[Object], whom: Whom) -> Iterator[PluginPolicy]:
    for policy in policies:
        if those := _those(policy, whom):
            kind, metadata = KINDS[_key(policy)], policy.get("metadata") or {}
            about = frozenset(way for one in those for way in DIRECTIONS if _is_about(one, way))
            denies = frozenset(way for one in those for way in about if _denies(kind, one, way))
            yield PluginPolicy(str(policy["kind"]), str(metadata.get("name", "")), about, denies)


def _those(policy: Object, whom: Whom) -> list[Any]:
    """The rule sets of a policy that may select the pod."""
    kind = KINDS.get(_key(policy))
    if kind is None:
        return []
    metadata = policy.get("metadata") or {}
    if kind.namespaced and str(metadata.get("namespace") or "") != whom.namespace:
        return []
    return [one for one in _rule_sets(policy) if _may(kind, one, whom)]


def _key(value: Object) -> tuple[str, str]:
    return str(value.get("apiVersion", "")).partition("/")[0], str(value.get("kind", ""))


def _rule_sets(policy: Object) -> Iterator[Any]:
    """What selects and allows: Cilium has `specs` as well."""
    several = policy.get("specs")
    if policy.get("spec") is not None or not several:
        yield policy.get("spec")
    yield from several if isinstance(several, Sequence) and not isinstance(several, str) else ()


def _may(kind: _Kind, spec: Any, whom: Whom) -> bool:
    try:
        return kind.selects(spec, whom)
    except (AttributeError, KeyError, TypeError, ValueError):
        # Its schema would not have it so, and whoever reads it otherwise may take it to be about the pod.
        return True


def _denies(kind: _Kind, spec: Any, direction: str) -> bool:
    return not isinstance(spec, Mapping) or kind.denies(spec, direction)


def _is_about(spec: Any, direction: str) -> bool:
    if not isinstance(spec, Mapping):
        return True
    types = spec.get("types")
    if isinstance(types, Sequence) and types:
        return direction.capitalize() in types
    named = {way for way in DIRECTIONS for key, value in spec.items() if key.startswith(way) and value is not None}
    # One without rules denies what its plugin has it deny: that may be either.
    return not named or direction in named


def _by_cilium(spec: Object, whom: Whom) -> bool:
    selector = spec.get("endpointSelector")
    if selector is None:
        # A policy of hosts is about no pod but those in their network, whom none of this is said of.
        return spec.get("nodeSelector") is None
    known = {
        **whom.labels,
        "io.kubernetes.pod.namespace": whom.namespace,
        "io.cilium.k8s.policy.serviceaccount": whom.account,
    }
    return all(_cilium_holds(one, known) for one in Selector.parse(selector).requirements)


def _cilium_holds(requirement: Requirement, known: Mapping[str, str]) -> bool:
    source, colon, rest = requirement.key.partition(":")
    key = rest if colon else source
    if (colon and source not in ("k8s", "any")) or key.startswith("$"):
        return True
    if not known.get(key) and key.startswith(("io.cilium.", "io.kubernetes.pod.")):
        return True
    if requirement.operator in ("NotIn", "DoesNotExist") and _NOT_OF_IDENTITY.fullmatch(key):
        return True
    return Requirement(key, requirement.operator, requirement.values).holds(known)


def _by_calico(spec: Object, whom: Whom) -> bool:
    if spec.get("serviceAccountSelector"):
        return True
    special = {"projectcalico.org/namespace": whom.namespace, "projectcalico.org/serviceaccount": whom.account}
    of_pod = {**whom.labels, "projectcalico.org/orchestrator": "k8s", **special}
    if _calico(spec.get("selector"), of_pod, complete=True) is False:
        return False
    named = {"projectcalico.org/name": whom.namespace, NAMESPACE_NAME_LABEL: whom.namespace}
    of_space = {**(whom.namespace_labels or {}), **named}
    complete = whom.namespace_labels is not None
    return _calico(spec.get("namespaceSelector"), of_space, complete=complete) is not False


def _calico(expression: Any, labels: Mapping[str, str], *, complete: bool) -> bool | None:
    def is_unknown(label: str) -> bool:
        if label in labels:
            return label.startswith(("projectcalico.org/", "kubernetes.io/metadata")) and not labels[label]
        return not complete or label.startswith(("projectcalico.org/", "pcns.", "pcsa."))

    return calico_selectors.selects(str(expression or ""), labels, is_unknown)


def _by_subject(spec: Object, whom: Whom) -> bool:
    """As the cluster's own kinds of the Network Policy API select: namespaces, or pods of namespaces."""
    subject = spec["subject"]
    if (pods := subject.get("pods")) is not None:
        chosen = pods.get("podSelector") or {}
        return Selector.parse(chosen).matches(whom.labels) and _in_namespaces(pods.get("namespaceSelector"), whom)
    return _in_namespaces(subject.get("namespaces"), whom)


def _by_applied_to(spec: Object, whom: Whom) -> bool:
    """As Antrea's select: by the whole policy's list, or by each rule's own."""
    rules = [one for way in DIRECTIONS for one in spec.get(way) or ()]
    lists = [spec["appliedTo"]] if spec.get("appliedTo") else [one.get("appliedTo") or ({},) for one in rules]
    return not lists or any(_is_applied(one, whom) for many in lists for one in many)


def _is_applied(peer: Object, whom: Whom) -> bool:
    if not peer or peer.keys() - {"podSelector", "namespaceSelector"}:
        # Groups, Services and accounts are objects of their own.
        return True
    return Selector.parse(peer.get("podSelector") or {}).matches(whom.labels) and _in_namespaces(
        peer.get("namespaceSelector"), whom
    )


def _in_namespaces(selector: Object | None, whom: Whom) -> bool:
    named = {NAMESPACE_NAME_LABEL: whom.namespace} if whom.namespace else {}
    known = {**(whom.namespace_labels or {}), **named}
    complete = whom.namespace_labels is not None
    return all(
        one.holds(known)
        for one in Selector.parse(selector or {}).requirements
        # What a namespace's labels are, the files need not say.
        if one.key in known or (complete and one.key != NAMESPACE_NAME_LABEL)
    )


def _cilium_denies(spec: Object, direction: str) -> bool:
    return bool(spec.get(f"{direction}Deny"))


def _listed(those: Sequence[PluginPolicy]) -> str:
    more = f" and {len(those) - _NAMED} more" if len(those) > _NAMED else ""
    return ", ".join(map(str, those[:_NAMED])) + more


_OF_CILIUM = ("endpointSelector",)
_OF_CALICO = ("selector", "namespaceSelector")
_OF_ANTREA = ("appliedTo", *DIRECTIONS)
_OF_CLUSTER = ("subject",)
KINDS: Mapping[tuple[str, str], _Kind] = {
    ("cilium.io", "CiliumNetworkPolicy"): _Kind(True, _by_cilium, _OF_CILIUM, _cilium_denies),
    ("cilium.io", "CiliumClusterwideNetworkPolicy"): _Kind(False, _by_cilium, _OF_CILIUM, _cilium_denies),
    # Staged ones are none of these: they change nothing.
    ("projectcalico.org", "NetworkPolicy"): _Kind(True, _by_calico, _OF_CALICO),
    ("projectcalico.org", "GlobalNetworkPolicy"): _Kind(False, _by_calico, _OF_CALICO),
    ("crd.projectcalico.org", "NetworkPolicy"): _Kind(True, _by_calico, _OF_CALICO),
    ("crd.projectcalico.org", "GlobalNetworkPolicy"): _Kind(False, _by_calico, _OF_CALICO),
    ("crd.antrea.io", "NetworkPolicy"): _Kind(True, _by_applied_to, _OF_ANTREA),
    ("crd.antrea.io", "ClusterNetworkPolicy"): _Kind(False, _by_applied_to, _OF_ANTREA),
    ("policy.networking.k8s.io", "AdminNetworkPolicy"): _Kind(False, _by_subject, _OF_CLUSTER),
    ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy"): _Kind(False, _by_subject, _OF_CLUSTER),
    ("policy.networking.k8s.io", "ClusterNetworkPolicy"): _Kind(False, _by_subject, _OF_CLUSTER),
}
