"""What was read of one sandbox, from where and when: the only input of every control."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from claude_sandbox.api.fields.compliance import Level
from claude_sandbox.api.spec import AppArmorProfile, Profile
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.evidence.pod_processes import PodProcesses
from claude_sandbox.compliance.evidence.probes import NOT_PROBED, ProbeReport
from claude_sandbox.compliance.evidence.readings import ClaudeCode, ManagedSettings, Object, Reading, Unread

QUESTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("get", "", "pods", ""),
    ("list", "", "secrets", ""),
    ("create", "", "pods", ""),
)
"""What to ask of the sandbox's ServiceAccount: verb, API group, resource, subresource.

Few, because each is a request for each sandbox: all that roles grant is read from the roles. These are a second
witness, for what authorizers other than RBAC grant, which can't be read anywhere.
"""
CLOUD_IDENTITIES = (
    "azure.workload.identity/client-id",
    "eks.amazonaws.com/role-arn",
    "iam.gke.io/gcp-service-account",
)
"""Annotations that give a ServiceAccount an identity at its cloud."""
SLICE_OF = "kubernetes.io/service-name"
"""The label of an EndpointSlice that names its Service."""
SLICE_MANAGER = "endpointslice.kubernetes.io/managed-by"
"""The label of an EndpointSlice that names who looks after it."""


@dataclass(frozen=True)
class Access:
    """The API server's answer to whether the sandbox's ServiceAccount may do something."""

    verb: str
    group: str
    resource: str
    subresource: str
    allowed: bool


@dataclass(frozen=True)
class Expected:
    """What the sandbox declares."""

    service_account: str
    api_key_secret: str
    container: str
    """The name of the agent's container. No other container is expected, but what `helpers` names."""
    ports: tuple[int, ...]
    """TCP ports that pods of the same namespace may connect to."""
    egress_cidrs: tuple[str, ...]
    dns: bool
    """Whether the cluster's resolver may be asked."""
    image_digest: str | None
    allowed_registries: tuple[str, ...]
    """Registries, or registries with the beginning of a path, that images may come from. Empty: any."""
    workspace_path: str
    workspace_read_only: bool
    workspace_claim: str | None
    """The claim behind the workspace; None for one that is as short-lived as the pod."""
    policy_names: frozenset[str]
    """The NetworkPolicies of the operator's own in the namespace."""
    service_names: frozenset[str]
    """The Services of the operator's own in the namespace."""
    profile: Profile
    image_refused: str = ""
    """Why a ClaudeImagePolicy refuses the image; empty where none does."""
    level: Level = Level.SANDBOX
    """Up to which level controls have to pass."""
    exemptions: tuple[Exemption, ...] = ()
    """What may fail for a while."""
    plain_images: frozenset[str] = frozenset()
    """Images, as a pod names them, whose configuration is known to declare no VOLUME."""
    egress_ports: tuple[int, ...] = (443,)
    """TCP ports that the egress CIDRs may be connected to on."""
    egress_excepted: tuple[tuple[str, ...], ...] = ()
    """For each of the egress CIDRs in turn, the parts of it that may not be connected to; none where it is shorter."""
    gateway: str | None = None
    """Of a sandbox that never holds its key: for whom the token is by which its gateway knows it."""
    gateway_ports: tuple[int, ...] = ()
    """TCP ports of its gateway that it may connect to."""
    gateway_host: str = ""
    """What its gateway is called in the pod's file of hosts."""
    provider_secret: str = ""
    """The Secret with the credential of its model's provider, whoever holds that."""
    claude_code: ClaudeCode | None = None
    """None: nothing declares where Claude Code is to be from."""
    kept_claims: Mapping[str, str] = field(default_factory=dict)
    """Claims that the agent may write to besides the workspace's, by where they are mounted."""
    managed_settings: ManagedSettings | None = None
    """None: nothing declares what managed settings it is to have."""
    helpers: Mapping[str, str] = field(default_factory=dict)
    """What the operator has run before the agent: init containers by name, with the image that each is meant to be."""
    cloner: str = ""
    """Which of these clones the agent's repositories, for which it may do what the agent may; empty: none."""
    lifetime: str = ""
    """By which field of its spec it ends at some time, whatever it does; empty: by none."""
    app_armor: AppArmorProfile | None = None
    """What AppArmor is to hold it to; None: what it holds workloads to that ask for nothing."""
    seccomp_file: str | None = None
    """Where its node has the filter of system calls that it is to be held to; None: the runtime's own will do."""


@dataclass(frozen=True)
class KubernetesEvidence:
    """Everything that is known about a sandbox on Kubernetes at `now`."""

    expected: Expected
    pod: Reading[Object] | Unread
    namespace: Reading[Object] | Unread
    policies: Reading[tuple[Object, ...]] | Unread
    """All NetworkPolicies of the namespace, the operator's own and others'."""
    services: Reading[tuple[Object, ...]] | Unread
    """All Services of the namespace."""
    slices: Reading[tuple[Object, ...]] | Unread
    """The EndpointSlices that name the pod or its address, in any namespace that is looked at; and those of the pod's
    own namespace that are too large to be kept."""
    service_account: Reading[Object] | Unread
    access: Reading[tuple[Access, ...]] | Unread
    """SubjectAccessReviews of the sandbox's ServiceAccount: the answers to `QUESTIONS`."""
    grants: Reading[tuple[Grant, ...]] | Unread
    """What roles grant the ServiceAccount and its groups, beyond what Kubernetes grants everybody."""
    runtime_class: Reading[Object | None] | Unread
    """The RuntimeClass that the pod names; None where it names none."""
    quotas: Reading[tuple[Object, ...]] | Unread
    """The ResourceQuotas and LimitRanges of the namespace."""
    gateway: Reading[Gateway | None] | Unread
    """The gateway of the pod's namespace; None where the sandbox has none."""
    drift: Reading[tuple[str, ...]] | Unread
    """The paths in which the live pod differs from what it was made from."""
    now: datetime
    max_age: timedelta
    """A reading older than this is stale, and makes results Unknown."""
    outdated: bool = False
    """Whether the pod was made from another spec than the one that is asked for now."""
    imposed: tuple[str, ...] = ()
    """In what the cluster's admission changes what the operator asks for, as "Kind name: path"."""
    kernel: Reading[PodProcesses] | Unread | None = None
    """What the kernel of the pod's node says of its processes, where an agent is there.

    Unread: it says something, and that could not be understood. What it is a witness to is Unknown then, since a
    sandbox must gain nothing by confusing it. None: it says nothing.
    """
    minor: int = 34
    """The minor version of the Kubernetes API server, 34 for 1.34: Pod Security Standards differ between them.

    34 is the strictest of the supported ones, so it is what is assumed when nothing better is known.
    """
    plugin_policies: Reading[tuple[Object, ...]] | Unread | None = None
    """Policies of network plugins that may concern pods of the namespace, of whichever kinds. None: nobody looks."""
    probe: Reading[ProbeReport] | Unread = NOT_PROBED
    """What could be reached from its place in the network."""
    probe_max_age: timedelta = timedelta.max
    """A probe older than this proves nothing any more."""
    probe_under_way: bool = False
    """Whether nothing is known of that yet, since it is being tried for the first time."""

    @property
    def kernel_probe(self) -> Reading[ProbeReport] | Unread:
        """What the same probe says of the kernel."""
        read = self.probe
        return read if isinstance(read, Unread) else replace(read, source=EvidenceSource.KERNEL_PROBE)
