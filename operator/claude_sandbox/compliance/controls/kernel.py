"""KERN: how much of the kernel the sandbox can reach."""

import re
from collections.abc import Callable

from claude_sandbox.api.spec import SeccompProfileType
from claude_sandbox.api.status import EvidenceSource, Result, Severity
from claude_sandbox.compliance.containers import witness, witness_mounts
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.containers.mounts import named_sources
from claude_sandbox.compliance.containers.seccomp_filters import FilterError, weakness
from claude_sandbox.compliance.control import (
    AS_FOR_A_SANDBOX,
    OPTIONAL,
    ContainerCheck,
    Control,
    Evidence,
    Level,
    PodCheck,
    maps,
)
from claude_sandbox.compliance.controls.judges.probed import container_calls, narrower, pod_calls
from claude_sandbox.compliance.conventions import HARDENED_HANDLERS, PLAIN_HANDLERS
from claude_sandbox.compliance.host_files.paths import holds, normal
from claude_sandbox.compliance.pods import witness as pod_witness
from claude_sandbox.compliance.pods.pod_security import NEWEST_MINOR, SAFE_SYSCTLS, SELINUX_TYPES
from claude_sandbox.compliance.pods.standards import on_linux, violating
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, decided, failed, not_applicable, passed, unknown, untried
from claude_sandbox.seccomp.profile import is_strict

_BUILT_IN = ("", "builtin")
"""How a container asks for the filter that every engine has built in."""
_OF_DESKTOP = (
    "/host_mnt",
    "/run/desktop",
    "/run/host_mark",
    "/run/host-services",
    "/run/guest-services",
    "/socket_mnt",
)
_OF_ORBSTACK = ("/mnt/mac",)
_OF_ANOTHER_SYSTEM = re.compile(r"/(?:Users|Volumes|private|System/Volumes)/.*|/[A-Za-z]:(?:/.*)?")
"""Paths of macOS and of Windows: their engine runs in a virtual machine of some product, which chooses the filter."""

# What every engine since 18.09 masks and writes-protects; newer ones add to it.
_MASKED = frozenset(
    {
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/sys/firmware",
    }
)
_READ_ONLY = frozenset({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})


def pod_seccomp(view: View) -> Verdict:
    """A filter of system calls: one that is set, and is not Unconfined; of a sandbox that asks for Strict, the file of
    its node that the operator's administrator says is that, and in fact: a probe in it may make no call that Strict
    refuses."""
    verdict = violating("seccompProfile_restricted")(view)
    profiles = [
        one.context.get("seccompProfile") or view.context.get("seccompProfile") or {} for one in view.containers
    ]
    value = ", ".join(sorted({" ".join(map(str, profile.values())) or "none" for profile in profiles}))
    wanted = view.expected.seccomp_file
    if verdict.result is Result.PASS and wanted is not None:
        strict = {"type": "Localhost", "localhostProfile": wanted}
        if any(profile != strict for profile in profiles):
            return failed("its filter is not the Strict one that its sandbox asks for; a new pod would have it", value)
        return _strict_in_fact(view, value)
    return Verdict(verdict.result, verdict.message, value)


def _strict_in_fact(view: View, value: str) -> Verdict:
    """What is in a node's file no object tells."""
    report = view.confined
    if isinstance(report, str):
        return untried(f"its pod names the file of Strict on its node, and whether that is Strict {report}", value)
    verdict = narrower(report)
    return Verdict(verdict.result, verdict.message, "; ".join(filter(None, (value, verdict.value))))


def container_seccomp(container: Container) -> Verdict:
    """A filter of system calls: the engine's own, unless another is named, and not one that lets everything pass.

    A sandbox that asks for the Strict one has to have it, and nothing that this refuses may have been possible to a
    probe in it.
    """
    if container.text("Platform") == "windows":
        return unknown("Windows has no such filter, and whether the container has a kernel of its own is not told")
    if container.security is None:
        return unknown(untold("HostConfig.SecurityOpt"))
    profile = (container.option("seccomp") or "").strip()
    if profile.lower() == "unconfined":
        return failed("its system calls are unconfined")
    is_its_own = profile.startswith("{")
    # Before it is looked at whether it is privileged: a filter that stops nothing fails in any case.
    if is_its_own and (problem := _problem_of(profile)):
        return failed(problem)
    match container.flag("HostConfig.Privileged"):
        case None:
            return unknown(untold("HostConfig.Privileged"))
        case True if not profile:
            return failed("it is privileged, which turns the filter off")
        case True:
            return unknown(
                "whether a privileged container gets the filter that it names depends on the engine's version"
            )
    if is_its_own and is_strict(profile):
        return _unrefuted(container)
    if container.declared.seccomp is SeccompProfileType.STRICT:
        return failed("its filter is not the Strict one that its sandbox asks for; a new container would have it")
    if is_its_own:
        return passed("a profile of its own")
    if profile in _BUILT_IN:
        if container.engine.default_seccomp is None and (whose := _foreign_engine(container)):
            return unknown(f"what filter {whose} gives by default only the engine tells (docker info)")
        return _default(container.engine.default_seccomp)
    return unknown("it names a seccomp profile that its document does not show")


def _unrefuted(container: Container) -> Verdict:
    """The document shows the whole filter, so that a probe can but tell that it is not in force."""
    report = container.probe
    found = None if isinstance(report, str) else narrower(report)
    return found if found is not None and found.result is Result.FAIL else passed("Strict")


def pod_app_armor(view: View) -> Verdict:
    """AppArmor is not turned off; where the sandbox asks for a profile, its containers have that one."""
    verdict, wanted = violating("appArmorProfile")(view), view.expected.app_armor
    if verdict.result is not Result.PASS or wanted is None:
        return verdict
    name = wanted.localhost_profile
    profile = {"type": wanted.type.value} | ({} if name is None else {"localhostProfile": name})
    found = [one.context.get("appArmorProfile") or view.context.get("appArmorProfile") for one in view.containers]
    if any(one != profile for one in found):
        return failed("its AppArmor profile is not the one that its sandbox asks for; a new pod would have it")
    return passed(" ".join(profile.values()))


def container_app_armor(container: Container) -> Verdict:
    """The profile that the engine applied when it started the container; where its sandbox asks for one, that one."""
    verdict, wanted = _applied_app_armor(container), container.declared.app_armor
    if wanted is None or verdict.result in (Result.FAIL, Result.UNKNOWN):
        return verdict
    if verdict.result is not Result.PASS:
        return failed("its sandbox asks for AppArmor, and the engine applied no profile: its host has none")
    if wanted.localhost_profile not in (None, verdict.value):
        return failed("its AppArmor profile is not the one that its sandbox asks for; a new container would have it")
    return verdict


def _applied_app_armor(container: Container) -> Verdict:
    return _label(
        container,
        "AppArmorProfile",
        asked=container.option("apparmor"),
        is_off=lambda profile: profile.strip().lower() == "unconfined",
        off="AppArmor does not confine it",
        absent="the engine applied no AppArmor profile: its host has none",
    )


def container_selinux(container: Container) -> Verdict:
    """The label that the engine gave the processes, and what was asked of it."""
    if container.security is None:
        return unknown(untold("HostConfig.SecurityOpt"))
    problems = []
    for key, value in container.security:
        kind, _, name = value.partition(":")
        if key != "label":
            continue
        if kind == "disable":
            problems.append("it turns SELinux off for itself")
        elif kind == "type" and name not in SELINUX_TYPES:
            problems.append(f"it asks for the SELinux type {name}")
        elif kind in ("user", "role"):
            problems.append(f"it asks for an SELinux {kind}")
    if problems:
        return decided(problems)
    return _label(
        container,
        "ProcessLabel",
        asked=None,
        is_off=lambda label: len(parts := label.split(":")) < 3 or parts[2] not in SELINUX_TYPES,
        off="its SELinux type is not one for containers",
        absent="the engine gave it no SELinux label: it does not use SELinux",
    )


def container_system_paths(container: Container) -> Verdict:
    """What the engine masks in /proc and /sys is masked; an empty list means that nothing is."""
    privileged = container.flag("HostConfig.Privileged")
    problems = ["it is privileged, and can undo every mask"] if privileged else []
    doubts = list(doubts_of(("HostConfig.Privileged", privileged)))
    for path, wanted, what in (
        ("HostConfig.MaskedPaths", _MASKED, "not masked"),
        ("HostConfig.ReadonlyPaths", _READ_ONLY, "not read-only"),
    ):
        # An engine writes null only for a privileged container.
        paths = container.strings(path) if container.tells(path) else None
        if paths is None:
            doubts.append(untold(path))
        elif missing := sorted(wanted - set(map(normal, paths))):
            problems.append(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} {what}")
    if (container.option("systempaths") or "").lower() == "unconfined":
        problems.append("its system paths are unconfined")
    if container.option("writable-cgroups") not in (None, "false"):
        problems.append("it can write to its cgroup")
    if container.security is None:
        doubts.append(untold("HostConfig.SecurityOpt"))
    return decided(problems, doubts)


def container_sysctls(container: Container) -> Verdict:
    """Only those that touch nothing outside the container."""
    asked = container.mapping("HostConfig.Sysctls", omissible=True)
    if asked is None:
        return unknown(untold("HostConfig.Sysctls"))
    problems = (f"it sets the sysctl {name}" for name in sorted(asked.keys() - SAFE_SYSCTLS))
    return decided(problems, value=", ".join(sorted(asked)) or "none")


def pod_hardened_runtime(view: View) -> Verdict:
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


def container_hardened_runtime(container: Container) -> Verdict:
    """A kernel of its own, or one in user space, between the container and the host's."""
    runtime = container.text("HostConfig.Runtime")
    if runtime is None:
        return unknown(untold("HostConfig.Runtime"))
    if not runtime:
        return unknown("it uses the engine's default runtime, which only `docker info` tells")
    # Runtimes may be named as containerd's shims are, for example io.containerd.runsc.v1.
    name = runtime.removeprefix("io.containerd.").removesuffix(".v1").removesuffix(".v2")
    if name in PLAIN_HANDLERS:
        return failed(f"the runtime {runtime} shares the host's kernel", runtime)
    if name.startswith(HARDENED_HANDLERS):
        return passed(runtime)
    return unknown("whether its runtime isolates is not known", runtime)


def _default(profile: str | None) -> Verdict:
    """Of an engine that was not asked it is taken to be the one that is built in."""
    if profile in ("", "unconfined"):
        return failed("its engine filters no system calls by default (control HOST-03 of the host)", "the default")
    if profile is None or profile in ("builtin", "default"):
        return passed("the engine's default")
    return unknown("the engine's default profile is a file of its host, whose content it does not show", profile)


def _foreign_engine(container: Container) -> str:
    """Whose engine a document is of whose default filter is not known to be dockerd's own; empty of none.

    Docker Desktop and OrbStack label what they run, and choose the filter in their virtual machines. Mounts from there
    tell it too, and so do paths of a system on which no engine can run by itself.
    """
    labels = container.mapping("Config.Labels") or {}
    if any(name.startswith("desktop.docker.io/") for name in labels):
        return "Docker Desktop"
    if any(name.startswith("dev.orbstack.") for name in labels):
        return "OrbStack"
    for source in named_sources(container):
        if any(holds(place, source) for place in _OF_DESKTOP):
            return "Docker Desktop"
        if any(holds(place, source) for place in _OF_ORBSTACK):
            return "OrbStack"
        if _OF_ANOTHER_SYSTEM.fullmatch(source):
            return "an engine in a virtual machine"
    return ""


def _label(
    container: Container, path: str, *, asked: str | None, is_off: Callable[[str], bool], off: str, absent: str
) -> Verdict:
    """Of something that the engine writes down when it starts a container, empty where the host can't do it."""
    label = container.text(path)
    for one in (asked, label):
        if one and is_off(one):
            return failed(off, one)
    if container.security is None:
        return unknown(untold("HostConfig.SecurityOpt"))
    if label is None:
        return unknown(untold(path))
    if label:
        return passed(label)
    return (
        not_applicable(absent) if container.running else unknown("the engine decides on it when the container starts")
    )


def _problem_of(profile: str) -> str:
    """What is wrong with a profile that is given as JSON; empty if nothing."""
    try:
        return weakness(profile)
    except FilterError as error:
        return str(error)


CONTROLS: tuple[Control, ...] = (
    Control(
        "KERN-01",
        "Seccomp filter",
        Severity.HIGH,
        Level.RESTRICTED,
        meaning=(
            "A seccomp filter denies the system calls that containers don't need; with profile Strict it is the "
            "operator's own, narrower one."
        ),
        why=(
            "The kernel is one program that all containers share, and most ways out of a container begin with a "
            "rare system call. What can't be called can't be exploited."
        ),
        pod=PodCheck(
            on_linux(pod_seccomp),
            "Set seccompProfile.type to RuntimeDefault; for Strict bring manifests/seccomp/strict.json to its node.",
            weighs=(Evidence.KERNEL_PROBE,),
            unseen="what was in its node's file when the pod started, where that is another by now.",
            kernel=pod_witness.each(witness.seccomp),
            undeclared=AS_FOR_A_SANDBOX,
        ),
        container=ContainerCheck(
            container_seccomp,
            "Run it without --privileged and seccomp=unconfined, with a profile that denies if with one of its own.",
            kernel=witness.seccomp,
        ),
        mappings=maps(
            pss=("seccompProfile_baseline", "seccompProfile_restricted"),
            cis_docker=("5.22",),
            kubescape=("C-0210",),
            trivy=("KSV-0030", "KSV-0104"),
            cis_kubernetes=("5.6.2",),
            nsa=("Hardening container environments",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "KERN-02",
        "AppArmor not turned off",
        Severity.MEDIUM,
        Level.BASELINE,
        meaning="Where the machine has AppArmor, the container's profile is not turned off.",
        why=(
            "AppArmor denies mounts and writes below /proc and /sys even to root: a second lock where the first "
            "one fails."
        ),
        pod=PodCheck(
            pod_app_armor,
            "Remove appArmorProfile, or set it to RuntimeDefault or Localhost (of a sandbox, --apparmor-profile).",
            kernel=pod_witness.app_armor,
            undeclared=AS_FOR_A_SANDBOX,
        ),
        container=ContainerCheck(
            container_app_armor,
            "Run it without --privileged and apparmor=unconfined; a sandbox under a profile of --apparmor-profile.",
            kernel=witness.app_armor,
        ),
        mappings=maps(
            pss=("appArmorProfile",),
            cis_docker=("5.2",),
            kubescape=("C-0055",),
            trivy=("KSV-0002",),
            cis_kubernetes=("5.6.3",),
            nsa=("Hardening container environments",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "KERN-03",
        "SELinux not weakened",
        Severity.MEDIUM,
        Level.BASELINE,
        meaning="Where the machine has SELinux, the container keeps a type that is made for containers.",
        why=(
            "SELinux keeps a process that got out from the host's files, and containers from each other's. "
            "Types such as spc_t confine nothing."
        ),
        pod=PodCheck(
            violating("seLinuxOptions"),
            "Remove seLinuxOptions, or set only a type that containers may have.",
        ),
        container=ContainerCheck(
            container_selinux,
            "Run it without --security-opt label=…, and without --privileged, --pid=host and --ipc=host.",
        ),
        mappings=maps(
            pss=("seLinuxOptions",),
            cis_docker=("5.3",),
            trivy=("KSV-0025",),
            cis_kubernetes=("5.6.3",),
            nsa=("Hardening container environments",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "KERN-04",
        "/proc masked",
        Severity.HIGH,
        Level.RESTRICTED,
        meaning="The parts of /proc and /sys that tell of the host, or change it, are masked or read-only.",
        why=(
            "By /proc/sys/kernel/core_pattern, /proc/sysrq-trigger or /sys one can run programs on the host, "
            "crash it, or read keys and memory."
        ),
        pod=PodCheck(
            # As the restricted standard has it at every version: a user namespace is no excuse.
            violating("procMount_restricted", minor=NEWEST_MINOR),
            "Remove procMount from all containers.",
            kernel=pod_witness.each(witness_mounts.system_paths),
        ),
        container=ContainerCheck(
            container_system_paths,
            "Run it without --privileged, systempaths=unconfined and writable-cgroups.",
            kernel=witness_mounts.system_paths,
        ),
        mappings=maps(
            pss=("procMount", "procMount_restricted"),
            trivy=("KSV-0027",),
            nsa=("Pod security enforcement",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "KERN-05",
        "No unsafe sysctls",
        Severity.MEDIUM,
        Level.BASELINE,
        meaning="Only those kernel settings are changed that touch nothing but the container.",
        why="A sysctl that is not of a namespace is the machine's: it can weaken or exhaust everybody on it.",
        pod=PodCheck(
            violating("sysctls"),
            "Remove the sysctls from the pod's securityContext.",
        ),
        container=ContainerCheck(
            container_sysctls,
            "Run it without the --sysctl named.",
        ),
        mappings=maps(pss=("sysctls",), trivy=("KSV-0026",), nsa=("Pod security enforcement",), nist=("4.4.3",)),
    ),
    Control(
        "KERN-06",
        "Hardened runtime",
        Severity.LOW,
        Level.HARDENED,
        meaning=(
            "A kernel in user space (gVisor) or one of its own (Kata Containers) is between the sandbox and the "
            "machine's kernel."
        ),
        why=(
            "A flaw of the machine's kernel is then not enough to get out. Not everybody has such a runtime, so "
            "it is asked for at level Hardened."
        ),
        pod=PodCheck(
            pod_hardened_runtime,
            "Run it with a RuntimeClass of gVisor or Kata Containers (of a sandbox spec.security.runtimeClassName).",
            needs=(Evidence.RUNTIME_CLASS,),
        ),
        container=ContainerCheck(
            container_hardened_runtime,
            "Run it with --runtime=runsc (gVisor) or one of Kata Containers.",
        ),
        required=OPTIONAL,
        mappings=maps(kubescape=("C-0297",), nsa=("Hardening container environments",), nist=("4.5.2",)),
    ),
    Control(
        "KERN-07",
        "Dangerous system calls denied",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "Calls that lead out of containers are denied in fact, seen by trying them, and not only by what "
            "the objects say."
        ),
        why=(
            "A filter can be declared and not be there: an engine built without seccomp, a runtime that ignores "
            "it, a profile that says less than its name."
        ),
        pod=PodCheck(
            pod_calls,
            "Use the RuntimeDefault seccomp profile of a current container runtime, and drop all capabilities.",
            needs=(Evidence.KERNEL_PROBE,),
            unseen="a call that was not tried.",
        ),
        container=ContainerCheck(
            container_calls,
            "Run it with --cap-drop=ALL, and the seccomp profile of Docker Engine 25 or newer, or Strict.",
            probed=EvidenceSource.KERNEL_PROBE,
        ),
        required=OPTIONAL,
        mappings=maps(
            cis_docker=("5.22",),
            trivy=("KSV-0005", "KSV-0120"),
            nsa=("Hardening container environments",),
            nist=("4.4.3",),
        ),
    ),
)
