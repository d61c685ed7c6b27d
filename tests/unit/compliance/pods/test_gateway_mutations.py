"""NET-12 on Kubernetes: one thing wrong with the namespace's gateway at a time makes it fail, and tells what."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hostile
import pytest
from compliant_gateway import ADDRESS, AUTHORITY, WISH, Gateways, gateway
from compliant_sandbox import World, changed, compliant, results
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.api import meta
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.evidence.gateways import MOST_REPLICAS
from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.evidence.pods import SLICE_MANAGER, SLICE_OF
from claude_sandbox.compliance.evidence.readings import Unread
from claude_sandbox.compliance.pods.policy_size import MAX_ENTRIES, OUTSIZE
from claude_sandbox.compliance.reports.pods import findings
from claude_sandbox.compliance.verdict import Verdict

Change = Callable[[Gateways], Any]
SECRETS = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch"]}


def judged(*changes: Change) -> Verdict:
    """What NET-12 finds of a sandbox whose gateway was changed."""
    world = compliant()
    assert world.gateway is not None
    for change in changes:
        change(world.gateway)
    (found,) = [one for one in findings(world.evidence()) if one.control.id == "NET-12"]
    assert found.result is not Result.FAIL or found.remedy
    return found.verdict


def pod(**fields: Any) -> Change:
    return lambda found: found.pod["spec"].update(fields)


def container(**fields: Any) -> Change:
    return lambda found: found.container.update(fields)


def context(**fields: Any) -> Change:
    return lambda found: found.container["securityContext"].update(fields)


def volume(**source: Any) -> Change:
    return lambda found: found.pod["spec"]["volumes"].append({"name": "added", **source})


def token(**fields: Any) -> Change:
    def change(found: Gateways) -> None:
        (account,) = [one for one in found.pod["spec"]["volumes"] if one["name"] == "account"]
        account["projected"]["sources"][0]["serviceAccountToken"].update(fields)

    return change


def of(kind: str, **spec: Any) -> Change:
    return lambda found: found.objects[kind]["spec"].update(spec)


def without(kind: str) -> Change:
    return lambda found: found.objects.pop(kind)


def policy(**spec: Any) -> Change:
    return lambda found: found.add_policy(**spec)


def another(**fields: Any) -> Change:
    """A tenant's pod with the labels of the gateway, and as much alike as is asked for."""

    def change(found: Gateways) -> None:
        twin = copy.deepcopy(found.pod)
        twin["metadata"] |= {"name": "twin", "uid": "u-twin"} | fields.pop("metadata", {})
        twin["spec"] |= fields
        found.pods.append(twin)

    return change


def only_labels(found: Gateways) -> None:
    hardened = copy.deepcopy(found.pod["spec"])
    hardened["containers"][0] |= {"image": "evil.example/proxy:1", "command": ["proxy"]}
    labels = {meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}
    metadata = {"name": "proxy", "namespace": "agents", "labels": labels}
    found.pods.append({"metadata": metadata, "spec": hardened, "status": {"phase": "Pending"}})


def rules(*more: Any) -> Change:
    def change(found: Gateways) -> None:
        role = found.objects["Role"]
        role["rules"] = [one for one in role["rules"] if one["resources"] != ["secrets"]] + list(more)

    return change


def by_hand(**labels: str) -> Change:
    metadata = {"name": "mine", "namespace": "agents", "labels": {SLICE_OF: meta.GATEWAY, **labels}}
    return lambda found: found.slices.append({"metadata": metadata, "endpoints": [{"addresses": ["10.0.0.9"]}]})


def service(**spec: Any) -> Change:
    return lambda found: found.services.append({"metadata": {"name": "other"}, "spec": spec})


def granted(binding: str, namespace: str | None, **rule: Any) -> Change:
    return lambda found: setattr(found, "grants", (*found.grants, Grant(binding, namespace, rule)))


MUTATIONS: dict[str, tuple[Change, str]] = {
    # Its pods.
    "privileged": (context(privileged=True), "privileged"),
    "may gain privileges": (context(allowPrivilegeEscalation=True), "allowPrivilegeEscalation"),
    "keeps capabilities": (context(capabilities={}), "capabilities"),
    "writable root": (context(readOnlyRootFilesystem=False), "FS-01"),
    "runs as root": (pod(securityContext={"runAsUser": 0}), "runAsUser"),
    "no filter": (pod(securityContext={"runAsNonRoot": True, "runAsGroup": 65532}), "seccompProfile"),
    "host network": (pod(hostNetwork=True), "hostNetwork"),
    "host processes": (pod(hostPID=True), "hostPID"),
    "the node's files": (volume(hostPath={"path": "/"}), "hostPath"),
    "no limits": (container(resources={}), "RES-01"),
    "a key in a variable": (container(env=[{"name": "X", "value": "sk-ant-api03-" + "x9" * 20}]), "SEC-01"),
    "a container beside": (
        lambda found: found.pod["spec"]["containers"].append({**found.container, "name": "beside"}),
        "PRIV-08",
    ),
    "a debug container": (pod(ephemeralContainers=[{"name": "debug", "image": "debug"}]), "PRIV-08"),
    "joined processes": (pod(shareProcessNamespace=True), "NS-05"),
    "root's group": (
        lambda found: found.pod["status"]["containerStatuses"][0]["user"]["linux"].update(supplementalGroups=[0]),
        "PRIV-05",
    ),
    "another account": (pod(serviceAccountName="builder"), "runs as ServiceAccount builder"),
    "a token by itself": (pod(automountServiceAccountToken=True), "automountServiceAccountToken"),
    "a token for somebody else": (token(audience="vault"), "holds a token for vault"),
    "a token for a day": (token(expirationSeconds=86400), "good for 86400 s"),
    "a certificate": (
        volume(projected={"sources": [{"podCertificate": {"signerName": "x"}}]}),
        "holds a certificate",
    ),
    "another Secret": (volume(secret={"secretName": "database"}), "has the Secret database"),
    "the Secret of a key, where it is read by the API": (
        volume(secret={"secretName": "anthropic"}),
        "has the Secret anthropic",
    ),
    "another ConfigMap": (volume(projected={"sources": [{"configMap": {"name": "x"}}]}), "has the ConfigMap x"),
    "a directory without a bound": (volume(emptyDir={}), "may grow without a bound"),
    "a claim": (volume(persistentVolumeClaim={"claimName": "x"}), "which it does not need"),
    "another image": (container(image="evil.example/gateway:1"), "another image than the operator gives"),
    "another image runs": (
        lambda found: found.pod["status"]["containerStatuses"][0].update(imageID="x@sha256:" + "b" * 64),
        "runs another image",
    ),
    "another configuration": (
        lambda found: found.pod["metadata"]["annotations"].update({meta.ANNOTATION_GATEWAY: "{}"}),
        "is none of it",
    ),
    "another command": (container(command=["python3", "-c", "pass"]), "is none of it"),
    # Who looks like them.
    "a pod with its labels": (only_labels, "the pod proxy has the labels of its gateway and is none of it"),
    "a sandbox with its labels": (
        lambda found: found.pod["metadata"]["labels"].update({meta.LABEL_SANDBOX: "mallory"}),
        "is none of it",
    ),
    "a twin of nobody's": (another(metadata={"ownerReferences": []}), "the pod twin has the labels"),
    "a twin of another Deployment's": (
        another(
            metadata={
                "ownerReferences": [{"kind": "ReplicaSet", "name": "claude-sandbox-gateway-other", "controller": True}]
            }
        ),
        "the pod twin has the labels",
    ),
    "a twin that is about to end, of nobody's": (
        another(metadata={"ownerReferences": [], "deletionTimestamp": "2026-03-01T12:00:00Z"}),
        "the pod twin has the labels",
    ),
    "a twin on the host's network": (another(hostNetwork=True), "hostNetwork"),
    "one that is too large to be kept": (
        lambda found: found.pods.append(
            {"metadata": {"name": "large", "namespace": "agents"}, "spec": {}, OUTSIZE: "it has 500 KiB"}
        ),
        "the pod large of its gateway is not judged: it has 500 KiB; delete it",
    ),
    "very many": (
        lambda found: found.pods.extend([copy.deepcopy(found.pod) for _ in range(MOST_REPLICAS)]),
        f"more than {MOST_REPLICAS} pods",
    ),
    # Who may connect.
    "no policy": (lambda found: found.policies.clear(), "no NetworkPolicy restricts who connects"),
    "a policy for everyone": (policy(ingress=[{}]), "NetworkPolicy other allows ingress to the gateway from everyone"),
    "a policy for the whole namespace": (
        policy(ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": 8443}]}]),
        "NetworkPolicy other",
    ),
    "a policy for sandboxes of another namespace": (
        policy(
            ingress=[
                {
                    "from": [
                        {
                            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}},
                            "podSelector": {"matchLabels": {meta.LABEL_SANDBOX: "mallory"}},
                        }
                    ],
                    "ports": [{"port": 8443}],
                }
            ]
        ),
        "NetworkPolicy other",
    ),
    "a policy for its own account of itself": (
        policy(ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": 8081}]}]),
        "NetworkPolicy other",
    ),
    "its own policy, widened": (
        lambda found: found.objects["NetworkPolicy"]["spec"].update(ingress=[{}]),
        "ingress to the gateway from everyone",
    ),
    "policies that are too large": (
        policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}] * (2 * MAX_ENTRIES + 2)),
        "are not judged",
    ),
    # Where its Service leads.
    "the Service leads elsewhere": (of("Service", selector={"app": "mine"}), "Service: spec.selector"),
    "the Service leads out": (of("Service", type="LoadBalancer"), "Service: spec.type"),
    "another Service leads to it": (
        service(selector={meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}, type="NodePort"),
        "the Service other",
    ),
    "a slice made by hand": (by_hand(), "the EndpointSlice mine"),
    "a slice of somebody's": (by_hand(**{SLICE_MANAGER: "mine"}), "the EndpointSlice mine"),
    "a slice that is too large": (
        lambda found: found.slices.append({"metadata": {"name": "large"}, OUTSIZE: "it has 500 KiB"}),
        "the EndpointSlice large is not judged",
    ),
    # What it may do.
    "all Secrets": (rules(SECRETS), "all Secrets of the namespace"),
    "everything": (rules({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}), "all Secrets of the namespace"),
    "a Secret that no sandbox names": (rules(SECRETS | {"resourceNames": ["anthropic", "database"]}), ": database"),
    "pods": (rules({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}), "Role: rules"),
    "another role bound to it": (
        granted("RoleBinding mine", "agents", apiGroups=[""], resources=["secrets"], verbs=["list"]),
        "its ServiceAccount may list secrets",
    ),
    "a role of the whole cluster": (
        granted("ClusterRoleBinding claude-sandbox-gateway", None, apiGroups=["*"], resources=["*"], verbs=["*"]),
        "its ServiceAccount may *",
    ),
    "the role given to another account": (
        lambda found: found.objects["RoleBinding"].update(subjects=[{"kind": "ServiceAccount", "name": "default"}]),
        "RoleBinding: subjects",
    ),
    # The rest of it.
    "one may be drained with the other": (of("PodDisruptionBudget", minAvailable=0), "PodDisruptionBudget: spec"),
    "one replica": (of("Deployment", replicas=1), "Deployment: spec.replicas"),
    "the account gives a token": (
        lambda found: found.objects["ServiceAccount"].update(automountServiceAccountToken=True),
        "ServiceAccount: automountServiceAccountToken",
    ),
    "somebody else's Deployment": (
        lambda found: found.objects["Deployment"]["metadata"].update(labels={}, annotations={}),
        "Deployment claude-sandbox-gateway is not the operator's",
    ),
    **{
        f"no {kind}": (without(kind), f"{kind} claude-sandbox-gateway is missing")
        for kind in ("Role", "RoleBinding", "ServiceAccount", "Service", "PodDisruptionBudget", "Deployment")
    },
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_wrong_with_a_gateway_fails_and_is_told(name: str) -> None:
    change, told = MUTATIONS[name]
    found = judged(change)
    assert (found.result, told in found.message) == (Result.FAIL, True), found.message


def test_a_gateway_as_the_operator_makes_it_passes() -> None:
    assert judged() == Verdict(Result.PASS, value="2 pods, hardened and as desired")


def gone(found: Gateways) -> None:
    found.pods.clear()


def starting(found: Gateways) -> None:
    found.pod["status"] = {"phase": "Pending"}


def ended(found: Gateways) -> None:
    only_labels(found)
    found.pods[-1]["status"]["phase"] = "Failed"


def mounted(found: Gateways) -> None:
    """Where nobody may read Secrets by the API."""
    found.__dict__.update(gateway(type(WISH)("agents", WISH.secrets, mounted=True, certificate="c" * 32)).__dict__)


PERMITTED: dict[str, Change] = {
    "no pod: nothing gets out": gone,
    "a pod that has not started": starting,
    "a pod with its labels that has ended": ended,
    "keys as files": mounted,
    "another certificate": lambda found: found.pod["metadata"]["annotations"].update(
        {meta.ANNOTATION_GATEWAY_CERTIFICATE: "d" * 32}
    ),
    "another node, priority and registry": lambda found: (
        found.pod["spec"].update(nodeName="node-2", priority=7, imagePullSecrets=[{"name": "x"}]),
        found.container.update(image="mirror.example/operator@sha256:" + "e" * 64),
    ),
    "a node that tells no digest": lambda found: found.pod["status"]["containerStatuses"][0].update(imageID="sha256:1"),
    "a policy for one sandbox": policy(
        ingress=[{"from": [{"podSelector": {"matchLabels": {meta.LABEL_SANDBOX: "bob"}}}], "ports": [{"port": 3128}]}]
    ),
    "a policy of other pods": lambda found: found.policies.append(
        {"metadata": {"name": "x"}, "spec": {"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{}]}}
    ),
    "a Service of other pods": service(selector={"app": "x"}),
    "a Service without a selector": service(),
    "its own rules": granted(
        "RoleBinding claude-sandbox-gateway", "agents", apiGroups=[""], resources=["secrets"], verbs=["get"]
    ),
    "one Secret less than is named": lambda found: setattr(found, "readable", frozenset({"anthropic", "second"})),
}


@pytest.mark.parametrize("name", PERMITTED)
def test_what_is_not_wrong_with_a_gateway_passes(name: str) -> None:
    found = judged(PERMITTED[name])
    assert found.result is Result.PASS, found.message


def older(**status: Any) -> Change:
    """One pod is of another revision."""

    def change(found: Gateways) -> None:
        found.container["image"] = "registry.example/operator@sha256:" + "d" * 64
        found.objects["Deployment"]["status"].update(status)

    return change


def ending(found: Gateways) -> None:
    older()(found)
    found.pod["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"


UNDECIDED: dict[str, tuple[Change, str]] = {
    "a rollout": (older(updatedReplicas=1), "is being replaced"),
    "a rollout that nobody has begun": (older(observedGeneration=0), "is being replaced"),
    "a pod of before that has streams": (ending, "is being replaced"),
    "a node that tells no groups": (
        lambda found: found.pod["status"]["containerStatuses"][0].pop("user"),
        "PRIV-05",
    ),
    **{
        f"unread: {name}": (
            lambda found, name=name: found.changes.update({name: "the operator may not list them"}),
            "could not be read: the operator may not list them",
        )
        for name in ("replicas", "policies", "services", "slices", "grants")
    },
    "an image that nobody names": (lambda found: found.changes.update(doubts=("which image",)), "which image"),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_can_not_be_seen_of_a_gateway_is_unknown(name: str) -> None:
    change, told = UNDECIDED[name]
    found = judged(change)
    assert (found.result, told in found.message) == (Result.UNKNOWN, True), found.message


@pytest.mark.parametrize("change", [change for change, _ in UNDECIDED.values()])
def test_a_doubt_hides_no_failure(change: Change) -> None:
    assert judged(change, of("Service", selector={"app": "mine"})).result is Result.FAIL


def test_a_pod_of_an_earlier_revision_is_measured_all_the_same() -> None:
    assert judged(ending, context(privileged=True)).result is Result.FAIL


def test_a_sandbox_that_believes_in_another_gateway_is_told() -> None:
    def found(mutate: Callable[[World], Any]) -> Result:
        return results(changed(mutate).evidence())["NET-12"]

    assert found(lambda world: world.spec["hostAliases"][0].update(ip="10.0.0.9")) is Result.FAIL
    key = meta.ANNOTATION_GATEWAY_AUTHORITY
    assert found(lambda world: world.pod["metadata"]["annotations"].update({key: "mine"})) is Result.FAIL
    assert found(lambda world: world.pod["metadata"]["annotations"].pop(key)) is Result.FAIL
    assert (
        compliant().spec["hostAliases"][0]["ip"],
        compliant().pod["metadata"]["annotations"][key],
    ) == (ADDRESS, AUTHORITY)


def test_what_is_found_of_a_gateway_is_found_once_for_all_its_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, looked = compliant().evidence(), []
    monkeypatch.setattr(
        "claude_sandbox.compliance.controls.judges.gateways.measured", lambda *args: looked.append(args) or ([], [])
    )
    for _ in range(3):
        findings(evidence)
    assert len(looked) == 2


GATEWAY = gateway()
PARTS: dict[str, Any] = {
    "pods": GATEWAY.pods,
    "policies": GATEWAY.policies,
    "services": GATEWAY.services,
    "slices": GATEWAY.slices,
    **GATEWAY.objects,
}


@given(st.sampled_from(sorted(PARTS)).flatmap(lambda name: st.tuples(st.just(name), hostile.changed(PARTS[name]))))
@settings(deadline=None, max_examples=150)
def test_nothing_of_a_gateway_ends_the_measurement_of_its_sandboxes(part: tuple[str, Any]) -> None:
    name, value = part
    world = compliant()
    assert world.gateway is not None
    if name in GATEWAY.objects:
        world.gateway.objects[name] = value
    elif isinstance(value, list):
        setattr(world.gateway, name, value)
    try:
        evidence = world.evidence()
    except Exception as error:  # noqa: BLE001 - then the backend says so instead
        evidence = replace(compliant().evidence(), gateway=Unread(mishap(error)))
    found = {one.control.id: one for one in findings(evidence)}
    assert found["NET-12"].result in (Result.PASS, Result.FAIL, Result.UNKNOWN)
    assert found["NET-12"].verdict.message.isprintable()
