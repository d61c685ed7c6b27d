"""KERN: how much of the kernel the sandbox can reach."""

from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.control import (
    OPTIONAL,
    Control,
    Evidence,
    Level,
    Verdict,
    failed,
    listed,
    maps,
    passed,
    unknown,
)
from claude_sandbox.compliance.pods.pod_security import NEWEST_MINOR
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.privilege import on_linux, violating

HARDENED_HANDLERS = ("gvisor", "kata", "runsc")
"""How the handlers of gVisor and of Kata Containers begin, as both projects' installation guides name them."""
PLAIN_HANDLERS = ("runc", "crun", "youki")


def hardened_runtime(view: View) -> Verdict:
    """A kernel of its own, or one in user space, between the sandbox and the node's."""
    runtime_class = view.runtime_class
    if runtime_class is None:
        return failed("the pod names no RuntimeClass and shares the node's kernel")
    handler = str(runtime_class.get("handler", ""))
    if handler.startswith(HARDENED_HANDLERS):
        return passed(f"handler {handler}")
    if handler in PLAIN_HANDLERS:
        return failed(f"the handler {handler} shares the node's kernel")
    return unknown("whether this handler of the pod's RuntimeClass isolates is not known", f"handler {handler}")


def seccomp(view: View) -> Verdict:
    """A filter of system calls: one that is set, and is not Unconfined."""
    verdict = violating("seccompProfile_restricted")(view)
    kinds = {
        (container.context.get("seccompProfile") or view.context.get("seccompProfile") or {}).get("type", "none")
        for container in view.containers
    }
    return Verdict(verdict.result, verdict.message, ", ".join(sorted(kinds)))


CONTROLS = (
    Control(
        "KERN-01",
        "Seccomp filter",
        Severity.HIGH,
        Level.RESTRICTED,
        "Set seccompProfile.type to RuntimeDefault, for the pod and all containers.",
        on_linux(seccomp),
        mappings=maps(
            pss=("seccompProfile_baseline", "seccompProfile_restricted"),
            cis_docker=("5.22",),
            kubescape=("C-0210",),
            trivy=("KSV-0030", "KSV-0104"),
        ),
    ),
    Control(
        "KERN-02",
        "AppArmor not turned off",
        Severity.MEDIUM,
        Level.BASELINE,
        "Remove appArmorProfile, or set it to RuntimeDefault or Localhost.",
        violating("appArmorProfile"),
        mappings=maps(
            pss=("appArmorProfile",),
            cis_docker=("5.2",),
            kubescape=("C-0055",),
            trivy=("KSV-0002",),
        ),
    ),
    Control(
        "KERN-03",
        "SELinux not weakened",
        Severity.MEDIUM,
        Level.BASELINE,
        "Remove seLinuxOptions, or set only a type that containers may have.",
        violating("seLinuxOptions"),
        mappings=maps(pss=("seLinuxOptions",), cis_docker=("5.3",), trivy=("KSV-0025",)),
    ),
    Control(
        "KERN-04",
        "/proc masked",
        Severity.HIGH,
        Level.RESTRICTED,
        "Remove procMount from all containers.",
        # As the restricted standard has it at every version: a user namespace is no excuse.
        violating("procMount_restricted", minor=NEWEST_MINOR),
        mappings=maps(pss=("procMount", "procMount_restricted"), trivy=("KSV-0027",)),
    ),
    Control(
        "KERN-05",
        "No unsafe sysctls",
        Severity.MEDIUM,
        Level.BASELINE,
        "Remove the sysctls from the pod's securityContext.",
        violating("sysctls"),
        mappings=maps(pss=("sysctls",), trivy=("KSV-0026",)),
    ),
    Control(
        "KERN-06",
        "Hardened runtime",
        Severity.LOW,
        Level.HARDENED,
        "Run sandboxes with a RuntimeClass of gVisor or Kata Containers.",
        hardened_runtime,
        needs=(Evidence.RUNTIME_CLASS,),
        required=OPTIONAL,
        mappings=maps(kubescape=("C-0297",)),
    ),
    listed(
        "KERN-07",
        "Dangerous system calls denied",
        Severity.HIGH,
        by=EvidenceSource.EXEC_PROBE,
        how="attempts of unshare, mount and mknod in the sandbox",
        remedy="Use the RuntimeDefault seccomp profile and drop all capabilities.",
        mappings=maps(cis_docker=("5.22",), trivy=("KSV-0005", "KSV-0120")),
    ),
)
