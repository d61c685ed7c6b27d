"""NET, of what a probe proves: whom the sandbox could connect to when it was tried."""

from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.control import OPTIONAL, ContainerCheck, Control, Evidence, Level, PodCheck, maps
from claude_sandbox.compliance.controls.judges.probed import (
    container_allowed,
    container_denial,
    container_metadata,
    container_outside,
    pod_allowed,
    pod_cluster,
    pod_denial,
    pod_metadata,
    pod_outside,
)

CONTROLS: tuple[Control, ...] = (
    Control(
        "NET-03",
        "Egress denial proven",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "Connections that have to be denied were tried and were denied, while the same target answered "
            "somebody else."
        ),
        why=(
            "A NetworkPolicy is a wish. Network plug-ins that don't enforce it accept it all the same, and some "
            "let a new pod out until it holds."
        ),
        pod=PodCheck(
            pod_denial,
            "Use a network plug-in that enforces NetworkPolicy, and change the policy that allows what is named.",
            needs=(Evidence.PROBE,),
            unseen="what was not tried, and what a plug-in that looks at more than labels, account and node allows.",
        ),
        container=ContainerCheck(
            container_denial,
            "Take it off the networks that lead to what is named, or remove its own, which is made again.",
            probed=EvidenceSource.NETWORK_PROBE,
        ),
        mappings=maps(kubescape=("C-0205",), cis_kubernetes=("5.3.1",), nsa=("Network policies",), nist=("4.4.2",)),
    ),
    Control(
        "NET-04",
        "Metadata services out of reach",
        Severity.CRITICAL,
        Level.SANDBOX,
        meaning=(
            "The service by which a cloud tells a machine its credentials was tried at each of its addresses, and "
            "could not be reached."
        ),
        why=(
            "Whoever can ask it is the machine, to the cloud: its credentials open disks, registries and often the "
            "whole account. NET-03 fails with it; this one says what was seen of metadata services alone, and is "
            "Unknown where none answers on the sandbox's own machine."
        ),
        pod=PodCheck(
            pod_metadata,
            "Use a network plug-in that enforces NetworkPolicy, and change the policy that allows what is named.",
            needs=(Evidence.PROBE,),
            unseen="a service at an address of a cloud's own; --probe-target names one.",
        ),
        container=ContainerCheck(
            container_metadata,
            "Take it off the networks that lead to what is named, or remove its own, which is made again.",
            probed=EvidenceSource.NETWORK_PROBE,
        ),
        required=OPTIONAL,
        mappings=maps(kubescape=("C-0052",), nsa=("Protecting sensitive cloud infrastructure",), nist=("4.4.2",)),
    ),
    Control(
        "NET-05",
        "Cluster's own services out of reach",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "The API server, at each of its addresses, and the kubelet of the pod's node were tried and could not be "
            "reached, while they answered others."
        ),
        why=(
            "A flaw in either is a way to every workload, and whoever reaches them can try stolen tokens. NET-03 "
            "fails with it; this one says what was seen of them alone."
        ),
        pod=PodCheck(
            pod_cluster,
            "Use a network plug-in that enforces NetworkPolicy, and change the policy that allows what is named.",
            needs=(Evidence.PROBE,),
            unseen="other ports of the node, and API servers of other clusters; --probe-target names one.",
        ),
        required=OPTIONAL,
        mappings=maps(
            kubescape=("C-0053", "C-0069"), nsa=("Control plane hardening", "Worker node segmentation"), nist=("4.4.2",)
        ),
    ),
    Control(
        "NET-07",
        "What is allowed can be reached",
        Severity.LOW,
        Level.SANDBOX,
        meaning="Where the sandbox may connect to, it can: its gateway, the resolver where it is declared.",
        why=(
            "A network that denies everything proves nothing by what it denies, and an agent that reaches nothing "
            "does no work."
        ),
        pod=PodCheck(
            pod_allowed,
            "See whether the gateway is ready, and whether a policy of somebody else's denies its port.",
            needs=(Evidence.PROBE,),
            unseen="what a gateway lets through: its domains are asked for by names, and its log says what came of it.",
        ),
        container=ContainerCheck(
            container_allowed,
            "Remove the gateway's container, and its network if that does not help: both are made again.",
            probed=EvidenceSource.NETWORK_PROBE,
        ),
        required=OPTIONAL,
    ),
    Control(
        "NET-09",
        "Egress is decided outside the sandbox",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "What denies connections is where the agent can't change it: denied they are, and no process of the "
            "sandbox may change routes or filters."
        ),
        why=(
            "A firewall that a container sets up for itself takes NET_ADMIN, and with that the agent, or who takes "
            "it over, removes it again."
        ),
        pod=PodCheck(
            pod_outside,
            "Remove NET_ADMIN, SYS_ADMIN and privileged, and have NetworkPolicies deny what is to be denied.",
            needs=(Evidence.PROBE, Evidence.POD),
        ),
        container=ContainerCheck(
            container_outside,
            "Run it without --privileged and --cap-add, on networks without a way out.",
            probed=EvidenceSource.NETWORK_PROBE,
        ),
        required=OPTIONAL,
        mappings=maps(trivy=("KSV-0022",), nist=("4.4.2",)),
    ),
)
