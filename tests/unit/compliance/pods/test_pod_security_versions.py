"""Where versions of the Pod Security Standards differ. The versions that run here are compared with an API server."""

from typing import Any

import pytest
from compliant_sandbox import compliant

from claude_sandbox.compliance.pods import pod_security


def found(level: pod_security.Level, minor: int, **changes: Any) -> set[str]:
    """The checks that a restricted pod with `changes` in its spec violates."""
    pod = compliant().pod
    pod["spec"] |= changes
    return {violation.check_id for violation in pod_security.violations(pod, level, minor)}


def context(**fields: Any) -> dict[str, Any]:
    pod_context: dict[str, Any] = compliant().spec["securityContext"]
    return {"securityContext": pod_context | fields}


def agent(**fields: Any) -> dict[str, Any]:
    return {"containers": [compliant().agent | fields]}


@pytest.mark.parametrize("minor", [0, 8, 19, 22, 25, 34, 35, 37, 99])
@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_the_sandbox_violates_no_version_of_the_standard(level: pod_security.Level, minor: int) -> None:
    assert not found(level, minor)


@pytest.mark.parametrize(
    ("sysctl", "first"),
    [
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_notsent_lowat", 37),
    ],
)
def test_a_sysctl_is_safe_from_its_version_on(sysctl: str, first: int) -> None:
    change = context(sysctls=[{"name": sysctl, "value": "1"}])
    assert not found("baseline", first, **change)
    assert first == 0 or found("baseline", first - 1, **change) == {"sysctls"}


def test_a_user_namespace_excuses_root_from_1_35_on_but_not_unmasked_proc_in_restricted() -> None:
    root = context(runAsUser=0, runAsNonRoot=False) | {"hostUsers": False}
    assert found("restricted", 34, **root) == {"runAsUser", "runAsNonRoot"}
    assert not found("restricted", 35, **root)
    unmasked = agent(securityContext=compliant().agent["securityContext"] | {"procMount": "Unmasked"})
    assert found("baseline", 34, **unmasked) == {"procMount"}
    assert not found("baseline", 35, **unmasked)
    assert found("restricted", 35, **unmasked) == {"procMount_restricted"}


def test_hosts_in_probes_are_forbidden_from_1_34_on() -> None:
    probe = agent(livenessProbe={"httpGet": {"port": 1, "host": "192.0.2.1"}})
    assert not found("baseline", 33, **probe)
    assert found("baseline", 34, **probe) == {"hostProbesAndHostLifecycle"}


def test_a_type_for_container_engines_is_allowed_from_1_31_on() -> None:
    change = context(seLinuxOptions={"type": "container_engine_t"})
    assert found("baseline", 30, **change) == {"seLinuxOptions"}
    assert not found("baseline", 31, **change)


def test_windows_is_excused_from_1_25_on() -> None:
    change = {"os": {"name": "windows"}} | agent(securityContext={}) | context(seccompProfile=None)
    linux_only = {"allowPrivilegeEscalation", "capabilities_restricted", "seccompProfile_restricted"}
    assert found("restricted", 24, **change) == linux_only
    assert not found("restricted", 25, **change)


def test_seccomp_was_an_annotation_before_1_19() -> None:
    pod = compliant().pod
    pod["metadata"]["annotations"] = {"container.seccomp.security.alpha.kubernetes.io/agent": "unconfined"}
    assert [one.check_id for one in pod_security.violations(pod, "baseline", 18)] == ["seccompProfile_baseline"]
    assert not pod_security.violations(pod, "baseline", 19)


def test_a_stricter_check_stands_for_the_one_it_contains() -> None:
    for level, made in (("baseline", "hostPathVolumes"), ("restricted", "restrictedVolumes")):
        assert found(level, 34, volumes=[{"name": "x", "hostPath": {"path": "/"}}]) == {made}  # type: ignore[arg-type]
