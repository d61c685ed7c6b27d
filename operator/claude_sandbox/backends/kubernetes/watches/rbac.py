"""The roles and bindings of the whole cluster, followed: which rules reach a sandbox's ServiceAccount.

Theory of operation. It holds four informers, of each role what it grants beyond everybody's rights, and of each binding
whom of the ServiceAccounts and their groups it is for; both of a bounded size, since tenants write them. That costs
four watches, and no request for a sandbox. The answer (`of`) is computed from the stores whenever it is asked for.
Where the operator may not list one of the four kinds nothing is said of any account: a binding that is not seen may
give everything.

Who may write bindings in one namespace can have the sandboxes of that namespace looked at, those of others only by the
next round of looking at everything: else one namespace could keep all the others' sandboxes busy.

Used on one event loop: the informers tell of changes, passes ask. A crash loses nothing that a list doesn't bring.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.compliance.evidence import grants
from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.client import Obj
from claude_sandbox.kubernetes_api.informers.informer import Informer, Transform
from claude_sandbox.kubernetes_api.informers.store import IndexFunction
from claude_sandbox.kubernetes_api.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ROLE_BINDINGS,
    ROLES,
    Resource,
)

_BY_SUBJECT, _BY_ROLE = "subject", "role"
_REMEDY = "give its account the ClusterRole claude-sandbox-operator-rights of manifests/rbac"
_NAMES = ("namespace", "name", "uid", "resourceVersion")

Wake = Callable[[str | None, str | None], None]
"""Called with the namespace and the name of a ServiceAccount whose rights may have changed; None stands for all."""


class MakeInformer(Protocol):
    """Makes an informer of the whole cluster."""

    def __call__(
        self,
        resource: Resource,
        changed: Callable[[Obj | None, Obj | None], None],
        transform: Transform,
        indexes: dict[str, IndexFunction],
    ) -> Informer: ...


class Rights:
    """All roles and bindings."""

    def __init__(self, make: MakeInformer, wake: Wake) -> None:
        self._wake = wake
        indexes: dict[str, IndexFunction] = {
            _BY_SUBJECT: grants.subjects,
            _BY_ROLE: lambda live: (grants.role_of(live),),
        }
        self.informers = {
            ROLES: make(ROLES, self._role_changed, role, {}),
            CLUSTER_ROLES: make(CLUSTER_ROLES, self._role_changed, role, {}),
            ROLE_BINDINGS: make(ROLE_BINDINGS, self._binding_changed, binding, indexes),
            CLUSTER_ROLE_BINDINGS: make(CLUSTER_ROLE_BINDINGS, self._binding_changed, binding, indexes),
        }

    def of(self, namespace: str, account: str) -> Reading[tuple[Grant, ...]] | Unread:
        """What is granted to a ServiceAccount beyond what everybody may."""
        for informer in self.informers.values():
            if not informer.readable:
                return Unread(f"the operator may not list {informer.resource}: {_REMEDY}")
        who = grants.identities(namespace, account)
        found = grants.granted((live for one in who for live in self._bindings(_BY_SUBJECT, one)), self._rules)
        if isinstance(found, str):
            return Unread(found)
        # The oldest counts for all of it.
        seen = min(informer.last_contact.wall for informer in self.informers.values())
        return Reading(found, EvidenceSource.LIVE_OBJECT, datetime.fromtimestamp(int(seen), UTC))

    def _bindings(self, index: str, value: str | tuple[str, str, str]) -> Iterator[Obj]:
        for resource in (ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS):
            yield from self.informers[resource].store.by_index(index, value)

    def _rules(self, kind: str, namespace: str, name: str) -> Iterable[Obj]:
        found = self.informers[ROLES if kind == "Role" else CLUSTER_ROLES].store.get(namespace, name)
        return (found or {}).get("rules") or ()

    def _role_changed(self, old: Obj | None, new: Obj | None) -> None:
        live = new or old
        # Labels and annotations grant nothing.
        if live is None or (old or {}).get("rules") == (new or {}).get("rules"):
            return
        # A tenant may have thousands of bindings, each for a thousand subjects: here they are not gone through.
        where, name = live["metadata"].get("namespace") or "", live["metadata"]["name"]
        found = list(self._bindings(_BY_ROLE, (live["kind"], where, name)))
        for namespace in {one["metadata"].get("namespace") for one in found} - {None}:
            self._wake(namespace, None)
        for one in found:
            if not one["metadata"].get("namespace"):
                self._concerned(one)

    def _binding_changed(self, old: Obj | None, new: Obj | None) -> None:
        if _told(old) != _told(new):
            for one in (old, new):
                if one is not None:
                    self._concerned(one)

    def _concerned(self, live: Obj) -> None:
        where = live["metadata"].get("namespace")
        for subject in grants.subjects(live):
            found = grants.meant(subject)
            if found is None:
                # A group, or all accounts of a namespace: nobody knows here who is in it.
                self._wake(where, None)
            # A RoleBinding grants within its own namespace; of accounts of others it wakes none.
            elif where in (None, found[0]):
                self._wake(*found)


def role(obj: Obj) -> Obj:
    """What is kept of a role."""
    return _kept(obj, rules=grants.telling(obj.get("rules") or ()))


def binding(obj: Obj) -> Obj:
    """What is kept of a binding."""
    return _kept(obj, roleRef=obj.get("roleRef"), subjects=grants.told_subjects(obj))


def _kept(obj: Obj, **fields: object) -> Obj:
    metadata = {name: obj["metadata"][name] for name in _NAMES if name in obj["metadata"]}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata, **fields}


def _told(live: Obj | None) -> tuple[object, ...]:
    return () if live is None else (live["roleRef"], live["subjects"])
