"""How much NetworkPolicies hold that would have to be judged, and whether that is too much. Pure.

Counted without being understood, and no further than to the bound: what is too large costs nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from claude_sandbox.compliance.pods.selectors import matches

Object = Mapping[str, Any]

MAX_ENTRIES = 2000
"""What all policies that select a pod may hold together: peers, exceptions, ports, labels and values.

The `podSelector`s of those that select other pods count too: each has to be looked at.

A control has to be judged within milliseconds for each sandbox of a namespace, whatever anybody writes there; and a
list that nobody can read through is no declaration of where a sandbox may connect to.
"""

OUTSIZE = "outsize"
"""Beside `spec`, in place of what is too large to be kept of an object: why, as a clause. No API server sends it."""

_FREE_LABELS = 4
"""Labels of a `podSelector` that do not count."""


def size_of(selector: Any, most: int) -> int:
    """How much there is to read of a selector: characters of an expression, else labels and values; counting ends where
    there is more than `most`."""
    if isinstance(selector, str):
        return len(selector)
    counted, left = 0, [selector]
    while left and counted <= most:
        one = left.pop()
        counted += 1
        if isinstance(one, Mapping):
            left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)
    return counted


def name_of(policy: Object) -> str:
    """The policy's name."""
    return str((policy.get("metadata") or {}).get("name", ""))


def entries(policies: Iterable[Object], pod: Object, most: int) -> int:
    """How many entries there are to judge for a pod; counting ends where there are more than `most`."""
    counted = 0
    for policy, size in _entries(policies, (pod.get("metadata") or {}).get("labels") or {}):
        counted += most + 1 if OUTSIZE in policy else size
        if counted > most:
            break
    return counted


def selects(policy: Object, labels: Mapping[str, str]) -> bool:
    """Whether a policy selects a pod with these labels, or is too large to tell."""
    selector = policy["spec"].get("podSelector")
    if selector is None and OUTSIZE in policy:
        return True
    return matches(selector or {}, labels)


def unjudged(policies: Sequence[Object], labels: Mapping[str, str]) -> str:
    """Why the policies that select a pod with these labels are not judged; empty where they are."""
    remedy = "write fewer and wider rules, or delete policies that are not needed"
    counted = 0
    for policy, size in _entries(policies, labels):
        if OUTSIZE in policy:
            return f"NetworkPolicy {name_of(policy)} is not judged: {policy[OUTSIZE]}; {remedy}"
        counted += size
        if counted > MAX_ENTRIES:
            return (
                f"the NetworkPolicies that select the pod are not judged: with {name_of(policy)} they have more than"
                f" {MAX_ENTRIES} entries (peers, exceptions, ports, labels, values); {remedy}"
            )
    return ""


def _entries(policies: Iterable[Object], labels: Mapping[str, str]) -> Iterator[tuple[Object, int]]:
    """The numbers of entries of policies, bit by bit, so that counting ends where there are too many."""
    for policy in policies:
        # One that selects by a label or two is told from others at once: there may be one for each sandbox.
        selector = policy["spec"].get("podSelector") or {}
        if selector.get("matchExpressions") or len(selector.get("matchLabels") or ()) > _FREE_LABELS:
            yield from ((policy, size) for size in _selector_sizes(selector))
        if selects(policy, labels):
            yield policy, 1
            if OUTSIZE not in policy:
                yield from ((policy, size) for size in _sizes(policy["spec"]))


def _sizes(spec: Object) -> Iterator[int]:
    """The numbers of entries of a policy's rules."""
    for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
        yield 1 + len(rule.get("ports") or ())
        for peer in rule.get("from") or rule.get("to") or ():
            yield 1 + len((peer.get("ipBlock") or {}).get("except") or ())
            yield from _selector_sizes(peer.get("namespaceSelector"))
            yield from _selector_sizes(peer.get("podSelector"))


def _selector_sizes(selector: Object | None) -> Iterator[int]:
    yield len((selector or {}).get("matchLabels") or ())
    for expression in (selector or {}).get("matchExpressions") or ():
        yield 1 + len(expression.get("values") or ())
