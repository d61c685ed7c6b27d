"""What a user asks for: the models of `ClaudeSandbox.spec`. Everything but the key has a safe default."""

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from claude_sandbox.api.rules import Rule

# Anthropic's published ranges of api.anthropic.com.
ANTHROPIC_CIDRS = ("160.79.104.0/23", "2607:6bc0::/48")

Quantity = Annotated[int | str, Field()]


class Model(BaseModel):
    """Base of all models: camelCase on the wire, unknown fields refused, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )
    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _rules(self) -> Self:
        for rule in self.RULES:
            if not rule.holds(self):
                raise ValueError(f"{rule.field}: {rule.message}" if rule.field else rule.message)
        return self


class Profile(StrEnum):
    """A set of defaults; Production refuses what Development merely reports."""

    DEVELOPMENT = "Development"
    PRODUCTION = "Production"


class BackendType(StrEnum):
    """Where the sandbox runs."""

    KUBERNETES = "Kubernetes"


class Backend(Model):
    """Where the sandbox runs."""

    type: BackendType = BackendType.KUBERNETES


class OperatingMode(StrEnum):
    """Whether the workload exists. A suspended sandbox keeps its workspace."""

    RUNNING = "Running"
    SUSPENDED = "Suspended"


class PullPolicy(StrEnum):
    """As a container's imagePullPolicy."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Image(Model):
    """The sandbox's image; without it the operator's own default, pinned by digest."""

    repository: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    tag: str | None = None
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT


class EnvVar(Model):
    """A literal environment variable. Credentials don't belong here."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
    value: Annotated[str, StringConstraints(max_length=4096)] = ""


class SecretKeyRef(Model):
    """A key of a Secret in the sandbox's own namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = "api-key"


class Credentials(Model):
    """How the agent authenticates to the Claude API."""

    api_key_secret_ref: SecretKeyRef
    """A Secret that opted in: of type `claudesandbox.dev/api-key`, or labelled `claudesandbox.dev/api-key: "true"`."""


class Resources(Model):
    """Limits of the workload; requests equal limits for memory and ephemeral storage."""

    cpu: Quantity = "2"
    memory: Quantity = "2Gi"
    ephemeral_storage: Quantity = "8Gi"


class WorkspaceType(StrEnum):
    """What holds /workspace."""

    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    EMPTY_DIR = "EmptyDir"


class Retention(StrEnum):
    """What becomes of the workspace's claim when the sandbox is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class Workspace(Model):
    """The agent's working directory, /workspace."""

    type: WorkspaceType = WorkspaceType.PERSISTENT_VOLUME_CLAIM
    size: Quantity = "10Gi"
    storage_class_name: str | None = None
    read_only: bool | None = None
    """Read-only for the agent. Default: false in Development, true in Production."""
    retention: Retention = Retention.RETAIN


class Egress(Model):
    """Where the agent may connect to. All else is denied."""

    allowed_cidrs: list[str] = Field(default=list(ANTHROPIC_CIDRS), alias="allowedCIDRs", max_length=64)
    dns: bool = True
    """Whether the cluster's resolver may be asked."""


class Port(Model):
    """A TCP port that pods of the same namespace may connect to."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=15)]
    container_port: Annotated[int, Field(ge=1024, le=65535)]


class Network(Model):
    """Default deny in both directions; these are the exceptions."""

    egress: Egress = Egress()
    ports: list[Port] = Field(default=[], max_length=32)


class UpdateStrategyType(StrEnum):
    """What happens when the running pod is not what the spec asks for and only a new pod could be."""

    ON_DELETE = "OnDelete"
    RECREATE = "Recreate"


class UpdateStrategy(Model):
    """OnDelete reports `Drifted` and leaves the pod alone; Recreate replaces it, keeping the workspace."""

    type: UpdateStrategyType = UpdateStrategyType.ON_DELETE


class ClaudeSandboxSpec(Model):
    """A hardened, isolated, measured workload for one Claude Code agent."""

    profile: Profile = Profile.DEVELOPMENT
    backend: Backend = Backend()
    operating_mode: OperatingMode = OperatingMode.RUNNING
    image: Image | None = None
    command: list[str] = Field(default=[], max_length=64)
    args: list[str] = Field(default=[], max_length=64)
    env: list[EnvVar] = Field(default=[], max_length=64)
    credentials: Credentials
    resources: Resources = Resources()
    workspace: Workspace = Workspace()
    network: Network = Network()
    update_strategy: UpdateStrategy = UpdateStrategy()
