"""The command on live pods, a sandbox's and others', through the real client."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answering_server import IMAGE, NAMESPACE, Cluster, serving, with_pod, with_sandbox
from click.testing import CliRunner, Result

from claude_sandbox.api.status import Compliance
from claude_sandbox.cli.check.command import check
from claude_sandbox.compliance.catalogue import POD_CONTROLS

Mutate = Callable[[Cluster], Any]

BROKERED = {"apiKeySecretRef": {"name": "anthropic"}}
BOB = ("pod", "agents/bob", "--workspace", "/workspace", "--secret", "anthropic", "--image-without-volumes", IMAGE)


def run(cluster: Cluster, directory: Path, *arguments: str) -> Result:
    with serving(cluster, directory) as kubeconfig:
        return CliRunner().invoke(check, [*arguments, "--kubeconfig", kubeconfig])


def reported(cluster: Cluster, directory: Path, *arguments: str) -> dict[str, Any]:
    [report] = json.loads(run(cluster, directory, *arguments, "-o", "json").stdout)
    return dict(report)


def results(report: dict[str, Any]) -> dict[str, str]:
    return {control["id"]: control["result"] for control in report["controls"]}


def changes(before: dict[str, str], after: dict[str, str]) -> str:
    marks = {"Unknown": "?", "Fail": "", "Pass": "+", "NotApplicable": "-"}
    return " ".join(f"{id}{marks[result]}" for id, result in after.items() if result != before[id])


@pytest.fixture(scope="module")
def sandbox_before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of a sandbox with which nothing is wrong."""
    return results(reported(with_sandbox(), tmp_path_factory.mktemp("sandbox"), "sandbox", "agents/alice"))


@pytest.fixture(scope="module")
def pod_before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of a pod that nobody declares, and with which nothing is wrong."""
    return results(reported(with_pod(), tmp_path_factory.mktemp("pod"), *BOB))


# A sandbox


@pytest.mark.parametrize("arguments", [("sandbox", "agents/alice"), ("pod", "agents/sandbox-alice")])
def test_a_sandbox_is_measured_against_what_it_declares(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(with_sandbox(), tmp_path, *arguments, "-o", "json")
    [report] = json.loads(result.stdout)
    assert report.pop("target") == {"kind": "ClaudeSandbox", "namespace": "agents", "name": "alice", "uid": "u-1"}
    status = Compliance.model_validate(report)
    assert [control.id for control in status.controls] == [control.id for control in POD_CONTROLS]
    assert [
        (one.id, one.message) for one in status.controls if one.required and one.result not in ("Pass", "NotApplicable")
    ] == []
    assert result.exit_code == 0


def test_a_sandbox_s_own_profile_decides_what_is_required(tmp_path: Path) -> None:
    backup = {
        "schedule": "30 2 * * *",
        "target": {"type": "VolumeClaim", "claimName": "b"},
        "passwordSecretRef": {"name": "b"},
    }
    bounds = {"budget": {"maxCostUSD": "20"}, "lifecycle": {"ttl": "30d"}, "backup": backup}
    mounted, brokered = with_sandbox(), with_sandbox(profile="Production", credentials=BROKERED, **bounds)
    assert run(mounted, tmp_path, "sandbox", "agents/alice").exit_code == 0
    for cluster, judged in ((mounted, (False, "Fail")), (brokered, (True, "Pass"))):
        found = reported(cluster, tmp_path, "sandbox", "agents/alice")["controls"]
        # The one holds its key itself.
        assert [(one["required"], one["result"]) for one in found if one["id"] == "SEC-05"] == [judged]


def test_a_sandbox_s_own_level_decides_what_is_required_unless_another_is_asked_for(tmp_path: Path) -> None:
    def required(*arguments: str, **spec: Any) -> bool:
        [report] = (reported(with_sandbox(**spec), tmp_path, "sandbox", "agents/alice", *arguments),)
        return next(one["required"] for one in report["controls"] if one["id"] == "PRIV-05")

    assert required()
    assert not required(compliance={"level": "Restricted"})
    assert required("--level", "Sandbox", compliance={"level": "Restricted"})


def test_a_sandbox_s_own_exceptions_count_until_they_end(tmp_path: Path) -> None:
    for expires, code in (("2099-12-31", 0), ("2020-01-01", 1)):
        exception = {"control": "PRIV-01", "reason": "x", "owner": "alice", "expires": expires}
        cluster = with_sandbox(compliance={"exceptions": [exception, exception | {"control": "OPS-03"}]})
        agent_of(cluster)["securityContext"].update(privileged=True)
        assert run(cluster, tmp_path, "sandbox", "agents/alice").exit_code == code


def pod_of(cluster: Cluster) -> Any:
    return next(iter(cluster.pods.values()))


def agent_of(cluster: Cluster) -> Any:
    return pod_of(cluster)["spec"]["containers"][0]


OTHER = {"metadata": {"name": "other", "namespace": NAMESPACE}}


def cilium(**selector: Any) -> Mutate:
    spec = {"endpointSelector": selector, "egress": [{"toEntities": ["world"]}]}
    return lambda c: setattr(c, "cilium", [{"metadata": {"name": "world", "namespace": NAMESPACE}, "spec": spec}])


OF_A_SANDBOX: dict[str, tuple[Mutate, str]] = {
    "privileged": (lambda c: agent_of(c)["securityContext"].update(privileged=True), "PRIV-01 OPS-03"),
    "another policy that widens": (
        lambda c: c.policies.append(OTHER | {"spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}}),
        "NET-02 NET-06",
    ),
    "its own policy gone": (lambda c: c.policies.pop(), "OPS-03"),
    "no policy at all": (lambda c: c.policies.clear(), "NET-01 NET-02 NET-06 NET-11 OPS-03"),
    "its own policy widened": (lambda c: c.policies[1]["spec"]["egress"].append({}), "NET-02 NET-06 OPS-03"),
    "its account with a token": (
        lambda c: c.accounts["sandbox-alice"].update(automountServiceAccountToken=True),
        "OPS-03",
    ),
    "its account gone": (lambda c: c.accounts.clear(), "ID-03? OPS-03 OPS-04?"),
    "its account with rights": (lambda c: setattr(c, "allowed", True), "ID-03"),
    "its claim gone": (lambda c: c.claims.clear(), "OPS-03"),
    "a debug container": (
        lambda c: pod_of(c)["spec"].update(ephemeralContainers=[agent_of(c) | {"name": "debug"}]),
        "PRIV-05? PRIV-08 FS-08 SEC-02 IMG-01? OPS-03",
    ),
    "another image of the same name, in place": (
        lambda c: agent_of(c).update(image=IMAGE.replace("a" * 64, "b" * 64)),
        "IMG-01 IMG-03? OPS-03? OPS-04?",
    ),
    "Services refused": (lambda c: setattr(c, "refused", ("services",)), "NET-10? OPS-03? OPS-04?"),
    "policies refused": (
        lambda c: setattr(c, "refused", ("networkpolicies",)),
        "NET-01? NET-02? NET-06? NET-11? NET-13? OPS-03? OPS-04?",
    ),
    "a policy of Cilium's": (cilium(), "NET-01? NET-02? NET-06?"),
    "a policy of Cilium's for others": (cilium(matchLabels={"app": "else"}), ""),
    "policies of Cilium's refused": (
        lambda c: (cilium()(c), setattr(c, "refused", ("ciliumnetworkpolicies",))),
        "NET-01? NET-02? NET-06? NET-11?",
    ),
    "a quota": (lambda c: c.quotas.append({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "9"}}}), "RES-06+"),
}


@pytest.mark.parametrize("name", OF_A_SANDBOX)
def test_of_a_sandbox_exactly_what_is_wrong_is_found(tmp_path: Path, name: str, sandbox_before: dict[str, str]) -> None:
    mutate, expected = OF_A_SANDBOX[name]
    cluster = with_sandbox()
    mutate(cluster)
    assert changes(sandbox_before, results(reported(cluster, tmp_path, "sandbox", "agents/alice"))) == expected


def test_an_image_that_was_changed_in_place_fails_where_the_operator_s_is_known(tmp_path: Path) -> None:
    cluster = with_sandbox()
    agent_of(cluster).update(image=IMAGE.replace("a" * 64, "b" * 64))
    report = reported(cluster, tmp_path, "sandbox", "agents/alice", "--sandbox-image", IMAGE)
    [drift] = [control for control in report["controls"] if control["id"] == "OPS-03"]
    assert drift["result"] == "Fail"
    assert "spec.containers[agent].image" in drift["message"]


@pytest.mark.parametrize(
    ("mutate", "arguments", "why"),
    [
        (lambda c: c.sandboxes.clear(), ("sandbox", "agents/alice"), "agents/alice could not be read: NotFound"),
        (lambda c: c.pods.clear(), ("sandbox", "agents/alice"), "has no pod: no operator has looked at it yet"),
        (
            lambda c: (c.pods.clear(), c.sandboxes["alice"]["spec"].update(operatingMode="Suspended")),
            ("sandbox", "agents/alice"),
            "has no pod: it is suspended",
        ),
        (
            lambda c: c.sandboxes["alice"]["metadata"].update(uid="u-2"),
            ("sandbox", "agents/alice"),
            "is not that of the ClaudeSandbox alice",
        ),
        (lambda c: c.sandboxes["alice"].update(spec={"x": 1}), ("sandbox", "agents/alice"), "is not valid: spec"),
        (lambda c: c.pods.clear(), ("pod", "agents/bob"), "agents/bob could not be read: NotFound"),
        (lambda c: setattr(c, "refused", ("pods",)), ("pod", "agents/bob"), "Ask for the right to get it"),
        (lambda c: None, ("pod", "agents/bob", "--context", "elsewhere"), "context elsewhere"),
    ],
)
def test_a_target_that_can_not_be_read_exits_4_and_says_why(
    tmp_path: Path, mutate: Mutate, arguments: tuple[str, ...], why: str
) -> None:
    cluster = with_sandbox()
    mutate(cluster)
    result = run(cluster, tmp_path, *arguments)
    assert result.exit_code == 4
    assert why in result.stderr
    assert result.stdout == ""


def test_nothing_is_written(tmp_path: Path) -> None:
    cluster = with_sandbox()
    run(cluster, tmp_path, "sandbox", "agents/alice")
    writes = {one for one in cluster.asked if not one.startswith("GET ")}
    assert {one.rpartition("/")[2] for one in writes} == {"localsubjectaccessreviews"}
    assert not any("/secrets" in one for one in cluster.asked)


# Any pod


def test_a_pod_that_nobody_declares_is_measured_by_what_it_is(tmp_path: Path) -> None:
    result = run(with_pod(), tmp_path, *BOB, "-o", "json")
    [report] = json.loads(result.stdout)
    assert report["target"] == {"kind": "Pod", "namespace": "agents", "name": "bob", "uid": "p-2"}
    wrong = {
        one["id"]: one["message"]
        for one in report["controls"]
        if one["required"] and one["result"] not in ("Pass", "NotApplicable")
    }
    assert wrong == {}
    assert result.exit_code == 0


def test_what_only_a_declaration_would_justify_is_unknown_until_it_is_made(tmp_path: Path) -> None:
    report = reported(with_pod(), tmp_path, "pod", "agents/bob")
    unknown = {
        one["id"]: one["message"] for one in report["controls"] if one["required"] and one["result"] == "Unknown"
    }
    assert unknown == {
        "FS-08": "container agent can write to /workspace: nothing declares that it may (--workspace)",
        "SEC-02": "nothing declares that volume api-key is to hold the Secret anthropic (--secret)",
    }
    assert run(with_pod(), tmp_path, "pod", "agents/bob").exit_code == 3
    assert run(with_pod(), tmp_path, "pod", "agents/bob", "--allow-unknown").exit_code == 0


def egress(*peers: Any, **ports: Any) -> Mutate:
    return lambda c: c.policies[0]["spec"].update(egress=[{"to": list(peers)} | ports])


def ingress(*peers: Any, **ports: Any) -> Mutate:
    return lambda c: c.policies[0]["spec"].update(ingress=[{"from": list(peers)} | ports])


def service(**spec: Any) -> Mutate:
    return lambda c: c.services.append({"metadata": {"name": "s"}, "spec": {"selector": {"app": "bob"}} | spec})


OF_ANY_POD: dict[str, tuple[Mutate, str]] = {
    "host network": (lambda c: pod_of(c)["spec"].update(hostNetwork=True), "NS-03 NET-01"),
    "a sidecar, hardened": (
        lambda c: (
            pod_of(c)["spec"]["containers"].append(agent_of(c) | {"name": "proxy", "volumeMounts": []}),
            pod_of(c)["status"]["containerStatuses"].append(
                pod_of(c)["status"]["containerStatuses"][0] | {"name": "proxy"}
            ),
        ),
        "",
    ),
    "a debug container": (
        lambda c: pod_of(c)["spec"].update(
            ephemeralContainers=[agent_of(c) | {"name": "debug", "volumeMounts": []}],
        ),
        "PRIV-05? PRIV-08 IMG-01?",
    ),
    "no policy": (lambda c: c.policies.clear(), "NET-01 NET-02 NET-11"),
    "no policy but one of Cilium's": (lambda c: (c.policies.clear(), cilium()(c)), "NET-01 NET-02? NET-11"),
    "egress to everyone": (lambda c: c.policies[0]["spec"].update(egress=[{}]), "NET-02"),
    "egress to the world": (egress({"ipBlock": {"cidr": "0.0.0.0/0"}}), "NET-02"),
    "egress to the world but for something": (
        egress({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}),
        "NET-02",
    ),
    "egress to the world in two halves": (
        egress({"ipBlock": {"cidr": "0.0.0.0/1"}}, {"ipBlock": {"cidr": "128.0.0.0/1"}}),
        "NET-02",
    ),
    "egress to every pod": (egress({"namespaceSelector": {}}), "NET-02"),
    "egress to the resolver of any namespace": (
        egress({"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}),
        "",
    ),
    "egress to another network": (egress({"ipBlock": {"cidr": "203.0.113.0/24"}}), ""),
    "egress widened by another policy": (
        lambda c: c.policies.append(OTHER | {"spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}}),
        "NET-02",
    ),
    "ingress from everyone": (lambda c: c.policies[0]["spec"].update(ingress=[{}]), "NET-11"),
    "ingress from every pod": (ingress({"namespaceSelector": {}}), "NET-11"),
    "ingress from pods of its namespace": (ingress({"podSelector": {}}), ""),
    "ingress from some pods of another namespace": (
        ingress({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}}),
        "",
    ),
    "a Service inside the cluster": (service(type="ClusterIP"), ""),
    "a load balancer": (service(type="LoadBalancer"), "NET-10"),
    "a Service with external addresses": (service(externalIPs=["192.0.2.9"]), "NET-10"),
    "the default account": (
        lambda c: (
            pod_of(c)["spec"].update(serviceAccountName="default"),
            c.accounts.update(default={"metadata": {"name": "default"}}),
        ),
        "ID-02",
    ),
    "an account with rights": (lambda c: setattr(c, "allowed", True), "ID-03"),
    "another Secret": (
        lambda c: pod_of(c)["spec"]["volumes"].append(
            {"name": "x", "secret": {"secretName": "other", "defaultMode": 288}}
        ),
        "SEC-02?",
    ),
    "the Secret for everyone to read": (
        lambda c: next(v for v in pod_of(c)["spec"]["volumes"] if v["name"] == "api-key")["secret"].update(
            defaultMode=0o444
        ),
        "SEC-02",
    ),
    "a second claim, writable": (
        lambda c: (
            pod_of(c)["spec"]["volumes"].append({"name": "x", "persistentVolumeClaim": {"claimName": "x"}}),
            agent_of(c)["volumeMounts"].append({"name": "x", "mountPath": "/data"}),
        ),
        "FS-08",
    ),
    "gVisor": (
        lambda c: (
            pod_of(c)["spec"].update(runtimeClassName="gvisor"),
            c.runtime_classes.update(gvisor={"metadata": {"name": "gvisor"}, "handler": "runsc"}),
        ),
        "KERN-06+",
    ),
    "a RuntimeClass that is not there": (lambda c: pod_of(c)["spec"].update(runtimeClassName="none"), "KERN-06?"),
}


@pytest.mark.parametrize("name", OF_ANY_POD)
def test_of_any_pod_exactly_what_is_wrong_is_found(tmp_path: Path, name: str, pod_before: dict[str, str]) -> None:
    mutate, expected = OF_ANY_POD[name]
    cluster = with_pod()
    mutate(cluster)
    assert changes(pod_before, results(reported(cluster, tmp_path, *BOB))) == expected


@pytest.mark.parametrize(
    ("mutate", "why"),
    [
        (lambda c: c.sandboxes.clear(), "its ClaudeSandbox alice could not be read: NotFound"),
        (lambda c: setattr(c, "refused", ("claudesandboxes",)), "its ClaudeSandbox alice could not be read: Forbidden"),
        (lambda c: c.sandboxes["alice"]["metadata"].update(uid="u-2"), "it belongs to an earlier ClaudeSandbox alice"),
    ],
)
def test_a_sandbox_s_pod_whose_declaration_is_out_of_reach_is_measured_as_any_other(
    tmp_path: Path, mutate: Mutate, why: str
) -> None:
    cluster = with_sandbox()
    mutate(cluster)
    report = reported(cluster, tmp_path, "pod", "agents/sandbox-alice")
    assert report["target"]["kind"] == "Pod"
    assert report["note"] == why
    assert results(report)["OPS-03"] == "NotApplicable"
    assert f"Note: {why}." in run(cluster, tmp_path, "pod", "agents/sandbox-alice").output


def test_a_pod_beside_a_sandbox_s_is_not_measured_against_its_declaration(tmp_path: Path) -> None:
    """What tries what can be reached has the sandbox for its owner, as its workload has."""
    cluster = with_sandbox()
    cluster.pods["probe-alice-1"] = json.loads(json.dumps(cluster.pods["sandbox-alice"]))
    cluster.pods["probe-alice-1"]["metadata"]["name"] = "probe-alice-1"
    report = reported(cluster, tmp_path, "pod", "agents/probe-alice-1")
    assert report["note"] == "it is not the workload of its ClaudeSandbox alice"


def test_several_pods_are_measured_in_one_go(tmp_path: Path) -> None:
    cluster = with_pod()
    cluster.pods["eve"] = json.loads(json.dumps(pod_of(cluster)))
    cluster.pods["eve"]["metadata"]["name"] = "eve"
    cluster.pods["eve"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
    result = run(cluster, tmp_path, *BOB, "agents/eve")
    assert result.exit_code == 1
    assert "Pod agents/bob" in result.output
    assert "Pod agents/eve" in result.output
