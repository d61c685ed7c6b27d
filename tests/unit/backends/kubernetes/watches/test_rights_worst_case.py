"""What a tenant can make of roles and bindings takes the operator no time, and concerns its own namespace alone."""

import time
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.backends.kubernetes.watches.rbac import Rights
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.client import Obj
from claude_sandbox.kubernetes_api.informers.informer import Contact
from claude_sandbox.kubernetes_api.informers.store import Store
from claude_sandbox.kubernetes_api.resources import CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Resource

MOST = 0.05
"""Seconds of the loop for one input."""


class Followed:
    """An informer without a server: what is put is there, and told."""

    def __init__(self, resource: Resource, changed: Any, transform: Any, indexes: Any) -> None:
        self.resource, self.readable, self.store = resource, True, Store(indexes)
        self.last_contact = Contact(0.0, datetime.now(UTC).timestamp())
        self._changed, self._transform = changed, transform

    def put(self, namespace: str, name: str, **fields: Any) -> float:
        """How many seconds of the processor it takes."""
        metadata = {
            "name": name,
            "uid": name,
            "resourceVersion": "1",
            **({"namespace": namespace} if namespace else {}),
        }
        obj: Obj = {"apiVersion": "x", "kind": self.resource.kind, "metadata": metadata, **fields}
        began = time.process_time()
        kept = self._transform(obj)
        self._changed(self.store.put(kept), kept)
        return time.process_time() - began


def account(name: str, namespace: str) -> Obj:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def test_nothing_that_a_tenant_writes_takes_the_loop_or_wakes_others() -> None:
    # The least of three: what else runs on the machine takes its caches away, and costs CPU time so.
    assert min(_all_that_a_tenant_writes() for _ in range(3)) < MOST * 10


def _all_that_a_tenant_writes() -> float:
    """Seconds of CPU time for what is read after it."""
    woken: set[tuple[str | None, str | None]] = set()
    rights = Rights(
        Followed,  # type: ignore[arg-type]
        lambda namespace, name: woken.add((namespace, name)),
    )
    bindings: Any = rights.informers[ROLE_BINDINGS]
    roles: Any = rights.informers[ROLES]
    reference = {"kind": "Role", "name": "r"}
    everybodys = [account(f"sandbox-{number}", "agents") for number in range(20_000)]
    assert bindings.put("evil", "large", roleRef=reference, subjects=everybodys) < MOST
    known = [account(f"sandbox-{number}", "agents") for number in range(1000)]
    for number in range(100):
        assert bindings.put("evil", f"b{number}", roleRef=reference, subjects=known) < MOST
    rules = [{"apiGroups": ["a"] * 50, "resources": ["b"] * 50, "verbs": ["c"] * 50} for _ in range(2000)]
    assert roles.put("evil", "r", rules=rules) < MOST
    assert roles.put("evil", "r", rules=rules[:1]) < MOST
    assert {namespace for namespace, _ in woken} == {"evil"}
    began = time.process_time()
    assert isinstance(rights.of("agents", "sandbox-7"), Reading)
    for number in range(200):
        bindings.put("evil", f"c{number}", roleRef=reference, subjects=known[7:8])
    assert isinstance(rights.of("agents", "sandbox-7"), Unread)
    return time.process_time() - began


def test_a_cluster_role_that_changes_has_those_looked_at_in_whose_namespace_it_is_bound() -> None:
    woken: list[tuple[str | None, str | None]] = []
    rights = Rights(
        Followed,  # type: ignore[arg-type]
        lambda namespace, name: woken.append((namespace, name)),
    )
    bindings: Any = rights.informers[ROLE_BINDINGS]
    cluster_roles: Any = rights.informers[CLUSTER_ROLES]
    bindings.put("agents", "b", roleRef={"kind": "ClusterRole", "name": "view"}, subjects=[account("a", "agents")])
    assert woken == [("agents", "a")]
    cluster_roles.put("", "view", rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])
    assert woken[1:] == [("agents", None)]
    # What is no other right is no news.
    cluster_roles.put("", "view", rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])
    assert len(woken) == 2
