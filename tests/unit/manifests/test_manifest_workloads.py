"""Workloads of every kind, judged by the pod that they would run, among what is in the same files."""

from dataclasses import replace
from typing import Any

import pytest
from manifest_files import STANDARD, Object, agent, deployment, judged, pod_spec, results

from claude_sandbox.api.status import Result
from claude_sandbox.manifests.documents import Document
from claude_sandbox.manifests.kubernetes import objects

P, F, U, NA = Result.PASS, Result.FAIL, Result.UNKNOWN, Result.NOT_APPLICABLE

# What no manifest tells: only the node, the API server or the network does.
BEYOND_A_FILE = {
    *("PRIV-05", "PRIV-07", "KERN-06", "KERN-07", "RES-03", "RES-06", "RES-08", "NET-03", "NET-04", "NET-05"),
    *("NET-07", "NET-09", "ID-03", "IMG-01", "TEN-01", "TEN-02", "OPS-02"),
}
BEYOND_THESE_FILES = {"NET-01", "NET-02", "NET-10", "NET-11"}
OPTED_IN_TO = {"KERN-06", "RES-05"}


def test_of_a_pod_as_it_should_be_only_what_no_file_tells_is_open() -> None:
    found = results(deployment())
    assert {id for id, one in found.items() if one is F} == OPTED_IN_TO
    assert {id for id, one in found.items() if one is U} <= BEYOND_A_FILE | BEYOND_THESE_FILES


def _set(where: Any, **fields: Any) -> Any:
    return lambda one: where(one).update(fields)


MUTATIONS = {
    "privileged": (_set(lambda one: agent(one)["securityContext"], privileged=True), {"PRIV-01"}),
    "a capability": (lambda one: agent(one)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]), {"PRIV-02"}),
    "host network": (_set(pod_spec, hostNetwork=True), {"NS-03", "NET-01"}),
    "host pid": (_set(pod_spec, hostPID=True), {"NS-01"}),
    "no limit": (_set(agent, resources={}), {"RES-01", "RES-02"}),
    "writable root": (lambda one: agent(one)["securityContext"].pop("readOnlyRootFilesystem"), {"FS-01"}),
    "its token": (lambda one: pod_spec(one).pop("automountServiceAccountToken"), {"ID-01"}),
    "default account": (lambda one: pod_spec(one).pop("serviceAccountName"), {"ID-02"}),
    "a key": (_set(agent, env=[{"name": "API_KEY", "value": "hunter22"}]), {"SEC-01"}),
    "host path": (
        lambda one: pod_spec(one)["volumes"].append({"name": "x", "hostPath": {"path": "/run/containerd"}}),
        {"FS-02", "FS-03", "FS-04"},
    ),
    "a tag": (_set(agent, image="registry.example/claude:latest"), {"IMG-01"}),
    "no probes": (lambda one: (agent(one).pop("livenessProbe"), agent(one).pop("readinessProbe")), {"OPS-01"}),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_wrong_in_a_template_fails(name: str) -> None:
    mutate, expected = MUTATIONS[name]
    one = deployment()
    mutate(one)
    assert {id for id, result in results(one).items() if result is F} - OPTED_IN_TO == expected


def _wrapped(kind: str) -> Object:
    """The same pod in a workload of another kind."""
    template = deployment()["spec"]["template"]
    template["spec"]["hostPID"] = True
    group = {"CronJob": "batch/v1", "Job": "batch/v1"}.get(kind, "apps/v1")
    if kind in ("Pod", "PodTemplate", "ReplicationController"):
        group = "v1"
    bodies: dict[str, Object] = {
        "Pod": template,
        "PodTemplate": {"template": template},
        "CronJob": {"spec": {"jobTemplate": {"spec": {"template": template}}}},
        "Sandbox": {"spec": {"podTemplate": template}},
    }
    body = bodies.get(kind, {"spec": {"template": template}})
    metadata = {**body.get("metadata", {}), "name": "one", "namespace": "agents"}
    return {"apiVersion": group, "kind": kind, **body, "metadata": metadata}


@pytest.mark.parametrize(
    "kind",
    [
        *("Pod", "PodTemplate", "ReplicationController", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"),
        *("Job", "CronJob", "Rollout", "Sandbox"),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_workloads_of_every_kind_are_judged_also_in_lists(kind: str, listed: bool) -> None:
    one = _wrapped(kind)
    text = {"apiVersion": "v1", "kind": "List", "items": [one]} if listed else one
    [found] = judged(text).judged
    assert found.target == {"kind": kind, "namespace": "agents", "name": "one"}
    assert {one.control.id for one in found.findings if one.result is F} - OPTED_IN_TO == {"NS-01"}


@pytest.mark.parametrize("depth", [4, 5000])
def test_what_is_in_lists_of_any_depth_is_judged(depth: int) -> None:
    text = _wrapped("Pod")
    for _ in range(depth):
        text = {"apiVersion": "v1", "kind": "List", "items": [text]}
    assert [one.kind for one in objects([Document("pods.yaml", 1, text)]).all] == ["Pod"]


def test_items_of_a_typed_list_have_its_kind() -> None:
    one = _wrapped("Deployment")
    del one["apiVersion"], one["kind"]
    [found] = judged({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [one]}).judged
    assert found.target["kind"] == "Deployment"


def test_what_runs_nothing_is_passed_over() -> None:
    outcome = judged({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}, {"some": "values"})
    assert (outcome.judged, outcome.problems) == ((), ())


@pytest.mark.parametrize(
    ("mutate", "why"),
    [
        (lambda one: one["spec"].pop("template"), "it has no pod template"),
        (lambda one: pod_spec(one).update(containers=[]), "has no containers"),
        (lambda one: pod_spec(one).update(containers=["x"]), "containers is not a list of objects"),
        (lambda one: pod_spec(one).update(hostNetwork="false"), "hostNetwork must be true or false"),
        (lambda one: agent(one)["securityContext"].update(privileged="no"), "privileged must be true or false"),
        (lambda one: one["spec"]["template"]["metadata"].update(labels={"a": 1}), "labels or annotations"),
    ],
)
def test_what_the_api_server_would_refuse_is_told_and_not_judged(mutate: Any, why: str) -> None:
    one = deployment()
    mutate(one)
    outcome = judged(one, deployment())
    assert len(outcome.judged) == 1
    assert why in str(outcome.problems[0])
    assert str(outcome.problems[0]).startswith("x.yaml:1: Deployment agent")


def policy(**spec: Any) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "agents"},
        "spec": {"podSelector": {"matchLabels": {"app": "agent"}}, "policyTypes": ["Ingress", "Egress"], **spec},
    }


def service(**spec: Any) -> Object:
    metadata = {"name": "web", "namespace": "agents"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app": "agent"}, **spec}}


WIDE = {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}
ELSEWHERE = {"podSelector": {"matchLabels": {"app": "other"}}}


@pytest.mark.parametrize(
    ("others", "not_whole", "whole"),
    [
        ([], {"NET-01": U, "NET-02": U, "NET-10": U}, {"NET-01": F, "NET-02": F, "NET-10": P}),
        # What isolates it isolates it whatever else there is; what is allowed, others could widen.
        ([policy()], {"NET-01": P, "NET-02": U, "NET-11": U}, {"NET-01": P, "NET-02": P, "NET-11": P}),
        # What allows too much allows it whatever else there is.
        ([policy(**WIDE)], {"NET-01": P, "NET-02": F, "NET-11": U}, {"NET-01": P, "NET-02": F, "NET-11": P}),
        ([policy(**ELSEWHERE)], {"NET-01": U, "NET-02": U}, {"NET-01": F, "NET-02": F}),
        ([service()], {"NET-10": U}, {"NET-10": P}),
        ([service(type="NodePort")], {"NET-10": F}, {"NET-10": F}),
    ],
)  # fmt: skip
def test_what_other_files_could_change_is_unknown_unless_these_are_whole(
    others: list[Object], not_whole: dict[str, Result], whole: dict[str, Result]
) -> None:
    documents = [deployment(), *others]
    found = results(*documents)
    assert {id: found[id] for id in not_whole} == not_whole
    found = results(*documents, standard=replace(STANDARD, whole=True))
    assert {id: found[id] for id in whole} == whole


CILIUM = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "c", "namespace": "agents"},
    "spec": {"endpointSelector": {"matchLabels": {"app": "agent"}}, "ingress": [{}], "egress": [{}]},
}
CALICO = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "NetworkPolicy",
    "metadata": {"name": "c", "namespace": "agents"},
    "spec": {"selector": "app == 'agent'", "types": ["Ingress", "Egress"], "egress": [{"action": "Allow"}]},
}
OF_OTHERS = {**CALICO, "spec": {**CALICO["spec"], "selector": "app == 'other'"}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        # One alone may isolate it, or not: neither is said.
        ([CILIUM], {"NET-01": U, "NET-02": U, "NET-11": U}),
        ([CALICO], {"NET-01": U, "NET-02": U, "NET-11": U}),
        # Beside a NetworkPolicy it may allow more.
        ([policy(), CILIUM], {"NET-01": U, "NET-02": U, "NET-11": U}),
        ([policy(), CALICO], {"NET-01": U, "NET-02": U, "NET-11": U}),
        ([policy(**WIDE), CILIUM], {"NET-01": U, "NET-02": F, "NET-11": U}),
        # Of others nothing is left open, and Calico's NetworkPolicy is none of Kubernetes'.
        ([OF_OTHERS], {"NET-01": F, "NET-02": F, "NET-11": F}),
        ([policy(), OF_OTHERS], {"NET-01": P, "NET-02": P, "NET-11": P}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("whole", [True, False])
def test_policies_of_network_plugins_are_told_and_not_evaluated(
    others: list[Object], expected: dict[str, Result], whole: bool
) -> None:
    [one] = judged(deployment(), *others, standard=replace(STANDARD, whole=whole)).judged
    found = {finding.control.id: finding for finding in one.findings}
    for id, result in expected.items():
        # Files that are not whole leave more open, and nothing else.
        assert found[id].result is result or (not whole and found[id].result is U)
        if result is U:
            assert "Policy c may select the pod, and is not evaluated" in found[id].verdict.message
            assert found[id].remedy == ""


def test_what_only_has_the_name_of_a_kind_of_kubernetes_is_none_of_it() -> None:
    served = {**service(type="LoadBalancer"), "apiVersion": "serving.knative.dev/v1"}
    assert results(deployment(), policy(), served, standard=replace(STANDARD, whole=True))["NET-10"] is P


def test_policies_of_another_namespace_do_not_count() -> None:
    other = policy()
    other["metadata"]["namespace"] = "else"
    assert results(deployment(), other)["NET-01"] is U


def test_its_namespace_and_runtime_class_count_where_they_are_in_the_files() -> None:
    one = deployment()
    pod_spec(one)["runtimeClassName"] = "gvisor"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "agents", "labels": labels}}
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "gvisor"},
        "handler": "runsc",
    }
    assert [results(one)[id] for id in ("TEN-02", "KERN-06")] == [U, U]
    found = results(one, space, runtime)
    assert [found[id] for id in ("TEN-01", "TEN-02", "KERN-06")] == [P, P, P]


def test_what_only_lives_is_not_asked_for() -> None:
    found = results(deployment())
    assert (found["OPS-03"], found["OPS-04"]) == (NA, NA)
