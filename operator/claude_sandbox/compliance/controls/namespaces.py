"""NS: what the sandbox shares with its host and with others' processes."""

from collections.abc import Callable

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers import witness
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.containers.published_ports import (
    addresses,
    bindings_of,
    is_confined_to_host,
    is_loopback,
    privileged,
)
from claude_sandbox.compliance.control import (
    ContainerCheck,
    ContainerJudge,
    Control,
    Level,
    PodCheck,
    maps,
)
from claude_sandbox.compliance.pods import witness as pod_witness
from claude_sandbox.compliance.pods.pod_security import NEWEST_MINOR
from claude_sandbox.compliance.pods.standards import violating
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, decided, failed, judged, passed, unknown

_BINDINGS = ("HostConfig.PortBindings", "NetworkSettings.Ports")
_JOINABLE = ("HostConfig.PidMode", "HostConfig.IpcMode", "HostConfig.NetworkMode", "HostConfig.Cgroup")


def pod_without_host(field: str) -> Callable[[View], Verdict]:
    """Fails where the pod shares this namespace of its node."""

    def judge(view: View) -> Verdict:
        return judged(detail for detail in view.violations("hostNamespaces") if detail.startswith(field))

    return judge


def container_own(path: str, what: str) -> ContainerJudge:
    """Fails where the container shares this namespace of its host."""

    def judge(container: Container) -> Verdict:
        mode = container.text(path)
        if mode is None:
            return unknown(untold(path))
        if mode == "host":
            return failed(f"it shares the host's {what}", mode)
        if mode.startswith("container:"):
            return unknown(f"it shares the {what} of another container, which may share the host's", mode)
        return passed(mode or "its own")

    return judge


def container_uts_and_cgroup(container: Container) -> Verdict:
    """Neither the host's name nor its tree of cgroups."""
    uts, cgroup = container.text("HostConfig.UTSMode"), container.text("HostConfig.CgroupnsMode")
    problems, doubts = [], list(doubts_of(("HostConfig.UTSMode", uts), ("HostConfig.CgroupnsMode", cgroup)))
    if uts == "host":
        problems.append("it shares the host's UTS namespace, and with it its name")
    if cgroup == "host":
        problems.append("it shares the host's cgroup namespace")
    elif cgroup not in ("private", None):
        doubts.append("its cgroup namespace is what the engine's default was when it was made")
    return decided(problems, doubts, f"cgroup namespace: {cgroup or 'not told'}")


def pod_joined(view: View) -> Verdict:
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


def container_joined(container: Container) -> Verdict:
    """It is in no namespace of another container."""
    modes = [(path, container.text(path)) for path in _JOINABLE]
    problems = (f"{path} is {mode}" for path, mode in modes if mode and mode.startswith("container:"))
    return decided(problems, doubts_of(*modes))


def container_published(container: Container) -> Verdict:
    """No port of the host leads to it, but for what only the host itself can connect to, by an ordinary port."""
    network = container.text("HostConfig.NetworkMode")
    if network is not None and network.startswith("container:"):
        return unknown("its ports are those of the container whose network it shares")
    problems, doubts, local = [], [untold("HostConfig.NetworkMode")] if network is None else [], []
    everything = container.flag("HostConfig.PublishAllPorts")
    if everything:
        problems.append("it publishes every port that its image exposes (PublishAllPorts)")
    asked, actual = container.mapping("HostConfig.PortBindings"), container.mapping("NetworkSettings.Ports")
    bound = {port for port, _ in addresses(actual or {})} if container.running else set()
    # An address that is not asked for is the engine's or the network's default; the actual ones tell which.
    open_to_default = (one for one in addresses(asked or {}) if one[1] != "" or one[0] not in bound)
    for port, address in (*open_to_default, *addresses(actual or {})):
        if address is None:
            doubts.append(f"the document does not tell where {port} is published")
        elif not is_loopback(address):
            problems.append(f"{port} is published on {address or 'every address'}")
        else:
            local.append(f"{port} on {address}")
    doubts += doubts_of(
        ("HostConfig.PublishAllPorts", everything),
        ("HostConfig.PortBindings", asked),
        ("NetworkSettings.Ports", actual),
    )
    for port, address in bindings_of(container.relay.document if container.relay is not None else {}):
        if address is None:
            doubts.append(f"the relay's document does not tell where {port} is published")
        elif not is_loopback(address) and container.declared.addresses is None:
            doubts.append(f"its relay publishes {port} on {address}, and what the DockerHost allows is not known")
        elif not is_loopback(address) and address not in (container.declared.addresses or ()):
            problems.append(f"its relay publishes {port} on {address or 'every address'}")
        else:
            local.append(f"{port} on {address} (relay)")
    relay = Document(container.relay.document if container.relay is not None else {})
    problems += privileged(one.mapping(path) or {} for one in (container, relay) for path in _BINDINGS)
    if local and not is_confined_to_host(container):
        doubts.append("an engine before 28.0 lets neighbours of the host connect to ports on its loopback address")
    return decided(problems, doubts, ", ".join(sorted(set(local))))


def pod_probe_hosts(view: View) -> Verdict:
    """A probe that names a host makes the kubelet connect there. The standard asks from 1.34 on, this one always."""
    return judged(view.violations("hostProbesAndHostLifecycle", minor=NEWEST_MINOR))


CONTROLS: tuple[Control, ...] = (
    Control(
        "NS-01",
        "No host process namespace",
        Severity.CRITICAL,
        Level.BASELINE,
        meaning="The sandbox sees its own processes only.",
        why=(
            "In the host's process namespace an agent sees all processes with their arguments, signals those of "
            "its user, and reads through /proc/PID/root what they can read."
        ),
        pod=PodCheck(
            pod_without_host("hostPID"),
            "Remove hostPID from the pod.",
            kernel=pod_witness.each(witness.of_its_own("pid")),
        ),
        container=ContainerCheck(
            container_own("HostConfig.PidMode", "process namespace"),
            "Run it without --pid=host.",
            kernel=witness.of_its_own("pid"),
        ),
        mappings=maps(
            pss=("hostNamespaces",),
            cis_docker=("5.16",),
            kubescape=("C-0038",),
            trivy=("KSV-0010",),
            cis_kubernetes=("5.2.3",),
            nsa=("Pod security enforcement",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "NS-02",
        "No host IPC namespace",
        Severity.HIGH,
        Level.BASELINE,
        meaning="The sandbox has shared memory and message queues of its own.",
        why=(
            "Databases and browsers keep data in shared memory. In the host's IPC namespace an agent can read "
            "and change it."
        ),
        pod=PodCheck(
            pod_without_host("hostIPC"),
            "Remove hostIPC from the pod.",
        ),
        container=ContainerCheck(
            container_own("HostConfig.IpcMode", "IPC namespace"),
            "Run it without --ipc=host.",
            kernel=witness.of_its_own("ipc"),
        ),
        mappings=maps(
            pss=("hostNamespaces",),
            cis_docker=("5.17",),
            kubescape=("C-0038",),
            trivy=("KSV-0008",),
            cis_kubernetes=("5.2.4",),
            nsa=("Pod security enforcement",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "NS-03",
        "No host network",
        Severity.CRITICAL,
        Level.BASELINE,
        meaning="The sandbox has a network of its own, and not the machine's.",
        why=(
            "In the machine's network no NetworkPolicy and no internal network holds. The agent reaches all "
            "that listens on loopback (kubelets, engines, databases), and can listen itself."
        ),
        pod=PodCheck(
            pod_without_host("hostNetwork"),
            "Remove hostNetwork from the pod.",
            kernel=pod_witness.each(witness.of_its_own("net")),
        ),
        container=ContainerCheck(
            container_own("HostConfig.NetworkMode", "network"),
            "Run it without --network=host.",
            kernel=witness.of_its_own("net"),
        ),
        mappings=maps(
            pss=("hostNamespaces",),
            cis_docker=("5.10",),
            kubescape=("C-0041",),
            trivy=("KSV-0009",),
            cis_kubernetes=("5.2.5",),
            nsa=("Pod security enforcement",),
            nist=("4.4.2", "4.4.3"),
        ),
    ),
    Control(
        "NS-04",
        "No host UTS or cgroup namespace",
        Severity.MEDIUM,
        Level.BASELINE,
        meaning="The sandbox has a host name and a tree of control groups of its own.",
        why=(
            "With the host's an agent can rename the machine, see all control groups, and with a flaw such as "
            "CVE-2022-0492 write to them."
        ),
        container=ContainerCheck(
            container_uts_and_cgroup,
            "Run it with --cgroupns=private and without --uts=host.",
            kernel=witness.of_its_own("uts", "cgroup"),
        ),
        mappings=maps(cis_docker=("5.21",), nist=("4.4.3",)),
    ),
    Control(
        "NS-05",
        "No namespace shared between containers",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="No container shares processes, memory or network with another one.",
        why=(
            "What one container may is then what the other one may: a debug container can read the agent's key, "
            "an agent can reach a neighbour."
        ),
        pod=PodCheck(
            pod_joined,
            "Remove shareProcessNamespace, and delete the pod if a debug container was added.",
        ),
        container=ContainerCheck(
            container_joined,
            "Run it without --pid, --ipc or --network=container:… .",
        ),
        mappings=maps(nsa=("Pod security enforcement",), nist=("4.4.3",)),
    ),
    Control(
        "NS-06",
        "No host ports",
        Severity.HIGH,
        Level.BASELINE,
        meaning=("No port of the machine leads into the sandbox, but those that are declared and bound to loopback."),
        why=(
            "A published port lets others talk to what the agent serves, past every rule of the sandbox's "
            "network; Docker opens it past the host's firewall as well."
        ),
        pod=PodCheck(
            violating("hostPorts"),
            "Remove hostPort from all containers' ports.",
        ),
        container=ContainerCheck(
            container_published,
            "Publish no port, or only on the loopback address, from 1024 on: -p 127.0.0.1:8080:80.",
        ),
        mappings=maps(
            pss=("hostPorts",),
            cis_docker=("5.8", "5.9", "5.14"),
            kubescape=("C-0044",),
            trivy=("KSV-0024",),
            cis_kubernetes=("5.2.12",),
            nsa=("Pod security enforcement",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "NS-07",
        "No host in probes and hooks",
        Severity.MEDIUM,
        Level.BASELINE,
        meaning="No probe and no hook names a host to connect to.",
        why=(
            "The kubelet makes these connections, from the node's own network. Who names the host has the node "
            "ask metadata addresses and services that the sandbox can't reach."
        ),
        pod=PodCheck(
            pod_probe_hosts,
            "Remove host from httpGet and tcpSocket in probes and lifecycle hooks.",
        ),
        mappings=maps(pss=("hostProbesAndHostLifecycle",), nsa=("Pod security enforcement",)),
    ),
)
