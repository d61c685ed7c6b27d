"""OPS: whether the sandbox is looked after."""

from collections.abc import Iterable, Iterator

from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.containers import witness
from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.control import (
    OPTIONAL,
    ContainerCheck,
    Control,
    Evidence,
    Level,
    PodCheck,
    Undeclared,
    Unmeasured,
    maps,
)
from claude_sandbox.compliance.pods import witness as pod_witness
from claude_sandbox.compliance.pods.undeclared import nothing_to_differ_from
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, failed, judged, not_applicable, passed, unknown


def pod_probed(view: View) -> Verdict:
    """The kubelet notices when the agent can't work any more."""
    return judged(
        f"container {container.name} has no {probe}"
        for container in view.containers
        if container.kind == "containers"
        for probe in ("readinessProbe", "livenessProbe")
        if not container.spec.get(probe)
    )


def container_health_checked(container: Container) -> Verdict:
    """The engine notices when the agent can't work any more. It leaves the field out where there is no check."""
    check = container.mapping("Config.Healthcheck", omissible=True)
    if check is None:
        return unknown(untold("Config.Healthcheck"))
    if not check:
        return failed("it has no health check")
    test = container.strings("Config.Healthcheck.Test")
    if test is None:
        return unknown(untold("Config.Healthcheck.Test"))
    if not test or test[0] == "NONE":
        return failed("its health check is turned off")
    return passed(container.text("State.Health.Status") or "")


def container_listeners(container: Container) -> Verdict:
    """No document tells what listens in it: only the kernel of its machine does."""
    return unknown("what listens in it only the kernel of its machine tells")


def pod_in_sync(view: View) -> Verdict:
    """What lives is what it was made from, and that is what is asked for now. The two are told apart."""
    evidence = view.evidence
    return judged(_differing(view.drift, outdated=evidence.outdated, imposed=evidence.imposed))


def container_in_sync(container: Container) -> Verdict:
    """What lives is what it was made from, and that is what is asked for now. The two are told apart."""
    if container.drift is None:
        return not_applicable("nothing declares what the container is to be")
    if isinstance(container.drift, str):
        return unknown(f"what it differs in from what is declared could not be told: {container.drift}")
    return judged(_differing(container.drift, outdated=container.outdated))


def pod_fresh(_view: View) -> Verdict:
    """What decides whether the sandbox is isolated was read lately. Stale or missing evidence never gets here."""
    return passed()


def container_fresh(_container: Container) -> Verdict:
    """Everything that is said of it was read lately. Stale or missing evidence never gets here."""
    return passed()


def _differing(changed: Iterable[str], *, outdated: bool, imposed: Iterable[str] = ()) -> Iterator[str]:
    """What is amiss: it was changed since it was made, admission made another of it, or another is asked for now."""
    imposed = sorted(imposed)
    if imposed:
        yield f"the cluster's admission changes what is asked for: {', '.join(imposed)}"
    if paths := sorted(set(changed) - {one.partition(": ")[2] for one in imposed}):
        yield f"differs from what it was made from: {', '.join(paths)}"
    if outdated:
        yield "was made from an earlier spec than the one that is asked for now"


_DECIDE = (Evidence.POD, Evidence.POLICIES, Evidence.SERVICES, Evidence.SERVICE_ACCOUNT, Evidence.ACCESS)
"""What decides whether a pod is isolated. Not what may be out of reach of an operator confined to some namespaces."""

CONTROLS: tuple[Control, ...] = (
    Control(
        "OPS-01",
        "Health checked",
        Severity.LOW,
        Level.SANDBOX,
        meaning="The agent's health is checked: by the kubelet, or by the engine.",
        why="An agent that hangs holds its key and its place, and nobody hears of it.",
        pod=PodCheck(
            pod_probed,
            "Give the container a livenessProbe and a readinessProbe.",
        ),
        container=ContainerCheck(
            container_health_checked,
            "Run it with --health-cmd, for example --health-cmd 'claude --version'.",
        ),
        mappings=maps(cis_docker=("5.27",)),
    ),
    Control(
        "OPS-02",
        "Nothing listens but on declared ports",
        Severity.LOW,
        Level.SANDBOX,
        meaning=(
            "Nothing in the sandbox waits for connections from outside (TCP), or for packets on a port that the kernel"
            " doesn't give out by itself (UDP, below 32768), but on the ports that the spec declares. What only the"
            " sandbox itself can reach, on loopback, does not count."
        ),
        why=(
            "Somebody who waits for connections is a way in as soon as a policy has a gap: a shell, a proxy, a server"
            " with the workspace's files. Agents start servers for their work, too, and the network lets nobody reach"
            " them (NET-11): so this is told, and nothing has to pass for it."
        ),
        pod=Unmeasured(
            "the lists of sockets in the network of the pod, which no API object holds",
            EvidenceSource.HOST_PROC,
            "Declare the port in spec.network.ports, or have the program listen on 127.0.0.1.",
            kernel=pod_witness.listening,
        ),
        container=ContainerCheck(
            container_listeners,
            "Declare the port in spec.network.ports, or have the program listen on 127.0.0.1.",
            kernel=witness.listening,
            kernel_decides=True,
        ),
        required=OPTIONAL,
        mappings=maps(cis_docker=("5.7",), kubescape=("C-0042",), nist=("4.1.2",)),
    ),
    Control(
        "OPS-03",
        "Live objects equal the declared ones",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="What lives is what the operator made, and that is what is asked for now.",
        why=(
            "Every other control judges what it knows to look at. A difference that nobody declared is "
            "somebody's doing, and tells of it even where no control has a name for it."
        ),
        pod=PodCheck(
            pod_in_sync,
            "Undo the change, or delete the pod: it comes back as declared.",
            needs=(Evidence.DRIFT,),
            undeclared=Undeclared(nothing_to_differ_from, needs=()),
        ),
        container=ContainerCheck(
            container_in_sync,
            "Undo the change, or remove the container: it comes back as declared.",
        ),
    ),
    Control(
        "OPS-04",
        "Evidence fresh",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="What the results rest on was read lately.",
        why=(
            "A result is about a moment. One that is old says what was so before somebody changed it, and must "
            "not pass for what is so now."
        ),
        pod=PodCheck(
            pod_fresh,
            "Look at the operator's health and logs: it could not read what the controls need.",
            needs=(*_DECIDE, Evidence.DRIFT),
            undeclared=Undeclared(needs=_DECIDE),
        ),
        container=ContainerCheck(
            container_fresh,
            "Look at the operator's health and logs, and at the DockerHost: it could not be read.",
        ),
    ),
)
