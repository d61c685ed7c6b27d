"""FS: which files of the host the sandbox can reach, and where it can write."""

import posixpath
from collections.abc import Iterator

from claude_sandbox.api.quantity import is_some
from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers import witness, witness_mounts
from claude_sandbox.compliance.containers.binds import is_declared, is_system, is_whole_system
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.containers.mounts import asked_mounts
from claude_sandbox.compliance.containers.tmpfs import is_size, key_value
from claude_sandbox.compliance.control import ContainerCheck, Control, Level, PodCheck, Undeclared, maps
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.host_files import sockets
from claude_sandbox.compliance.host_files.homes import is_home
from claude_sandbox.compliance.host_files.paths import holds, normal
from claude_sandbox.compliance.host_files.sockets import engine, engines_in
from claude_sandbox.compliance.pods import witness as pod_witness
from claude_sandbox.compliance.pods.standards import violating
from claude_sandbox.compliance.pods.undeclared import writable_beyond
from claude_sandbox.compliance.pods.view import PodContainer, View
from claude_sandbox.compliance.pods.volumes import READ_ONLY_SOURCES, host_paths, is_workspace, known_to_be_all
from claude_sandbox.compliance.verdict import Verdict, decided, failed, judged, passed, unknown

_UNSHARED = ("", "private", "rprivate")
_NO_DEVICES = ("", "void", "none")
"""What the runtime of a maker of graphics cards takes for none of its devices."""


def pod_read_only_root(view: View) -> Verdict:
    """Nothing of the image can be changed."""
    return judged(
        f"container {container.name} can write to its root file system"
        for container in view.containers
        if container.context.get("readOnlyRootFilesystem") is not True
    )


def container_read_only_root(container: Container) -> Verdict:
    """Nothing of the image can be changed."""
    read_only = container.flag("HostConfig.ReadonlyRootfs")
    if read_only is None:
        return unknown(untold("HostConfig.ReadonlyRootfs"))
    return passed("ReadonlyRootfs: true") if read_only else failed("it can write to its root file system")


def container_host_paths(container: Container) -> Verdict:
    """Nothing of the host's system and nobody's home, not even to be read; and else only what is declared."""
    problems, doubts, seen = [], [], []
    for mount in container.mounts:
        if mount.is_vague or mount.is_veiled:
            doubts.append(mount.doubt)
        if mount.host is None:
            continue
        seen.append(mount.host)
        if is_whole_system(mount.host) or is_home(mount.host):
            problems.append(f"{mount.destination} is the host's {mount.host}")
        elif is_declared(container, mount) and (mount.writable is False or not is_system(mount.host)):
            continue
        elif is_system(mount.host):
            problems.append(f"{mount.destination} is the host's {mount.host}")
        else:
            doubts.append(
                f"nothing declares that {mount.destination} is to be the host's {mount.host} (--mount, --workspace)"
            )
    return decided(problems, [*container.mount_doubts, *doubts], ", ".join(dict.fromkeys(seen)))


def pod_runtime_socket(view: View) -> Verdict:
    """Who can speak to the container runtime is root on the node. A directory above a socket holds the socket."""
    problems = []
    for name, path, kind in host_paths(view):
        if found := sockets.engine(path, "") or sockets.agent(path, ""):
            problems.append(f"volume {name} {found}")
        elif kind == "Socket" or path.endswith(".sock"):
            problems.append(f"volume {name} is the node's socket {path}")
    return judged(problems)


def container_runtime_socket(container: Container) -> Verdict:
    """Who can speak to the engine is root on the host. A directory above a socket holds the socket."""
    problems, doubts = [], []
    clients = tuple(map(normal, engines_in(container.environment or ())))
    for mount in container.mounts:
        if mount.is_vague or mount.is_veiled:
            doubts.append(mount.doubt)
        if mount.kind == "npipe":
            problems.append(f"{mount.destination} is a named pipe of the host")
        if mount.host is None:
            continue
        if found := engine(mount.host, mount.place):
            problems.append(f"{mount.destination} {found}")
        # Whatever the path is called on the host: the container's own variable says what it is for.
        elif any(holds(normal(mount.place), client) for client in clients):
            problems.append(f"{mount.destination} is what a variable names as an engine's socket")
        elif any(name.endswith(".sock") for name in (mount.host, mount.place)) and not is_declared(container, mount):
            doubts.append(f"whose socket {mount.destination} is, the host's {mount.host}, is not declared (--mount)")
    doubts += doubts_of(("Config.Env", container.environment))
    return decided(problems, [*container.mount_doubts, *doubts])


def pod_devices(view: View) -> Verdict:
    """No device of the node, whichever way it would come."""
    problems = [
        f"volume {name} is the node's device {path}"
        for name, path, kind in host_paths(view)
        if kind in ("BlockDevice", "CharDevice") or f"{path}/".startswith("/dev/")
    ]
    if view.spec.get("resourceClaims"):
        problems.append("the pod claims devices")
    for container in view.containers:
        if container.spec.get("volumeDevices"):
            problems.append(f"container {container.name} has a raw block volume")
        resources = container.spec.get("resources") or {}
        # Resources of Kubernetes' own have no domain; those of device plugins always do.
        asked = {*(resources.get("limits") or ()), *(resources.get("requests") or ())}
        problems += [f"container {container.name} asks for {name}" for name in sorted(asked) if "/" in name]
    return judged(problems)


def container_devices(container: Container) -> Verdict:
    """No device of the host, whichever way it would come."""
    privileged = container.flag("HostConfig.Privileged")
    passed_through = container.objects("HostConfig.Devices")
    rules = container.strings("HostConfig.DeviceCgroupRules")
    requests = container.objects("HostConfig.DeviceRequests")
    problems = ["it is privileged, and has all of the host's devices"] if privileged else []
    problems += [f"it has the host's device {one.get('PathOnHost')}" for one in passed_through or ()]
    problems += ["it may use devices by rule (DeviceCgroupRules)"] if rules else []
    problems += [f"it asks for devices of {one.get('Driver') or 'a driver'}" for one in requests or ()]
    if (container.text("HostConfig.Runtime") or "").startswith("nvidia"):
        named = dict(container.environment or ()).get("NVIDIA_VISIBLE_DEVICES", "void")
        problems += ["its runtime gives it the devices that a variable names"] if named not in _NO_DEVICES else []
    doubts = [
        *doubts_of(
            ("HostConfig.Privileged", privileged),
            ("HostConfig.Devices", passed_through),
            ("HostConfig.DeviceCgroupRules", rules),
            ("HostConfig.DeviceRequests", requests),
        ),
        *container.mount_doubts,
    ]
    for mount in container.mounts:
        if mount.is_vague or mount.is_veiled:
            doubts.append(mount.doubt)
        if mount.host is not None and holds("/dev", mount.host):
            problems.append(f"{mount.destination} is the host's {mount.host}")
    return decided(problems, doubts)


def pod_propagation(view: View) -> Verdict:
    """Mounts made on one side stay unseen on the other."""
    return judged(
        f"container {container.name} mounts {mount.get('name')} with propagation {mount['mountPropagation']}"
        for container in view.containers
        for mount in _mounts(container)
        if mount.get("mountPropagation") not in (None, "None")
    )


def container_propagation(container: Container) -> Verdict:
    """Mounts made on one side stay unseen on the other."""
    problems, doubts = [], list(container.mount_doubts)
    for mount in container.mounts:
        if mount.propagation is None:
            doubts.append(mount.doubt)
        elif mount.propagation not in _UNSHARED:
            problems.append(f"{mount.place} is mounted with propagation {mount.propagation}")
    return decided(problems, doubts)


def pod_scratch(view: View) -> Verdict:
    """Nothing can fill the node's disk or memory."""
    return judged(
        f"volume {volume.get('name')} has no sizeLimit"
        for volume in view.volumes
        if volume.get("emptyDir") is not None and not is_some(volume["emptyDir"].get("sizeLimit"))
    )


def container_scratch(container: Container) -> Verdict:
    """Nothing can fill the host's memory, and no file in it has a privilege, is a device, or is run against the spec.

    Without other options an engine mounts a tmpfs nosuid, nodev and noexec, and as large as half of the memory.
    """
    problems, doubts, seen = [], list(container.mount_doubts), []
    asked = container.mapping("HostConfig.Tmpfs", omissible=True)
    doubts += doubts_of(("HostConfig.Tmpfs", asked))
    for path, options in (asked or {}).items():
        if not isinstance(options, str):
            doubts.append(f"the document does not tell the options of the tmpfs {path}")
            continue
        given = dict(key_value(option) for option in options.split(","))
        if not is_size(given.get("size")):
            problems.append(f"the tmpfs {path} has no size")
        refused = ("suid", "dev", "exec") if normal(path) in container.declared.without_programs else ("suid", "dev")
        problems += [f"the tmpfs {path} is mounted {flag}" for flag in refused if flag in given]
        seen.append(f"{path} {given.get('size', '')}".rstrip())
    if asked is not None:
        missing = container.declared.without_programs - set(map(normal, asked))
        problems += [f"{path} is not the tmpfs in which nothing is to be run" for path in sorted(missing)]
    wanted = asked_mounts(container.objects("HostConfig.Mounts", omissible=True) or ())
    sizes = {mount.destination: mount.size for mount in wanted if mount.kind == "tmpfs"}
    for mount in container.mounts:
        if mount.is_vague:
            doubts.append(mount.doubt)
        elif mount.kind == "tmpfs" and normal(mount.place) not in map(normal, asked or {}):
            size = sizes.get(mount.destination)
            if size is None:
                doubts.append(f"the document does not tell the size of the tmpfs {mount.destination}")
            elif size == 0:
                problems.append(f"the tmpfs {mount.destination} has no size")
            else:
                seen.append(f"{mount.destination} {size}")
    return decided(problems, doubts, ", ".join(dict.fromkeys(seen)))


def pod_writable(view: View) -> Verdict:
    """Only the workspace, if it is to be writable, and scratch space.

    What the operator has run before the agent may write to the agent's workspace, and to its read-only one, too: it
    fills it.
    """
    expected = view.expected
    volumes = {volume.get("name"): volume for volume in view.volumes}
    problems, found = [], False
    for container in view.containers:
        agent, helper = container.name == expected.container, view.is_cloner(container)
        for mount in _mounts(container):
            volume = volumes.get(mount.get("name"), {})
            path = posixpath.normpath("/" + str(mount.get("mountPath", "")).lstrip("/"))
            read_only = mount.get("readOnly") is True or any(volume.get(one) is not None for one in READ_ONLY_SOURCES)
            workspace = path == expected.workspace_path and (agent or helper)
            found |= workspace and agent
            writable = helper or not expected.workspace_read_only
            allowed = writable if workspace else volume.get("emptyDir") is not None
            if (agent or helper) and (claim := expected.kept_claims.get(path)) is not None:
                allowed = is_workspace(volume, claim)
            if workspace and not is_workspace(volume, expected.workspace_claim):
                problems.append(f"{path} is not the declared workspace")
            elif not (read_only or allowed):
                problems.append(f"container {container.name} can write to {path}")
    if not found:
        problems.append(f"the workspace is not mounted at {expected.workspace_path}")
    return failed("; ".join(problems)) if problems else known_to_be_all(view)


def container_writable(container: Container) -> Verdict:
    """Only the workspaces and scratch space, of what outlives the container or is the host's."""
    workspaces = container.declared.workspaces
    problems, doubts = [], list(container.mount_doubts)
    found = set(map(normal, container.mapping("HostConfig.Tmpfs", omissible=True) or {}))
    for mount in container.mounts:
        found.add(normal(mount.place))
        if mount.kind in ("tmpfs", "image"):
            continue
        if mount.is_vague or mount.writable is None:
            doubts.append(mount.doubt)
        elif not mount.writable or mount.destination in workspaces:
            continue
        elif not (workspaces or container.declared.keeps_nothing):
            doubts.append(f"nothing declares that it may write to {mount.destination} (--workspace)")
        else:
            problems.append(f"it can write to {mount.destination}")
    problems += [f"the workspace is not mounted at {one}" for one in sorted(workspaces) if normal(one) not in found]
    return decided(problems, doubts)


def _mounts(container: PodContainer) -> Iterator[Object]:
    yield from container.spec.get("volumeMounts") or ()


CONTROLS: tuple[Control, ...] = (
    Control(
        "FS-01",
        "Read-only root file system",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="Nothing of the image can be changed at run time.",
        why=(
            "An agent that can replace programs of its image has them run with the next session, and keeps what "
            "an attacker made it install."
        ),
        pod=PodCheck(
            pod_read_only_root,
            "Set readOnlyRootFilesystem to true in all containers.",
            kernel=pod_witness.each(witness_mounts.read_only_root),
        ),
        container=ContainerCheck(
            container_read_only_root,
            "Run it with --read-only.",
            kernel=witness_mounts.read_only_root,
        ),
        mappings=maps(
            cis_docker=("5.13",),
            kubescape=("C-0017",),
            trivy=("KSV-0014",),
            cis_kubernetes=("5.6.3",),
            nsa=("Immutable container file systems",),
            nist=("4.4.4",),
        ),
    ),
    Control(
        "FS-02",
        "No host paths",
        Severity.CRITICAL,
        Level.BASELINE,
        meaning="Nothing of the machine's own files is mounted, not even to be read.",
        why=(
            "Files of the host hold keys, sockets, logs of others, and places from which programs are started. "
            "A path that is harmless today is another one after a link or an upgrade."
        ),
        pod=PodCheck(
            violating("hostPathVolumes"),
            "Remove the hostPath volumes.",
        ),
        container=ContainerCheck(
            container_host_paths,
            "Mount a named volume instead of the host's path: -v workspace:/workspace.",
        ),
        mappings=maps(
            pss=("hostPathVolumes",),
            cis_docker=("5.6",),
            kubescape=("C-0045", "C-0048"),
            trivy=("KSV-0023",),
            cis_kubernetes=("5.2.11",),
            nsa=("Pod security enforcement",),
            nist=("4.4.3", "4.5.5"),
        ),
    ),
    Control(
        "FS-03",
        "No container runtime socket",
        Severity.CRITICAL,
        Level.BASELINE,
        meaning="No socket by which one talks to a container runtime is within reach, under whatever name.",
        why=(
            "Who can talk to the engine starts a privileged container with the host's root mounted: one call, "
            "and the agent is root on the machine."
        ),
        pod=PodCheck(
            pod_runtime_socket,
            "Remove the volumes that are or hold a socket of the node.",
        ),
        container=ContainerCheck(
            container_runtime_socket,
            "Run it without the mount that is or holds an engine's socket.",
        ),
        mappings=maps(cis_docker=("5.32",), kubescape=("C-0074",), trivy=("KSV-0006",), nist=("4.4.3",)),
    ),
    Control(
        "FS-04",
        "Only allowed volume types",
        Severity.MEDIUM,
        Level.RESTRICTED,
        meaning=(
            "Volumes are claims, scratch space, or read-only sources; none is of a network file system or the node."
        ),
        why=("Other kinds make the node connect somewhere with credentials of its own, or give what no quota bounds."),
        pod=PodCheck(
            violating("restrictedVolumes"),
            "Replace the volumes by claims, emptyDir, or read-only sources such as configMap.",
        ),
        mappings=maps(
            pss=("restrictedVolumes",),
            trivy=("KSV-0028", "KSV-0121"),
            nsa=("Pod security enforcement",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "FS-05",
        "No host devices",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="No device of the machine is in the sandbox.",
        why=(
            "A disk as a device is all files of all tenants. GPUs and /dev/kvm are drivers of the kernel with a "
            "long list of flaws."
        ),
        pod=PodCheck(
            pod_devices,
            "Remove device resources and claims, raw block volumes and host devices from the pod.",
            unseen="Devices among the files of its image: to look at them takes root on the node, which no agent is.",
        ),
        container=ContainerCheck(
            container_devices,
            "Run it without --device, --device-cgroup-rule, --gpus and mounts of /dev, of an image without devices.",
            kernel=witness.devices,
        ),
        mappings=maps(cis_docker=("5.18",), nist=("4.4.3",)),
    ),
    Control(
        "FS-06",
        "No mount propagation",
        Severity.HIGH,
        Level.BASELINE,
        meaning="What is mounted in the sandbox is seen in the sandbox only, and the other way round.",
        why=("With shared propagation a mount that is made inside appears on the host, over whatever path it likes."),
        pod=PodCheck(
            pod_propagation,
            "Remove mountPropagation from all volume mounts.",
            kernel=pod_witness.each(witness_mounts.propagation),
        ),
        container=ContainerCheck(
            container_propagation,
            "Mount it without shared or slave propagation.",
            kernel=witness_mounts.propagation,
        ),
        mappings=maps(cis_docker=("5.20",), nist=("4.4.3",)),
    ),
    Control(
        "FS-07",
        "Scratch space bounded",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="Scratch space has a size; on Docker no file in it is a device or setuid.",
        why=(
            "Scratch space without a bound fills the machine's memory or disk, and ends others' work. Devices "
            "and setuid files in it are ways to more privileges."
        ),
        pod=PodCheck(
            pod_scratch,
            "Set a sizeLimit for every emptyDir.",
        ),
        container=ContainerCheck(
            container_scratch,
            "Give each tmpfs a size, no suid or dev, and no exec where nothing is to be run: --tmpfs /tmp:size=256m.",
            kernel=witness_mounts.scratch,
        ),
    ),
    Control(
        "FS-08",
        "Only the workspace and scratch space writable",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "The sandbox can write to its workspace, if that was asked for, and to scratch space; to nothing "
            "else that lasts."
        ),
        why=(
            "What an agent can write to beyond that is either somebody else's, or a place to leave something "
            "that is run later."
        ),
        pod=PodCheck(
            pod_writable,
            "Mount the declared workspace, as writable as declared, and everything else readOnly.",
            undeclared=Undeclared(writable_beyond, "Mount everything but the workspaces readOnly."),
            kernel=pod_witness.writable,
            kernel_decides=True,
        ),
        container=ContainerCheck(
            container_writable,
            "Mount everything but the workspace read-only: -v NAME:/PATH:ro.",
            kernel=witness_mounts.writable,
        ),
        mappings=maps(kubescape=("C-0045",), nsa=("Immutable container file systems",), nist=("4.4.4",)),
    ),
)
