"""Which rights reach a ServiceAccount by RBAC: all rules of all roles that are bound to it or to one of its groups.

As Kubernetes' own authorizer decides it (plugin/pkg/auth/authorizer/rbac/rbac.go): by the kind and the name of a
subject, whatever its API group; a ServiceAccount without a namespace is of the binding's own; a role that does not
exist grants nothing; rules for URLs count only where a ClusterRoleBinding binds them. Aggregated ClusterRoles have the
rules of those they are made of.

Roles and bindings are tenants' to write: `telling` and `told_subjects` keep what is needed to judge, of a bounded size.
Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

Object = Mapping[str, Any]

MOST_BINDINGS = 200
"""Bindings that are looked at for one account. One without rights has a handful, those of everybody's."""
MOST_SUBJECTS = 1000
"""Subjects that are kept of a binding; one with more counts as one for everybody."""
_TOLD_RULES = 4
_TOLD_WORDS = 5
_WORD = 64

# What Kubernetes grants everybody (bootstrappolicy/policy.go: system:basic-user, system:discovery,
# system:public-info-viewer, system:service-account-issuer-discovery), by what it is: to ask about oneself, and to read
# what the API server offers, whether it is well, and the public keys that tokens are verified with.
_SELF = {
    "authorization.k8s.io": frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews"}),
    "authentication.k8s.io": frozenset({"selfsubjectreviews"}),
}
_PUBLIC = frozenset(
    {
        *("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/"),
        *("/healthz", "/livez", "/readyz"),
        *("/.well-known/openid-configuration", "/.well-known/openid-configuration/"),
        *("/openid/v1/jwks", "/openid/v1/jwks/"),
    }
)
# What is told first of all that is granted.
_WORST_VERBS = frozenset({"*", "impersonate", "escalate", "bind"})
_WORST_RESOURCES = frozenset({"*", "secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "nodes/proxy"})

# Of the user name of each ServiceAccount, which goes on with its namespace and its name.
_ACCOUNT = "system:serviceaccount:"
_GROUP = "group system:serviceaccounts"
EVERYBODY = (_GROUP, "group system:authenticated")
"""The groups of all ServiceAccounts, as `subjects` writes them."""


@dataclass(frozen=True)
class Grant:
    """One rule that reaches an account. `namespace` None: everywhere."""

    binding: str
    namespace: str | None
    rule: Object

    def __str__(self) -> str:
        verbs, where = _said(self.rule, "verbs"), f" in namespace {self.namespace}" if self.namespace else ""
        if self.rule.get("nonResourceURLs"):
            return f"{verbs} {_said(self.rule, 'nonResourceURLs')} ({self.binding})"
        only = f" called {_said(self.rule, 'resourceNames')}" if self.rule.get("resourceNames") else ""
        of = f" of {_said(self.rule, 'apiGroups')}" if any(self.rule.get("apiGroups") or ()) else ""
        return f"{verbs} {_said(self.rule, 'resources')}{of}{only}{where} ({self.binding})"

    @property
    def severity(self) -> int:
        """How bad it is to have it: what gives all the rest is told first."""
        return _severity(self.rule)


def telling(rules: Iterable[Object]) -> tuple[Object, ...]:
    """What of a role's rules grants more than Kubernetes grants everybody, the worst of it, cut to what is told.

    By what they grant: it makes no difference how a role is called, nor who made it.
    """
    beyond = sorted((rule for rule in rules if not _is_everybodys(rule)), key=_severity, reverse=True)
    about = [rule for rule in beyond if rule.get("resources")][:_TOLD_RULES]
    urls = [rule for rule in beyond if not rule.get("resources")][:_TOLD_RULES]
    return tuple({field: _words(rule, field) for field in rule} for rule in (*about, *urls))


def told_subjects(binding: Object) -> tuple[Object, ...]:
    """The subjects of a binding that may be ServiceAccounts: most are people."""
    found = [one for one in binding.get("subjects") or () if _written(one, binding)]
    return tuple(found) if len(found) <= MOST_SUBJECTS else ({"kind": "Group", "name": "system:authenticated"},)


def identities(namespace: str, account: str) -> tuple[str, ...]:
    """What bindings may call a ServiceAccount, as `subjects` writes it: its user name and its groups."""
    return (f"user {_ACCOUNT}{namespace}:{account}", f"{_GROUP}:{namespace}", *EVERYBODY)


def subjects(binding: Object) -> tuple[str, ...]:
    """Whom a binding is for, of what may be a ServiceAccount."""
    return tuple(dict.fromkeys(who for one in told_subjects(binding) if (who := _written(one, binding))))


def meant(subject: str) -> tuple[str, str | None] | None:
    """The namespace and the name of the ServiceAccount that a subject is, without a name the group of all of a

    namespace; None of another one.
    """
    if subject.startswith(f"{_GROUP}:"):
        return subject.removeprefix(f"{_GROUP}:"), None
    namespace, separator, account = subject.removeprefix(f"user {_ACCOUNT}").partition(":")
    return (namespace, account) if subject.startswith("user ") and separator else None


def role_of(binding: Object) -> tuple[str, str, str]:
    """Kind, namespace and name of the role that a binding binds; no namespace of a ClusterRole."""
    reference = binding.get("roleRef") or {}
    kind = str(reference.get("kind"))
    return kind, _namespace(binding) if kind == "Role" else "", str(reference.get("name"))


def granted(bindings: Iterable[Object], rules: Callable[[str, str, str], Iterable[Object]]) -> tuple[Grant, ...] | str:
    """What bindings grant that are all for the account; or why that is not told.

    `rules`: what `telling` tells of a role, by its kind, namespace and name.
    """
    found = list(islice(bindings, MOST_BINDINGS + 1))
    if len(found) > MOST_BINDINGS:
        return f"more than {MOST_BINDINGS} bindings are for it, of which an account without rights needs none"
    return tuple(grant for binding in found for grant in _granted(binding, rules(*role_of(binding))))


def _granted(binding: Object, rules: Iterable[Object]) -> Iterator[Grant]:
    namespace = _namespace(binding)
    name = f"{'RoleBinding' if namespace else 'ClusterRoleBinding'} {binding['metadata']['name']}"
    for rule in rules:
        if rule.get("resources") or not namespace:
            yield Grant(name, namespace or None, rule)


def _is_everybodys(rule: Object) -> bool:
    verbs, resources = set(rule.get("verbs") or ()), rule.get("resources") or ()
    urls = rule.get("nonResourceURLs") or ()
    if resources:
        groups = set(rule.get("apiGroups") or ())
        if urls or not verbs <= {"create"} or not groups <= _SELF.keys():
            return False
        # Two groups at most by now: a rule may have thousands of either, and is not looked at in pairs.
        return all(_SELF[group].issuperset(resources) for group in groups)
    return verbs <= {"get"} and _PUBLIC.issuperset(urls)


def _severity(rule: Object) -> int:
    worst = not _WORST_VERBS.isdisjoint(rule.get("verbs") or ())
    return 2 * worst + (not _WORST_RESOURCES.isdisjoint(rule.get("resources") or ()))


def _written(subject: Object, binding: Object) -> str | None:
    kind, name = subject.get("kind"), str(subject.get("name"))
    if kind == "ServiceAccount":
        of = subject.get("namespace") or _namespace(binding)
        return f"user {_ACCOUNT}{of}:{name}" if of else None
    if kind == "User":
        return f"user {name}" if name.startswith(_ACCOUNT) else None
    who = f"group {name}"
    return who if kind == "Group" and (who in EVERYBODY or who.startswith(f"{_GROUP}:")) else None


def _namespace(live: Object) -> str:
    return str(live["metadata"].get("namespace") or "")


def _words(rule: Object, field: str) -> list[str]:
    """One word more than is told, so that it is told that there are more."""
    return [str(one)[:_WORD] for one in islice(rule.get(field) or (), _TOLD_WORDS + 1)]


def _said(rule: Object, field: str) -> str:
    told = _words(rule, field)
    return ", ".join(told[:_TOLD_WORDS]) + (" and more" if len(told) > _TOLD_WORDS else "")
