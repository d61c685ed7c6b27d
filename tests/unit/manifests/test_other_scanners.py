"""What the public tests of other scanners hold for right and wrong, judged here: Polaris, Kubescape, KICS and Checkov.

Each case is written anew, as the one change of a workload that is as it should be, by what its name below the
scanner's own tests says that it is about. Where the verdicts differ the table says so, and why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from manifest_files import Object, agent, deployment, judged, pod_spec, project, results, service

from claude_sandbox.api.status import Result

Change = Callable[[Object], Any]


@dataclass(frozen=True)
class Case:
    """`case`: its name below the scanner's tests. `right`: whether it is as it should be, to the scanner."""

    scanner: str
    case: str
    right: bool
    control: str
    change: Change
    more: tuple[Object, ...] = ()
    """What is in the same file."""


def security(**fields: Any) -> Change:
    return lambda one: agent(one)["securityContext"].update(fields)


def of_pod(**fields: Any) -> Change:
    return lambda one: pod_spec(one).update(fields)


def context(**fields: Any) -> Change:
    return lambda one: pod_spec(one)["securityContext"].update(fields)


def env(*variables: tuple[str, str]) -> Change:
    return lambda one: agent(one).setdefault("env", []).extend({"name": name, "value": v} for name, v in variables)


def host_path(*paths: str) -> Change:
    def change(one: Object) -> None:
        for number, path in enumerate(paths):
            pod_spec(one)["volumes"].append({"name": f"host-{number}", "hostPath": {"path": path}})
            agent(one)["volumeMounts"].append({"name": f"host-{number}", "mountPath": f"/mnt/{number}"})

    return change


def twice(one: Object) -> None:
    host_path("/var")(one)
    agent(one)["volumeMounts"][-1] |= {"subPath": "conf"}
    agent(one)["volumeMounts"].append({"name": "host-0", "mountPath": "/state", "subPath": "state"})


def both(*changes: Change) -> Change:
    return lambda one: [change(one) for change in changes]


def automounted(**account: Any) -> tuple[Object, ...]:
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent", "namespace": "agents"}} | account,
    )


def by_default(one: Object) -> None:
    del pod_spec(one)["automountServiceAccountToken"]


def unset_users(one: Object) -> None:
    for name in ("runAsNonRoot", "runAsUser", "runAsGroup"):
        del pod_spec(one)["securityContext"][name]


def root_before_it(one: Object) -> None:
    unset_users(one)
    security(runAsNonRoot=True, runAsUser=1000, runAsGroup=1000)(one)
    pod_spec(one)["initContainers"] = [{"name": "setup", "image": agent(one)["image"]}]


PODS = (
    Case(
        "Polaris",
        "dangerousCapabilities/failure.case",
        False,
        "PRIV-02",
        security(capabilities={"drop": ["ALL"], "add": ["nEt_aDmIn"]}),
    ),
    Case(
        "Polaris",
        "linuxHardening/failure.drop_capabilities_but_add_all",
        False,
        "PRIV-02",
        security(capabilities={"drop": ["ALL"], "add": ["all"]}),
    ),
    Case(
        "Polaris", "linuxHardening/success.drop_capabilities", True, "PRIV-02", security(capabilities={"drop": ["ALL"]})
    ),
    Case(
        "Polaris",
        "linuxHardening/failure.seccomp_profile_container_overrides_pod",
        False,
        "KERN-01",
        security(seccompProfile={"type": "Unconfined"}),
    ),
    Case(
        "Polaris",
        "linuxHardening/failure.seccomp_profile_pod_unconfined",
        False,
        "KERN-01",
        context(seccompProfile={"type": "Unconfined"}),
    ),
    Case(
        "Polaris",
        "linuxHardening/failure.seccomp_profile_pod_missing_type",
        False,
        "KERN-01",
        context(seccompProfile=None),
    ),
    Case(
        "Polaris",
        "linuxHardening/success.seccomp_profile_container",
        True,
        "KERN-01",
        both(context(seccompProfile=None), security(seccompProfile={"type": "RuntimeDefault"})),
    ),
    Case(
        "Polaris",
        "sensitiveContainerEnvVar/failure.key_aws_secret_access_key",
        False,
        "SEC-01",
        env(("AWS_SECRET_ACCESS_KEY", "xxx")),
    ),
    Case(
        "Polaris",
        "sensitiveContainerEnvVar/failure.key_azure_batch_key",
        False,
        "SEC-01",
        env(("AZURE_BATCH_KEY", "xxx")),
    ),
    Case(
        "Polaris",
        "sensitiveContainerEnvVar/failure.key_oci_cli_key_content",
        False,
        "SEC-01",
        env(("OCI_CLI_KEY_CONTENT", "xxx")),
    ),
    Case("Polaris", "sensitiveContainerEnvVar/failure.key_password", False, "SEC-01", env(("password", "abc123"))),
    Case(
        "Polaris",
        "sensitiveContainerEnvVar/failure.value_private_key",
        False,
        "SEC-01",
        env(("the_good_stuff", "-----BEGIN OPENSSH PRIVATE KEY-----\nxxxxx\n-----END OPENSSH PRIVATE KEY-----\n")),
    ),
    Case("Polaris", "sensitiveContainerEnvVar/success.valid_env_vars", True, "SEC-01", env(("greeting", "hello"))),
    Case("Polaris", "automountServiceAccountToken/failure.uses_defaults", False, "ID-01", by_default, automounted()),
    Case(
        "Polaris",
        "automountServiceAccountToken/success.pod_false_serviceaccount_true",
        True,
        "ID-01",
        lambda one: None,
        automounted(automountServiceAccountToken=True),
    ),
    Case("Polaris", "hostIPCSet/failure", False, "NS-02", of_pod(hostIPC=True)),
    Case("Polaris", "hostPIDSet/failure", False, "NS-01", of_pod(hostPID=True)),
    Case("Polaris", "hostNetworkSet/failure", False, "NS-03", of_pod(hostNetwork=True)),
    Case(
        "Polaris",
        "hostPortSet/failure",
        False,
        "NS-06",
        lambda one: agent(one).update(ports=[{"containerPort": 80, "hostPort": 8080}]),
    ),
    Case("Polaris", "hostProcess/failure.container", False, "PRIV-01", security(windowsOptions={"hostProcess": True})),
    Case("Polaris", "hostPathSet/failure", False, "FS-02", host_path("/etc")),
    Case(
        "Polaris", "cpuLimitsMissing/failure", False, "RES-02", lambda one: agent(one)["resources"]["limits"].pop("cpu")
    ),
    Case("Polaris", "cpuLimitsMissing/success", True, "RES-02", lambda one: None),
    Case("Kubescape", "non-root-containers/pod-initcontainer", False, "PRIV-04", root_before_it),
    Case("Kubescape", "alert-any-hostpath/pod-multiple-mounts", False, "FS-02", twice),
    Case(
        "Kubescape",
        "containers-mounting-docker-socket/pod-crio",
        False,
        "FS-03",
        host_path("/var/run/crio/crio.sock", "/var"),
    ),
    Case(
        "Kubescape",
        "containers-mounting-docker-socket/pod-containerd",
        False,
        "FS-03",
        host_path("/run/containerd/containerd.sock"),
    ),
    Case(
        "Kubescape",
        "alert-mount-potential-credentials-paths/pod_eks_failed",
        False,
        "FS-02",
        host_path("/.aws/config/"),
    ),
    Case(
        "Kubescape",
        "container-hostPort/pod",
        False,
        "NS-06",
        lambda one: agent(one).update(ports=[{"containerPort": 8086, "hostPort": 8086}]),
    ),
    Case(
        "Kubescape",
        "automount-service-account/deployment-pod-true-sa-false",
        False,
        "ID-01",
        of_pod(automountServiceAccountToken=True),
        automounted(automountServiceAccountToken=False),
    ),
    Case(
        "Kubescape",
        "automount-service-account/deployment-pod-false-sa-false",
        True,
        "ID-01",
        lambda one: None,
        automounted(automountServiceAccountToken=False),
    ),
    Case(
        "Checkov",
        "example_AllowPrivilegeEscalation/pod-to-node-FAILED",
        False,
        "PRIV-03",
        security(privileged=True, allowPrivilegeEscalation=True),
    ),
    Case(
        "Checkov",
        "example_AllowPrivilegeEscalation/pod-runas1000-PASSED",
        True,
        "PRIV-03",
        security(runAsUser=1000, allowPrivilegeEscalation=False),
    ),
    Case(
        "Checkov",
        "example_AllowedCapabilitiesSysAdmin/pod-FAILED",
        False,
        "PRIV-02",
        security(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
    ),
    Case(
        "Checkov",
        "example_DefaultServiceAccount/DefaultServiceAccount-FAILED",
        False,
        "ID-02",
        lambda one: pod_spec(one).pop("serviceAccountName"),
    ),
    Case(
        "Checkov",
        "example_DefaultNamespace/nginx-statefulset-FAILED",
        False,
        "TEN-01",
        lambda one: one["metadata"].update(namespace="default"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}},),
    ),
)
"""Of pods, in a Deployment."""


def of_service(**fields: Any) -> Change:
    return lambda one: service(one).update(fields)


def without(*names: str) -> Change:
    return lambda one: [service(one).pop(name) for name in names]


def limits(one: Object) -> None:
    without("mem_limit", "cpus")(one)
    of_service(deploy={"resources": {"reservations": {"cpus": "0.1", "memory": "128M"}}})(one)


SERVICES = (
    Case(
        "KICS",
        "container_capabilities_unrestricted/positive3",
        False,
        "PRIV-02",
        of_service(cap_add=["all"], cap_drop=["all"]),
    ),
    Case("KICS", "container_capabilities_unrestricted/positive4", False, "PRIV-02", without("cap_drop")),
    Case(
        "KICS",
        "default_seccomp_profile_disabled/positive1",
        False,
        "KERN-01",
        of_service(security_opt=["no-new-privileges:true", "seccomp=unconfined"]),
    ),
    Case(
        "KICS",
        "default_seccomp_profile_disabled/positive2",
        False,
        "KERN-01",
        of_service(security_opt=["no-new-privileges:true", "seccomp:unconfined"]),
    ),
    Case(
        "KICS",
        "no_new_privileges_not_set/positive1",
        False,
        "PRIV-03",
        of_service(security_opt=["no-new-privileges:false"]),
    ),
    Case("KICS", "no_new_privileges_not_set/positive2", False, "PRIV-03", of_service(security_opt=["apparmor=mine"])),
    Case(
        "KICS",
        "no_new_privileges_not_set/negative1",
        True,
        "PRIV-03",
        of_service(security_opt=["no-new-privileges:true"]),
    ),
    Case("KICS", "host_namespace_is_shared/positive2", False, "NS-01", of_service(pid="host")),
    Case(
        "KICS",
        "network_mode_host_exists/positive",
        False,
        "NS-03",
        both(without("networks"), of_service(network_mode="host")),
    ),
    Case("KICS", "ipc_set_to_host/positive", False, "NS-02", of_service(ipc="host")),
    Case(
        "KICS",
        "docker_socket_mounted_in_container/positive1",
        False,
        "FS-03",
        lambda one: service(one)["volumes"].append("/var/run/docker.sock:/var/run/docker.sock"),
    ),
    Case(
        "KICS",
        "container_traffic_not_bound_to_host_interface/positive1",
        False,
        "NS-06",
        of_service(ports=["7000:8000"]),
    ),
    Case(
        "KICS",
        "container_traffic_not_bound_to_host_interface/positive3",
        False,
        "NS-06",
        of_service(ports=[{"target": 8000, "published": "8080", "protocol": "tcp", "mode": "host"}]),
    ),
    Case("KICS", "memory_not_limited/positive2", False, "RES-01", without("mem_limit")),
    Case("KICS", "cpus_not_limited/positive5", False, "RES-02", limits),
    Case("KICS", "pids_limit_not_set/positive1", False, "RES-03", without("pids_limit")),
    Case("KICS", "pids_limit_not_set/positive2", False, "RES-03", of_service(pids_limit=-1)),
    Case("KICS", "healthcheck_not_set/positive2", False, "OPS-01", of_service(healthcheck={"disable": True})),
)
"""Of services of a Compose file."""


def confined(one: Object) -> None:
    context(seccompProfile={"type": "Unconfined"})(one)
    security(seccompProfile={"type": "RuntimeDefault"})(one)


DIFFERENT = (
    # The API server's own admission refuses it too: what is added to the pod later, a debug container, has the pod's.
    (
        Case(
            "Polaris",
            "linuxHardening/success.seccomp_profile_unconfined_for_pod_but_set_for_container",
            True,
            "KERN-01",
            confined,
        ),
        Result.FAIL,
    ),
    # What a pod says itself nobody else can change; its account may be another's.
    (
        Case(
            "Polaris",
            "automountServiceAccountToken/success.serviceaccount",
            True,
            "ID-01",
            by_default,
            automounted(automountServiceAccountToken=False),
        ),
        Result.FAIL,
    ),
    # Another parent of control groups loosens no limit of the container's own.
    (Case("KICS", "cgroup_not_default/positive1", False, "NS-04", of_service(cgroup_parent="nat-docker")), Result.PASS),
)
"""What the scanner and this project see differently, and what is found here."""


def named(case: Case) -> str:
    return f"{case.scanner}: {case.case}"


def found(case: Case) -> Result:
    whole = project() if case.scanner == "KICS" else deployment()
    case.change(whole)
    if not case.more:
        return results(whole)[case.control]
    [one] = judged(whole, *case.more).judged
    return next(finding.result for finding in one.findings if finding.control.id == case.control)


@pytest.mark.parametrize("case", [*PODS, *SERVICES], ids=named)
def test_what_another_scanner_holds_for_right_or_wrong_is_so_here(case: Case) -> None:
    assert found(case) is (Result.PASS if case.right else Result.FAIL)


@pytest.mark.parametrize(("case", "result"), DIFFERENT, ids=lambda one: named(one) if isinstance(one, Case) else "")
def test_where_it_is_seen_differently_it_is_known(case: Case, result: Result) -> None:
    assert found(case) is result
    assert (result is Result.PASS) != case.right


def test_they_are_of_several_scanners_and_both_ways() -> None:
    assert {case.scanner for case in (*PODS, *SERVICES)} == {"Polaris", "Kubescape", "Checkov", "KICS"}
    assert {case.right for case in PODS} == {case.right for case in SERVICES} == {True, False}
