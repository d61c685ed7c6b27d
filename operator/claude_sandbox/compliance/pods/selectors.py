"""Label selectors: what they match, and which of two is the narrower."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that the API server gives every namespace, with the namespace's own name, and lets nobody change."""

_ON_ALL_NAMESPACES = re.compile(
    r"kubernetes\.io/metadata\.name|pod-security\.kubernetes\.io/.*|(?:.*[./])?(?:cattle\.io|openshift\.io)/.*"
    r"|app\.kubernetes\.io/managed-by"
)
"""Labels that the API server, a distribution or what installs things gives nearly every namespace."""
_LEVELS = frozenset({"privileged", "baseline", "restricted"})


@dataclass(frozen=True)
class Requirement:
    """One requirement on a label: its operator is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` meet the requirement. As in Kubernetes, NotIn holds where the label is absent."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        # An operator that is not known must not make a policy look as if it did not apply.
        return True

    def implies(self, other: Self) -> bool:
        """Whether all labels that meet this one meet `other` too."""
        if self.key != other.key:
            return False
        match self.operator, other.operator:
            case "In", "In":
                return self.values <= other.values
            case "In", "NotIn":
                return not self.values & other.values
            case "NotIn", "NotIn":
                return self.values >= other.values
            case ("In", "Exists") | ("Exists", "Exists"):
                return True
            case "DoesNotExist", ("NotIn" | "DoesNotExist"):
                return True
        return False


@dataclass(frozen=True)
class Selector:
    """A metav1.LabelSelector. Without requirements it matches everything."""

    requirements: frozenset[Requirement] = frozenset()

    @classmethod
    def parse(cls, selector: Mapping[str, Any]) -> Self:
        """From a LabelSelector as JSON has it."""
        labels = selector.get("matchLabels") or {}
        expressions = selector.get("matchExpressions") or ()
        return cls(
            frozenset(
                (
                    *(Requirement(key, "In", frozenset({value})) for key, value in labels.items()),
                    *(
                        Requirement(one["key"], one["operator"], frozenset(one.get("values") or ()))
                        for one in expressions
                    ),
                )
            )
        )

    @classmethod
    def of_labels(cls, **labels: str) -> Self:
        """Requires each of `labels`."""
        return cls.parse({"matchLabels": labels})

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with `labels` is selected."""
        return all(requirement.holds(labels) for requirement in self.requirements)

    def lists_values(self) -> bool:
        """Whether it bounds what it selects by a list of values of some label."""
        return any(one.operator == "In" for one in self.requirements)

    def bounds_namespaces(self) -> bool:
        """Whether not nearly every namespace is selected.

        All have the label with their own name, nearly all have what is given to all, and nearly all lack any other
        given label or value. Every level of the Pod Security Standards is as good as none.
        """
        return any(
            (one.operator == "In" and not one.values >= _LEVELS)
            or (one.operator == "Exists" and not _ON_ALL_NAMESPACES.fullmatch(one.key))
            for one in self.requirements
        )

    def within(self, other: Self) -> bool:
        """Whether everything that this one selects, `other` selects too.

        Each requirement of `other` must follow from a single one here, so a selector that only in sum is
        narrower counts as wider: too strict at worst, never too lax.
        """
        return all(any(own.implies(wanted) for own in self.requirements) for wanted in other.requirements)


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """As `Selector.parse(selector).matches(labels)`, without building anything: most selectors select others."""
    wanted = selector.get("matchLabels")
    if wanted and not wanted.items() <= labels.items():
        return False
    if not selector.get("matchExpressions"):
        return True
    return Selector.parse(selector).matches(labels)
