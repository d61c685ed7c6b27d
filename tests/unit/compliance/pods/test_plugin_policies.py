"""Policies of network plugins beside NetworkPolicies: whom they may select; nothing is decided against them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from compliant_sandbox import NOW, World, changed

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.evidence.pods import KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.pods.calico_selectors import LONGEST, selects
from claude_sandbox.compliance.pods.plugin_policies import Whom, plugin_policies
from claude_sandbox.compliance.reports.pods import findings, isolation

P, F, U = Result.PASS, Result.FAIL, Result.UNKNOWN
Object = dict[str, Any]

WHOM = Whom(
    labels={"app": "agent", "tier": "back", "pod-template-hash": "abc"},
    namespace="agents",
    namespace_labels={"team": "a"},
    account="agent",
)


def policy(api_version: str, kind: str, spec: Any, namespace: str = "agents", **more: Any) -> Object:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "x", "namespace": namespace},
        "spec": spec,
    } | more


def cilium(selector: Any = None, **spec: Any) -> Object:
    return policy("cilium.io/v2", "CiliumNetworkPolicy", {"endpointSelector": selector or {}, **spec})


def calico(**spec: Any) -> Object:
    return policy("projectcalico.org/v3", "NetworkPolicy", spec)


def calico_of_all(**spec: Any) -> Object:
    return policy("projectcalico.org/v3", "GlobalNetworkPolicy", spec, namespace="")


def antrea(**spec: Any) -> Object:
    return policy("crd.antrea.io/v1beta1", "ClusterNetworkPolicy", spec, namespace="")


def admin(**subject: Any) -> Object:
    return policy("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", {"subject": subject}, namespace="")


def _expressed(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def is_selecting(one: Object, whom: Whom = WHOM) -> bool:
    return bool(plugin_policies([one], whom).selecting)


SELECTING: Mapping[str, Object] = {
    "cilium: everyone": cilium(),
    "cilium: its label": cilium({"matchLabels": {"app": "agent"}}),
    "cilium: its label, of Kubernetes": cilium({"matchLabels": {"k8s:app": "agent"}}),
    "cilium: its label, of any source": cilium({"matchLabels": {"any:app": "agent"}}),
    "cilium: another source, which is not read": cilium({"matchLabels": {"reserved:init": ""}}),
    "cilium: its namespace": cilium({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "agents"}}),
    "cilium: its account": cilium({"matchLabels": {"io.cilium.k8s.policy.serviceaccount": "agent"}}),
    "cilium: a label of a namespace, which is not read": cilium(
        {"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.team": "a"}}
    ),
    "cilium: by an expression": cilium(_expressed("app", "In", "agent", "other")),
    "cilium: without what it lacks": cilium(_expressed("role", "DoesNotExist")),
    "cilium: without what Cilium may not know of it": cilium(_expressed("pod-template-hash", "DoesNotExist")),
    "cilium: an operator that is not known": cilium(_expressed("app", "Gt", "1")),
    "cilium: no selector": policy("cilium.io/v2", "CiliumNetworkPolicy", {"egress": [{}]}),
    "cilium: one of several": policy("cilium.io/v2", "CiliumNetworkPolicy", None)
    | {"specs": [{"endpointSelector": {"matchLabels": {"app": "other"}}}, {"endpointSelector": {}}]},
    "cilium: nothing that is understood": policy("cilium.io/v2", "CiliumNetworkPolicy", "everything"),
    "cilium: a selector that is none": cilium(["app"]),
    "cilium: of the cluster": policy(
        "cilium.io/v2", "CiliumClusterwideNetworkPolicy", {"endpointSelector": {}}, namespace=""
    ),
    "calico: everyone": calico(),
    "calico: its label": calico(selector="app == 'agent'"),
    "calico: by a function that is not read": calico(selector="soon(app)"),
    "calico: of an account, which is not read": calico(serviceAccountSelector="role == 'x'"),
    "calico: of its namespace": calico_of_all(namespaceSelector='projectcalico.org/name in {"agents"}'),
    "calico: of a namespace's label": calico_of_all(namespaceSelector="team == 'a'"),
    "calico: as it is stored": policy("crd.projectcalico.org/v1", "NetworkPolicy", {"selector": "has(tier)"}),
    "antrea: its label": antrea(appliedTo=[{"podSelector": {"matchLabels": {"app": "agent"}}}]),
    "antrea: a group, which is not read": antrea(appliedTo=[{"group": "agents"}]),
    "antrea: by a rule": antrea(egress=[{"appliedTo": [{"podSelector": {}}]}]),
    "the cluster's own: its namespace": admin(namespaces={"matchLabels": {"kubernetes.io/metadata.name": "agents"}}),
    "the cluster's own: its label": admin(pods={"podSelector": {"matchLabels": {"app": "agent"}}}),
    "the cluster's own: nothing that is understood": policy(
        "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", {}, namespace=""
    ),
}  # fmt: skip

SELECTING_OTHERS: Mapping[str, Object] = {
    "cilium: another label": cilium({"matchLabels": {"app": "other"}}),
    "cilium: another label, of Kubernetes": cilium({"matchLabels": {"k8s:app": "other"}}),
    "cilium: a label that it lacks": cilium(_expressed("role", "Exists")),
    "cilium: not its label": cilium(_expressed("app", "NotIn", "agent")),
    "cilium: another account": cilium({"matchLabels": {"io.cilium.k8s.policy.serviceaccount": "other"}}),
    "cilium: another namespace": cilium() | {"metadata": {"name": "x", "namespace": "else"}},
    "cilium: another namespace by its selector": policy(
        "cilium.io/v2", "CiliumClusterwideNetworkPolicy",
        {"endpointSelector": {"matchLabels": {"io.kubernetes.pod.namespace": "else"}}}, namespace="",
    ),
    "cilium: nodes": policy("cilium.io/v2", "CiliumClusterwideNetworkPolicy", {"nodeSelector": {}}, namespace=""),
    "calico: another label": calico(selector="app == 'other'"),
    "calico: another namespace": calico_of_all(namespaceSelector="projectcalico.org/name == 'else'"),
    "calico: what is in no namespace": calico_of_all(namespaceSelector="global()"),
    "calico: staged, which holds for nobody": policy("projectcalico.org/v3", "StagedNetworkPolicy", {}),
    "antrea: another label": antrea(appliedTo=[{"podSelector": {"matchLabels": {"app": "other"}}}]),
    "the cluster's own: another namespace": admin(namespaces={"matchLabels": {"kubernetes.io/metadata.name": "else"}}),
    "the cluster's own: namespaces with another label": admin(namespaces={"matchLabels": {"team": "b"}}),
    "the cluster's own: another label": admin(pods={"podSelector": {"matchLabels": {"app": "other"}}}),
    "of no network": policy("cilium.io/v2", "CiliumLocalRedirectPolicy", {}),
    "of Kubernetes": policy("networking.k8s.io/v1", "NetworkPolicy", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SELECTING)
def test_a_policy_that_may_select_the_pod_is_told(name: str) -> None:
    assert is_selecting(SELECTING[name])


@pytest.mark.parametrize("name", SELECTING_OTHERS)
def test_a_policy_that_selects_others_is_passed_over(name: str) -> None:
    assert not is_selecting(SELECTING_OTHERS[name])


def test_what_is_not_known_of_a_namespace_may_be_as_it_is_asked_for() -> None:
    unknown = replace(WHOM, namespace_labels=None)
    for one in (calico_of_all(namespaceSelector="team == 'b'"), admin(namespaces={"matchLabels": {"team": "b"}})):
        assert not is_selecting(one)
        assert is_selecting(one, unknown)


LABELS = {"app": "agent", "a.b/c": "x-y"}
EXPRESSIONS: Mapping[str, bool | None] = {
    "": True,
    "all()": True,
    "all( )": True,
    "global()": False,
    "app == 'agent'": True,
    'app == "agent"': True,
    "app=='other'": False,
    "app != 'other'": True,
    "none != 'x'": True,
    "none == 'x'": False,
    "has(app)": True,
    "has( none )": False,
    "!has(none)": True,
    "! ! has(app)": True,
    "app in {'agent','other'}": True,
    "app in { 'other' }": False,
    "app not in {'agent'}": False,
    "none not  in {'x'}": True,
    "app in {}": False,
    "app contains 'gen'": True,
    "app starts with 'ag'": True,
    "app starts with 'x'": False,
    "app ends with 'nt'": True,
    "none contains ''": False,
    "a.b/c == 'x-y'": True,
    "has(app) && app == 'other' || all()": True,
    "has(app) && (app == 'other' || !all())": False,
    "!(app == 'other') && has(app)": True,
    # A label whose value is not known, and expressions that decide without it.
    "secret == 'x'": None,
    "!has(secret)": None,
    "has(secret) && has(app)": None,
    "has(secret) && has(none)": False,
    "has(secret) || has(app)": True,
    "!(has(secret) || has(app))": False,
    # What is no expression, or one of a later edition, may select.
    "app": None,
    "app == agent": None,
    "'app' == 'agent'": None,
    "app == 'other' &&": None,
    "(app == 'other'": None,
    "app == 'other')": None,
    "app === 'other'": None,
    "app == 'other": None,
    "app in 'other'": None,
    "app matches 'o.*'": None,
    "has()": None,
    "none == 'x' ; all()": None,
    "(" * 5000: None,
    "!" * 4000 + "all()": None,
    "app == '" + "x" * LONGEST + "'": None,
}


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda text: text[:40])
def test_expressions_of_calico_are_read_as_calico_reads_them(expression: str) -> None:
    assert selects(expression, LABELS, lambda label: label == "secret") is EXPRESSIONS[expression]


def _isolated_by_nothing(world: World) -> None:
    world.policies.clear()


def _wide(world: World) -> None:
    world.add_policy(policyTypes=["Egress"], egress=[{}])


def evidence(*plugins: Object, mutate: Any = None) -> KubernetesEvidence:
    world = changed(*([mutate] if mutate else []))
    return replace(
        world.evidence(), plugin_policies=Reading(plugins, EvidenceSource.LIVE_OBJECT, NOW)
    )  # fmt: skip


NET = ("NET-01", "NET-02", "NET-06", "NET-11", "NET-13")
BOTH = cilium(ingress=[{}], egress=[{}])
ONLY_EGRESS = cilium(egress=[{"toEntities": ["world"]}])
ONLY_INGRESS = calico(types=["Ingress"], ingress=[{"action": "Allow"}])
DENYING = cilium(egressDeny=[{"toEntities": ["world"]}])
OTHERS = cilium({"matchLabels": {"app": "other"}}, egress=[{}])

CASES: Mapping[str, tuple[tuple[Object, ...], Any, tuple[Result, ...]]] = {
    "none": ((), None, (P, P, P, P, P)),
    "of others": ((OTHERS,), None, (P, P, P, P, P)),
    "what it allows may be more": ((BOTH,), None, (U, U, U, U, U)),
    "of egress alone": ((ONLY_EGRESS,), None, (U, U, U, P, U)),
    "of ingress alone": ((ONLY_INGRESS,), None, (U, P, P, U, P)),
    # Without NetworkPolicies nobody may say that nothing isolates it; but for a direction that none is about.
    "it may be what isolates": ((BOTH,), _isolated_by_nothing, (U, U, U, U, U)),
    "nothing isolates it": ((), _isolated_by_nothing, (F, F, F, F, F)),
    "nothing isolates its ingress": ((ONLY_EGRESS,), _isolated_by_nothing, (F, U, U, F, U)),
    "others' isolate nothing": ((OTHERS,), _isolated_by_nothing, (F, F, F, F, F)),
    # What a NetworkPolicy allows stays allowed, unless something denies it.
    "allowed whatever else is": ((ONLY_EGRESS,), _wide, (U, F, F, P, F)),
    "allowed, and perhaps denied": ((DENYING,), _wide, (U, U, U, P, U)),
    "allowed, and perhaps denied first": ((calico(types=["Egress"]),), _wide, (U, U, U, P, U)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_decided_against_what_such_a_policy_may_change(name: str) -> None:
    plugins, mutate, expected = CASES[name]
    found = {one.control.id: one for one in findings(evidence(*plugins, mutate=mutate))}
    assert {id: found[id].result for id in NET} == dict(zip(NET, expected, strict=True))
    for one in found.values():
        if one.result is U and one.control.id in NET:
            assert f"{plugins[0]['kind']} x may select the pod, and is not evaluated" in one.verdict.message


def test_isolation_is_not_verified_beside_such_a_policy_and_false_where_that_is_certain() -> None:
    assert isolation(evidence())[0] is ConditionStatus.TRUE
    status, _, message = isolation(evidence(BOTH))
    assert status is ConditionStatus.UNKNOWN
    assert "CiliumNetworkPolicy x may select the pod" in message
    assert isolation(evidence(ONLY_EGRESS, mutate=_wide))[0] is ConditionStatus.FALSE


def test_of_a_pod_in_its_nodes_network_no_policy_of_pods_holds() -> None:
    found = findings(evidence(BOTH, mutate=lambda world: world.spec.update(hostNetwork=True)))
    assert next(one.result for one in found if one.control.id == "NET-01") is F


def test_policies_that_should_be_read_and_can_not_be_leave_it_open() -> None:
    unread = replace(evidence(), plugin_policies=Unread("ciliumnetworkpolicies.cilium.io: forbidden"))
    found = {one.control.id: one for one in findings(unread)}
    assert {found[id].result for id in NET} == {U}
    assert "could not be read (ciliumnetworkpolicies.cilium.io" in found["NET-02"].verdict.message


def test_of_many_a_few_are_named() -> None:
    many = [cilium(egress=[{}]) | {"metadata": {"name": f"p{n}", "namespace": "agents"}} for n in range(9)]
    found = {one.control.id: one for one in findings(evidence(*many))}
    assert (
        "CiliumNetworkPolicy p2 and 6 more may select the pod, and are not evaluated" in found["NET-02"].verdict.message
    )
