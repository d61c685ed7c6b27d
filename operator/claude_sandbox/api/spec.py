"""What a user asks for: the models of `ClaudeSandbox.spec`. Everything but the key has a safe default.

The parts are in `api/fields`; here is what holds between them.
"""

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Annotated

from pydantic import Field

from claude_sandbox.api import networks
from claude_sandbox.api.credentials.leaks import NO_ASSIGNMENT, NO_CREDENTIAL, NO_HEADER, NO_TAKEN_CREDENTIAL
from claude_sandbox.api.fields.backend import Backend, BackendType, HostRef
from claude_sandbox.api.fields.budget import Budget
from claude_sandbox.api.fields.compliance import ComplianceException, ComplianceSpec, Level
from claude_sandbox.api.fields.credentials import Credentials, Delivery, SecretKeyRef
from claude_sandbox.api.fields.due import Due
from claude_sandbox.api.fields.environment import EnvVar
from claude_sandbox.api.fields.image import Image, PullPolicy
from claude_sandbox.api.fields.incident import Incident, IncidentState
from claude_sandbox.api.fields.lifecycle import Lifecycle, ShutdownPolicy
from claude_sandbox.api.fields.models import ModelAccess
from claude_sandbox.api.fields.network import HOST_ADDRESS, Egress, Network, Port
from claude_sandbox.api.fields.resources import Resources
from claude_sandbox.api.fields.security import (
    AppArmorProfile,
    AppArmorProfileType,
    SeccompProfile,
    SeccompProfileType,
    Security,
)
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.fields.update_policy import UpdatePolicy
from claude_sandbox.api.fields.work.backup import Backup
from claude_sandbox.api.fields.work.claude_code import ClaudeCode
from claude_sandbox.api.fields.work.repositories import MOST_REPOSITORIES, NOT_NESTED, URL_ONCE, Push, Repository
from claude_sandbox.api.fields.work.restore import RestoreFrom
from claude_sandbox.api.fields.work.services import MOST_SERVICES, ONE_OF_EACH, Service
from claude_sandbox.api.fields.work.workspace import Retention, Workspace, WorkspaceType
from claude_sandbox.api.kinds.targets import TargetType
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import Rule, Transition, UniqueBy

__all__ = [
    "HOST_ADDRESS",
    "AppArmorProfile",
    "AppArmorProfileType",
    "Backend",
    "BackendType",
    "Budget",
    "ClaudeCode",
    "ClaudeSandboxSpec",
    "ComplianceException",
    "ComplianceSpec",
    "Credentials",
    "Delivery",
    "Egress",
    "EnvVar",
    "HostRef",
    "Image",
    "Incident",
    "IncidentState",
    "Level",
    "Lifecycle",
    "ModelAccess",
    "Network",
    "OperatingMode",
    "Port",
    "Profile",
    "PullPolicy",
    "Push",
    "Repository",
    "Resources",
    "Retention",
    "SeccompProfile",
    "SeccompProfileType",
    "SecretKeyRef",
    "Security",
    "Service",
    "ShutdownPolicy",
    "Strict",
    "UpdatePolicy",
    "UpdateStrategy",
    "UpdateStrategyType",
    "Workspace",
    "WorkspaceType",
]

# In characters. Long prompts belong in the workspace; a bound keeps the API server's checks within their budget.
MAX_ARGUMENT = 4096
MAX_COMMAND_LINE = 32768
MAX_ENVIRONMENT = 32768


_BROKERED = "(!has(self.credentials.delivery) || self.credentials.delivery == 'Brokered')"
_NEEDS_LASTING_WORKSPACE = (
    "is for a workspace that outlives the workload: set spec.workspace.type to PersistentVolumeClaim, or remove it"
)
_STAYS = "!has(self.backup) || !has(self.backup.whenHostCompromised) || self.backup.whenHostCompromised == 'Stay'"
_NEEDS_GATEWAY = "is for a sandbox with a gateway: set spec.credentials.delivery to Brokered, or remove it"


class Profile(Choice):
    """A set of defaults; Production refuses what Development merely reports."""

    DEVELOPMENT = "Development"
    PRODUCTION = "Production"


class OperatingMode(Choice):
    """Whether the workload exists. A suspended sandbox keeps its workspace."""

    RUNNING = "Running"
    SUSPENDED = "Suspended"


class UpdateStrategyType(Choice):
    """What happens when the running pod is not what the spec asks for and only a new pod could be."""

    ON_DELETE = "OnDelete"
    RECREATE = "Recreate"


class UpdateStrategy(Strict):
    """How a pod that differs from the spec becomes what the spec says."""

    type: UpdateStrategyType = UpdateStrategyType.ON_DELETE
    """OnDelete reports `Drifted` and leaves the pod alone; Recreate replaces it, keeping the workspace.

    Recreate also lets a sandbox without a workspace of its own be moved when its Docker host is drained.
    """


Argument = Annotated[str, Field(max_length=MAX_ARGUMENT), *NO_CREDENTIAL, NO_HEADER, NO_ASSIGNMENT]


def _length(texts: Iterable[str]) -> int:
    return sum(map(len, texts))


def _has_networks(spec: "ClaudeSandboxSpec") -> bool:
    """Whether there is a network that may be connected to directly."""
    cidrs = spec.network.egress.allowed_cidrs
    return bool(cidrs) if cidrs is not None else not spec.credentials.brokered


def _renewed_in_time(spec: "ClaudeSandboxSpec", attribute: str) -> bool:
    """Whether a time of spec.due is none that profile Production refuses."""
    longest: timedelta = getattr(Due(), attribute)
    return not spec.in_production or spec.due is None or getattr(spec.due, attribute) <= longest


class ClaudeSandboxSpec(Strict):
    """A hardened, isolated, measured workload for one Claude Code agent."""

    profile: Profile = Profile.DEVELOPMENT
    """Development reports unsafe choices; Production has safer defaults and refuses them.

    Production requires an image's digest and backups, keeps the workspace read-only, and refuses wide networks and keys
    that the sandbox holds itself.
    """
    backend: Backend = Backend()
    """Where the sandbox runs."""
    operating_mode: OperatingMode = OperatingMode.RUNNING
    """Whether the workload exists. A suspended sandbox has none and keeps its workspace."""
    due: Due | None = None
    """After what time what the sandbox is made of is due to be renewed."""
    lifecycle: Lifecycle | None = None
    """How long the workload may run; without it, for ever."""
    incident: Incident | None = None
    """Something bad happened to the sandbox: what that is, and so what is done about it."""
    image: Image | None = None
    """The sandbox's image; without it the operator's own default."""
    update_policy: UpdatePolicy | None = None
    """What becomes of a newer image under spec.image.tag; without it, nothing."""
    command: Annotated[list[Argument], Field(max_length=16)] = []
    """The container's entrypoint, not run in a shell. Without it the image's own."""
    args: Annotated[list[Argument], Field(max_length=64)] = []
    """Arguments of the entrypoint."""
    env: Annotated[list[EnvVar], Field(max_length=64), UniqueBy("name")] = []
    """Environment variables, literals only. They are readable by everyone who may read the sandbox."""
    credentials: Credentials
    """How the agent authenticates to the Claude API."""
    model: ModelAccess | None = None
    """Which models the agent may use; without it, every one. Only with spec.credentials.delivery Brokered."""
    budget: Budget | None = None
    """How much of them it may use; without it, any amount. Only with spec.credentials.delivery Brokered."""
    services: Annotated[list[Service], Field(max_length=MOST_SERVICES), UniqueBy("name"), ONE_OF_EACH] = []
    """Other services that the agent may use, with credentials that it doesn't hold. Only with
    spec.credentials.delivery Brokered: the gateway asks them.
    """
    claude_code: ClaudeCode = ClaudeCode()
    """What Claude Code is told, from ConfigMaps: settings, instructions, MCP servers, agents, commands, skills."""
    repositories: Annotated[
        list[Repository], Field(max_length=MOST_REPOSITORIES), UniqueBy("path"), URL_ONCE, NOT_NESTED
    ] = []
    """Repositories that are cloned into the workspace before the agent starts, each once. Only with
    spec.credentials.delivery Brokered: the gateway brings the credential.
    """
    resources: Resources = Resources()
    """Limits of the workload."""
    workspace: Workspace = Workspace()
    """The agent's working directory."""
    restore_from: RestoreFrom | None = None
    """The backup with which the workspace is filled before the agent first starts. A workspace that has anything in it
    is left alone, and the sandbox says so. It can be removed later, and not changed.
    """
    backup: Backup | None = None
    """When the workspace is backed up by itself, and where to. Production requires it."""
    network: Network = Network()
    """Who may connect to whom. Everything else is denied in both directions."""
    security: Security = Security()
    """What is tightened beyond the defaults."""
    compliance: ComplianceSpec = ComplianceSpec()
    """Which of what is measured counts for the condition Compliant."""
    update_strategy: UpdateStrategy = UpdateStrategy()
    """How a pod that differs from the spec becomes what the spec says."""

    RULES = (
        Rule(
            f"self.command.map(a, size(a)).sum() + self.args.map(a, size(a)).sum() <= {MAX_COMMAND_LINE}",
            lambda spec: _length(spec.command) + _length(spec.args) <= MAX_COMMAND_LINE,
            f"command and args together may have {MAX_COMMAND_LINE} characters: put long prompts into a file of the"
            " workspace",
            field="args",
        ),
        *NO_TAKEN_CREDENTIAL,
        Rule(
            f"self.env.map(e, size(e.name) + size(e.value)).sum() <= {MAX_ENVIRONMENT}",
            lambda spec: sum(len(item.name) + len(item.value) for item in spec.env) <= MAX_ENVIRONMENT,
            f"may have {MAX_ENVIRONMENT} characters in all: put long values into a file of the workspace",
            field="env",
        ),
        Rule(
            "!has(self.updatePolicy) || (has(self.updatePolicy.strategy) && self.updatePolicy.strategy == 'None')"
            " || (has(self.image) && has(self.image.tag))",
            lambda spec: not spec.follows_tag or (spec.image is not None and spec.image.tag is not None),
            "follows a tag, and there is none: write spec.image.tag, or remove it",
            field="updatePolicy",
        ),
        Rule(
            "self.profile != 'Production' || !has(self.image) || has(self.image.digest)",
            lambda spec: not spec.in_production or spec.image is None or spec.image.digest is not None,
            "is required by profile Production, since a tag can be moved: write the image's digest"
            " (sha256:…), or leave out spec.image",
            field="image.digest",
        ),
        Rule(
            "self.profile != 'Production' || !has(self.workspace.readOnly) || self.workspace.readOnly"
            " || has(self.workspace.writableReason)",
            lambda spec: (
                not spec.in_production
                or spec.workspace.read_only is not False
                or spec.workspace.writable_reason is not None
            ),
            "must not be false in profile Production without a reason: write spec.workspace.writableReason, remove it,"
            " or use profile Development",
            field="workspace.readOnly",
        ),
        Rule(
            "self.profile != 'Production' || self.workspace.type != 'EmptyDir'",
            lambda spec: not spec.in_production or spec.workspace.type is not WorkspaceType.EMPTY_DIR,
            "must be PersistentVolumeClaim in profile Production, where the workspace is read-only and an EmptyDir"
            " would stay empty",
            field="workspace.type",
        ),
        Rule(
            "self.profile != 'Production' || !has(self.network.egress.allowedCIDRs)"
            " || self.network.egress.allowedCIDRs.all(c,"
            f" {networks.narrow_cel('c', networks.WIDEST_IN_PRODUCTION)})",
            lambda spec: (
                not spec.in_production
                or all(
                    networks.narrow(cidr, networks.WIDEST_IN_PRODUCTION)
                    for cidr in spec.network.egress.allowed_cidrs or ()
                )
            ),
            "has a network that is too wide for profile Production: IPv4 destinations need at least"
            f" /{networks.WIDEST_IN_PRODUCTION[0]} and IPv6 at least /{networks.WIDEST_IN_PRODUCTION[1]}",
            field="network.egress.allowedCIDRs",
        ),
        Rule(
            f"self.profile != 'Production' || {_BROKERED}",
            lambda spec: not spec.in_production or spec.credentials.brokered,
            "must not be Mounted in profile Production, where a sandbox holds no key: remove it, and the sandbox's"
            " gateway holds the key (Brokered); or use profile Development",
            field="credentials.delivery",
        ),
        Rule(
            f"self.profile != 'Production' || has(self.budget) || !{_BROKERED}",
            lambda spec: not spec.in_production or spec.budget is not None or not spec.credentials.brokered,
            "is required by profile Production: write what the agent may use of its model at most, for example"
            ' {maxCostUSD: "20", window: 24h}; or use profile Development',
            field="budget",
        ),
        Rule(
            "self.profile != 'Production'"
            " || (has(self.lifecycle) && (has(self.lifecycle.ttl) || has(self.lifecycle.shutdownTime)))",
            lambda spec: not spec.in_production or (spec.lifecycle is not None and bool(spec.lifecycle.bound)),
            "needs a time in profile Production after which the sandbox ends whatever it does: write ttl, for example"
            " 30d, or shutdownTime; or use profile Development",
            field="lifecycle",
        ),
        *(
            Rule(
                f"self.profile != 'Production' || !has(self.due) || !has(self.due.{name})"
                f" || self.due.{name}.matches('^({few})d$')",
                partial(_renewed_in_time, attribute=attribute),
                f"must be at most {getattr(Due(), attribute).days}d in profile Production, which is the default: write"
                " fewer days, remove it, or use profile Development",
                field=f"due.{name}",
            )
            for name, attribute, few in (
                ("imageMaxAge", "image_lasts", "[1-9]|[12][0-9]|30"),
                ("keyMaxAge", "key_lasts", "[1-9]|[1-8][0-9]|90"),
                ("backupMaxAge", "backup_lasts", "[1-7]"),
            )
        ),
        Rule(
            "!has(self.due) || !has(self.due.backupMaxAge) || has(self.backup)",
            lambda spec: spec.due is None or spec.due.backup_max_age is None or spec.backup is not None,
            "is of the backups that spec.backup asks for: write that too, or remove it",
            field="due.backupMaxAge",
        ),
        Rule(
            "self.profile != 'Production' || !(self.compliance.level in ['Baseline', 'Restricted'])",
            lambda spec: not spec.in_production or spec.compliance.level.asks_for(Level.SANDBOX),
            "must be Sandbox or Hardened in profile Production: remove it, or use profile Development",
            field="compliance.level",
        ),
        Rule(
            f"!has(self.model) || {_BROKERED}",
            lambda spec: spec.model is None or spec.credentials.brokered,
            _NEEDS_GATEWAY,
            field="model",
        ),
        Rule(
            f"!has(self.budget) || {_BROKERED}",
            lambda spec: spec.budget is None or spec.credentials.brokered,
            _NEEDS_GATEWAY,
            field="budget",
        ),
        Rule(
            f"!has(self.lifecycle) || !has(self.lifecycle.idleTimeout) || {_BROKERED}",
            lambda spec: spec.lifecycle is None or spec.lifecycle.idle_timeout is None or spec.credentials.brokered,
            "goes by the requests that pass the sandbox's gateway: set spec.credentials.delivery to Brokered, or write"
            " a ttl instead",
            field="lifecycle.idleTimeout",
        ),
        Rule(
            f"size(self.services) == 0 || {_BROKERED}",
            lambda spec: not spec.services or spec.credentials.brokered,
            _NEEDS_GATEWAY,
            field="services",
        ),
        Rule(
            f"size(self.repositories) == 0 || {_BROKERED}",
            lambda spec: not spec.repositories or spec.credentials.brokered,
            _NEEDS_GATEWAY,
            field="repositories",
        ),
        Rule(
            f"!has(self.network.egress.allowedDomains) || size(self.network.egress.allowedDomains) == 0 || {_BROKERED}",
            lambda spec: not spec.network.egress.allowed_domains or spec.credentials.brokered,
            _NEEDS_GATEWAY,
            field="network.egress.allowedDomains",
        ),
        Rule(
            "self.network.egress.allowedPorts == [443] || (has(self.network.egress.allowedCIDRs)"
            f" ? size(self.network.egress.allowedCIDRs) > 0 : !{_BROKERED})",
            lambda spec: _has_networks(spec) or spec.network.egress.allowed_ports == [443],
            "are those of the networks in allowedCIDRs, of which there are none: write them, or remove it. A domain in"
            " allowedDomains has its port after a colon",
            field="network.egress.allowedPorts",
        ),
        Rule(
            "self.profile != 'Production' || has(self.backup)",
            lambda spec: not spec.in_production or spec.backup is not None,
            "is required by profile Production: write when and where to the workspace is backed up, for example"
            " {schedule: 30 2 * * *, target: {type: VolumeClaim, claimName: backups}, passwordSecretRef: {name:"
            " backups}}",
            field="backup",
        ),
        Rule(
            "!has(self.backup) || self.workspace.type != 'EmptyDir'",
            lambda spec: spec.backup is None or spec.workspace.type is not WorkspaceType.EMPTY_DIR,
            _NEEDS_LASTING_WORKSPACE,
            field="backup",
        ),
        Rule(
            "!has(self.backup) || !self.backup.includeHome || has(self.workspace.keepHome)",
            lambda spec: spec.backup is None or not spec.backup.include_home or spec.workspace.keep_home is not None,
            "needs a home that is kept: set spec.workspace.keepHome, or remove it",
            field="backup.includeHome",
        ),
        Rule(
            "!has(self.backup) || self.backup.target.type"
            " != (self.backend.type == 'Docker' ? 'VolumeClaim' : 'HostDirectory')",
            lambda spec: (
                spec.backup is None
                or spec.backup.target.type
                is not (TargetType.VOLUME_CLAIM if spec.on_docker else TargetType.HOST_DIRECTORY)
            ),
            "is of the other backend: write VolumeClaim for a sandbox on Kubernetes, and HostDirectory for one on"
            " Docker",
            field="backup.target.type",
        ),
        Rule(
            "!has(self.backup) || !has(self.backup.volumeSnapshot) || self.backend.type != 'Docker'",
            lambda spec: spec.backup is None or spec.backup.volume_snapshot is None or not spec.on_docker,
            "is for a sandbox on Kubernetes, since a Docker Engine takes no snapshots: remove it. A suspended sandbox's"
            " backup is of one moment too",
            field="backup.volumeSnapshot",
        ),
        Rule(
            f"{_STAYS} || self.backend.type == 'Docker'",
            lambda spec: not spec.leaves_compromised_host or spec.on_docker,
            "is for a sandbox on a Docker host: remove it, or set spec.backend.type to Docker",
            field="backup.whenHostCompromised",
        ),
        Rule(
            f"{_STAYS} || self.backend.type != 'Docker' || self.backup.target.type in ['S3', 'SFTP']",
            lambda spec: not spec.leaves_compromised_host or not spec.on_docker or spec.backs_up_elsewhere,
            "needs backups that are kept somewhere else than on the host: write a target of type S3 or SFTP, or Stay",
            field="backup.whenHostCompromised",
        ),
        Rule(
            f"{_STAYS} || !has(self.backend.hostRef)",
            lambda spec: not spec.leaves_compromised_host or spec.backend.host_ref is None,
            "is for a sandbox that may be on several hosts, and spec.backend.hostRef names one: write a hostSelector or"
            " neither, or Stay",
            field="backup.whenHostCompromised",
        ),
        Rule(
            "!has(self.restoreFrom) || self.workspace.type != 'EmptyDir'",
            lambda spec: spec.restore_from is None or spec.workspace.type is not WorkspaceType.EMPTY_DIR,
            _NEEDS_LASTING_WORKSPACE,
            field="restoreFrom",
        ),
        Rule(
            "self.backend.type != 'Docker' || !has(self.workspace.storageClassName)",
            lambda spec: not spec.on_docker or spec.workspace.storage_class_name is None,
            "means nothing on backend type Docker, where the workspace is a volume of the host: remove it",
            field="workspace.storageClassName",
        ),
        Rule(
            "self.backend.type != 'Docker' || !has(self.image) || !has(self.image.pullSecretRefs)"
            " || size(self.image.pullSecretRefs) == 0",
            lambda spec: not spec.on_docker or spec.image is None or not spec.image.pull_secret_refs,
            "is not for backend type Docker, where images are pulled with what the DockerHost's administrator gives"
            " (its spec.images.credentials): remove it",
            field="image.pullSecretRefs",
        ),
        Rule(
            "self.backend.type != 'Docker' || !self.security.userNamespace",
            lambda spec: not spec.on_docker or not spec.security.user_namespace,
            "can't be true on backend type Docker, where an engine remaps the users of all containers or of none:"
            " remove it, and choose a host whose administrator has set userns-remap, or that is rootless",
            field="security.userNamespace",
        ),
        Rule(
            "self.backend.type == 'Docker' || self.security.executableScratch",
            lambda spec: spec.on_docker or spec.security.executable_scratch,
            "can't be false on backend type Kubernetes, where an emptyDir takes no mount options, so that programs in"
            " it can always be run: remove it, or set spec.backend.type to Docker",
            field="security.executableScratch",
        ),
        Rule(
            "self.backend.type == 'Docker' || self.network.ports.all(p, !has(p.hostPort) && !has(p.hostIP))",
            lambda spec: (
                spec.on_docker or all(port.host_port is None and port.host_ip is None for port in spec.network.ports)
            ),
            "can't have a hostPort or hostIP on backend type Kubernetes, where a Service leads to the port and nothing"
            " is published on nodes: remove them, or set spec.backend.type to Docker",
            field="network.ports",
        ),
    )

    TRANSITIONS = (
        Transition(
            "!has(self.restoreFrom) || (has(oldSelf.restoreFrom) && self.restoreFrom == oldSelf.restoreFrom)",
            "can only be removed, since the workspace is there already: make another sandbox",
            field="restoreFrom",
        ),
    )

    @property
    def on_docker(self) -> bool:
        """Whether the sandbox is a container on a Docker host."""
        return self.backend.type is BackendType.DOCKER

    @property
    def leaves_compromised_host(self) -> bool:
        """Whether it begins anew on another Docker host, with a backup, where its own is compromised."""
        return self.backup is not None and self.backup.leaves

    @property
    def backs_up_elsewhere(self) -> bool:
        """Whether its backups are kept by a server elsewhere."""
        return self.backup is not None and self.backup.target.is_elsewhere

    @property
    def egress_cidrs(self) -> tuple[str, ...]:
        """The networks that it may connect to directly."""
        declared = self.network.egress.allowed_cidrs
        if declared is not None:
            return tuple(declared)
        return () if self.credentials.brokered else networks.ANTHROPIC_CIDRS

    @property
    def asks_resolver(self) -> bool:
        """Whether it may ask the cluster's resolver."""
        declared = self.network.egress.dns
        return not self.credentials.brokered if declared is None else declared

    @property
    def follows_tag(self) -> bool:
        """Whether newer images under its tag are looked for."""
        return self.update_policy is not None and self.update_policy.follows

    @property
    def in_production(self) -> bool:
        """Whether unsafe choices are refused."""
        return self.profile is Profile.PRODUCTION

    @property
    def effective_read_only(self) -> bool:
        """Whether the workspace is read-only for the agent: as the profile says where the user did not."""
        read_only = self.workspace.read_only
        return self.in_production if read_only is None else read_only
