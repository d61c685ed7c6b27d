"""KERN: how much of the kernel the sandbox can reach."""

from collections.abc import Callable

from claude_sandbox.api.spec import SeccompProfileType
from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.containers import witness, witness_mounts
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.containers.mounts import named_sources
from claude_sandbox.compliance.containers.seccomp_filters import FilterError, weakness
from claude_sandbox.compliance.control import (
    OPTIONAL,
    ContainerCheck,
    Control,
    Evidence,
    Level,
    PodCheck,
    Unmeasured,
    maps,
)
from claude_sandbox.compliance.conventions import HARDENED_HANDLERS, PLAIN_HANDLERS
from claude_sandbox.compliance.host_files.paths import holds, normal
from claude_sandbox.compliance.pods.pod_security import NEWEST_MINOR, SAFE_SYSCTLS, SELINUX_TYPES
from claude_sandbox.compliance.pods.standards import on_linux, violating
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, decided, failed, not_applicable, passed, unknown
from claude_sandbox.seccomp.profile import is_strict

_BUILT_IN = ("", "builtin")
"""How a container asks for the filter that every engine has built in."""
_OF_DESKTOP = ("/host_mnt", "/run/desktop", "/run/host-services", "/run/guest-services", "/socket_mnt")

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
    """A filter of system calls: one that is set, and is not Unconfined."""
    verdict = violating("seccompProfile_restricted")(view)
    kinds = {
        (container.context.get("seccompProfile") or view.context.get("seccompProfile") or {}).get("type", "none")
        for container in view.containers
    }
    return Verdict(verdict.result, verdict.message, ", ".join(sorted(kinds)))


def container_seccomp(container: Container) -> Verdict:
    """A filter of system calls: the engine's own, unless another is named, and not one that lets everything pass.

    A sandbox that asks for the Strict one has to have it.
    """
    if container.security is None:
        return unknown(untold("HostConfig.SecurityOpt"))
    profile = (container.option("seccomp") or "").strip()
    if profile.lower() == "unconfined":
        return failed("its system calls are unconfined")
    is_its_own = profile.startswith("{")
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
        return passed("Strict")
    if container.declared.seccomp is SeccompProfileType.STRICT:
        return failed("its filter is not the Strict one that its sandbox asks for; a new container would have it")
    if is_its_own:
        return passed("a profile of its own")
    if profile in _BUILT_IN:
        if container.engine.default_seccomp is None and (whose := _foreign_engine(container)):
            return unknown(f"what filter {whose} gives by default only the engine tells (docker info)")
        return _default(container.engine.default_seccomp)
    return unknown("it names a seccomp profile that its document does not show")


def container_app_armor(container: Container) -> Verdict:
    """The profile that the engine applied when it started the container."""
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

    Docker Desktop labels what it runs, and chooses the filter in its virtual machine. Mounts from there tell it too.
    """
    labels = container.mapping("Config.Labels") or {}
    if any(name.startswith("desktop.docker.io/") for name in labels):
        return "Docker Desktop"
    if any(holds(place, source) for source in named_sources(container) for place in _OF_DESKTOP):
        return "Docker Desktop"
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
        pod=PodCheck(
            on_linux(pod_seccomp),
            "Set seccompProfile.type to RuntimeDefault, for the pod and all containers.",
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
        ),
    ),
    Control(
        "KERN-02",
        "AppArmor not turned off",
        Severity.MEDIUM,
        Level.BASELINE,
        pod=PodCheck(
            violating("appArmorProfile"),
            "Remove appArmorProfile, or set it to RuntimeDefault or Localhost.",
        ),
        container=ContainerCheck(
            container_app_armor,
            "Run it without --privileged and --security-opt apparmor=unconfined.",
            kernel=witness.app_armor,
        ),
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
        pod=PodCheck(
            violating("seLinuxOptions"),
            "Remove seLinuxOptions, or set only a type that containers may have.",
        ),
        container=ContainerCheck(
            container_selinux,
            "Run it without --security-opt label=…, and without --privileged, --pid=host and --ipc=host.",
        ),
        mappings=maps(pss=("seLinuxOptions",), cis_docker=("5.3",), trivy=("KSV-0025",)),
    ),
    Control(
        "KERN-04",
        "/proc masked",
        Severity.HIGH,
        Level.RESTRICTED,
        pod=PodCheck(
            # As the restricted standard has it at every version: a user namespace is no excuse.
            violating("procMount_restricted", minor=NEWEST_MINOR),
            "Remove procMount from all containers.",
        ),
        container=ContainerCheck(
            container_system_paths,
            "Run it without --privileged, systempaths=unconfined and writable-cgroups.",
            kernel=witness_mounts.system_paths,
        ),
        mappings=maps(pss=("procMount", "procMount_restricted"), trivy=("KSV-0027",)),
    ),
    Control(
        "KERN-05",
        "No unsafe sysctls",
        Severity.MEDIUM,
        Level.BASELINE,
        pod=PodCheck(
            violating("sysctls"),
            "Remove the sysctls from the pod's securityContext.",
        ),
        container=ContainerCheck(
            container_sysctls,
            "Run it without the --sysctl named.",
        ),
        mappings=maps(pss=("sysctls",), trivy=("KSV-0026",)),
    ),
    Control(
        "KERN-06",
        "Hardened runtime",
        Severity.LOW,
        Level.HARDENED,
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
        mappings=maps(kubescape=("C-0297",)),
    ),
    Control(
        "KERN-07",
        "Dangerous system calls denied",
        Severity.HIGH,
        Level.SANDBOX,
        pod=Unmeasured(
            "attempts of unshare, mount and mknod in the sandbox",
            EvidenceSource.EXEC_PROBE,
            "Use the RuntimeDefault seccomp profile and drop all capabilities.",
        ),
        container=Unmeasured("attempts of unshare, mount and mknod in it", EvidenceSource.EXEC_PROBE),
        mappings=maps(cis_docker=("5.22",), trivy=("KSV-0005", "KSV-0120")),
    ),
)
