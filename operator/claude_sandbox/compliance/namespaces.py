"""NS: what the sandbox shares with its node and with other processes."""

from collections.abc import Callable

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import Control, Level, Verdict, judged, maps
from claude_sandbox.compliance.pods.pod_security import NEWEST_MINOR
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.privilege import violating


def without_host(field: str) -> Callable[[View], Verdict]:
    """Fails where the pod shares this namespace of its node."""

    def judge(view: View) -> Verdict:
        return judged(detail for detail in view.violations("hostNamespaces") if detail.startswith(field))

    return judge


def joined(view: View) -> Verdict:
    """Processes of one container out of sight of those of another."""
    problems = []
    if view.spec.get("shareProcessNamespace"):
        problems.append("shareProcessNamespace is true")
    problems += [
        f"container {container.name} joins the processes of {target}"
        for container in view.containers
        if (target := container.spec.get("targetContainerName"))
    ]
    return judged(problems)


def probe_hosts(view: View) -> Verdict:
    """A probe that names a host makes the kubelet connect there. The standard asks from 1.34 on, this one always."""
    return judged(view.violations("hostProbesAndHostLifecycle", minor=NEWEST_MINOR))


CONTROLS = (
    Control(
        "NS-01",
        "No host process namespace",
        Severity.CRITICAL,
        Level.BASELINE,
        "Remove hostPID from the pod.",
        without_host("hostPID"),
        mappings=maps(
            pss=("hostNamespaces",),
            cis_docker=("5.16",),
            kubescape=("C-0038",),
            trivy=("KSV-0010",),
        ),
    ),
    Control(
        "NS-02",
        "No host IPC namespace",
        Severity.HIGH,
        Level.BASELINE,
        "Remove hostIPC from the pod.",
        without_host("hostIPC"),
        mappings=maps(
            pss=("hostNamespaces",),
            cis_docker=("5.17",),
            kubescape=("C-0038",),
            trivy=("KSV-0008",),
        ),
    ),
    Control(
        "NS-03",
        "No host network",
        Severity.CRITICAL,
        Level.BASELINE,
        "Remove hostNetwork from the pod.",
        without_host("hostNetwork"),
        mappings=maps(
            pss=("hostNamespaces",),
            cis_docker=("5.10",),
            kubescape=("C-0041",),
            trivy=("KSV-0009",),
        ),
    ),
    Control(
        "NS-05",
        "No namespace shared between containers",
        Severity.MEDIUM,
        Level.SANDBOX,
        "Remove shareProcessNamespace, and delete the pod if a debug container was added.",
        joined,
    ),
    Control(
        "NS-06",
        "No host ports",
        Severity.HIGH,
        Level.BASELINE,
        "Remove hostPort from all containers' ports.",
        violating("hostPorts"),
        mappings=maps(
            pss=("hostPorts",),
            cis_docker=("5.8", "5.9", "5.14"),
            kubescape=("C-0044",),
            trivy=("KSV-0024",),
        ),
    ),
    Control(
        "NS-07",
        "No host in probes and hooks",
        Severity.MEDIUM,
        Level.BASELINE,
        "Remove host from httpGet and tcpSocket in probes and lifecycle hooks.",
        probe_hosts,
        mappings=maps(pss=("hostProbesAndHostLifecycle",)),
    ),
)
