"""What a user asks for: the models of `ClaudeSandbox.spec`. Everything but the key has a safe default."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import ConfigDict, Field

from claude_sandbox.api import names, networks
from claude_sandbox.api.credentials.leaks import (
    NAME_IS_FREE,
    NAME_IS_NO_CREDENTIAL,
    NO_ASSIGNMENT,
    NO_CREDENTIAL,
    NO_CREDENTIAL_IN_HEADERS,
    NO_HEADER,
    NO_TAKEN_CREDENTIAL,
)
from claude_sandbox.api.labels import LabelSelector
from claude_sandbox.api.meta import MAX_HOST_NAME_LENGTH
from claude_sandbox.api.model import Choice, Model
from claude_sandbox.api.networks import ANTHROPIC_CIDRS
from claude_sandbox.api.quantity import Quantity, at_least, at_most
from claude_sandbox.api.rules import Rule, Transition, UniqueBy, literal
from claude_sandbox.claudecode import pinned

# In characters. Long prompts belong in the workspace; a bound keeps the API server's checks within their budget.
MAX_ARGUMENT = 4096
MAX_COMMAND_LINE = 32768
MAX_ENVIRONMENT = 32768


class Strict(Model):
    """A model of what users write: no type is converted into another."""

    model_config = ConfigDict(strict=True)


class Profile(Choice):
    """A set of defaults; Production refuses what Development merely reports."""

    DEVELOPMENT = "Development"
    PRODUCTION = "Production"


class BackendType(Choice):
    """What runs the sandbox."""

    KUBERNETES = "Kubernetes"
    DOCKER = "Docker"


class HostRef(Strict):
    """A DockerHost."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_HOST_NAME_LENGTH), names.HOST_REFERENCE]
    """The DockerHost's name."""


def _only_on_docker(name: str) -> Rule:
    attribute = {"hostRef": "host_ref", "hostSelector": "host_selector"}[name]
    return Rule(
        f"self.type == 'Docker' || !has(self.{name})",
        lambda backend: backend.type is BackendType.DOCKER or getattr(backend, attribute) is None,
        "is only for backend type Docker: remove it, or set spec.backend.type to Docker",
        field=name,
    )


class Backend(Strict):
    """Where the sandbox runs. It can't be changed later, since the workspace would be left behind."""

    type: BackendType = BackendType.KUBERNETES
    """What runs the sandbox. Kubernetes: a pod in the sandbox's own namespace. Docker: a container on a DockerHost.

    A DockerHost has to allow the sandbox's namespace.
    """
    host_ref: HostRef | None = None
    """The one DockerHost to run on. Without it and without a selector, any that allows the namespace and has room."""
    host_selector: LabelSelector | None = None
    """Chooses among the DockerHosts by their labels. The choice is made once."""

    RULES = (
        _only_on_docker("hostRef"),
        _only_on_docker("hostSelector"),
        Rule(
            "!has(self.hostRef) || !has(self.hostSelector)",
            lambda backend: backend.host_ref is None or backend.host_selector is None,
            "must not be beside hostRef, which names the host already: remove one of them",
            field="hostSelector",
        ),
    )
    # The API server also tries this on the schema's own default, against an object without any field.
    TRANSITIONS = (
        Transition(
            "!has(oldSelf.type) || self == oldSelf",
            "can't be changed, since the workspace would be left behind: make a new sandbox and copy the files",
        ),
    )


class OperatingMode(Choice):
    """Whether the workload exists. A suspended sandbox keeps its workspace."""

    RUNNING = "Running"
    SUSPENDED = "Suspended"


class PullPolicy(Choice):
    """As a container's imagePullPolicy."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Image(Strict):
    """The sandbox's image; without it the operator's own default, pinned by digest."""

    repository: Annotated[str, Field(min_length=1, max_length=255), names.REPOSITORY]
    """The image's name, with its registry but without tag and digest."""
    tag: Annotated[str, Field(max_length=128), names.TAG] | None = None
    """The tag. Beside a digest it only informs: the digest decides what runs."""
    digest: Annotated[str, Field(max_length=71), names.DIGEST] | None = None
    """The digest, `sha256:` and 64 hexadecimal digits. Production requires one."""
    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When the node pulls the image, as a container's imagePullPolicy."""

    RULES = (
        Rule(
            "has(self.tag) || has(self.digest)",
            lambda image: image.tag is not None or image.digest is not None,
            "needs a tag or, better, a digest: write spec.image.tag, or spec.image.digest to be certain what runs",
        ),
        Rule(
            # With a tag of 64 digits a runtime takes it for the identifier of whatever image it has.
            "!(self.repository in ['sha256', 'sha384', 'sha512'])",
            lambda image: image.repository not in ("sha256", "sha384", "sha512"),
            "must not be the name of a kind of digest, which with a tag names an image by its identifier: write the"
            " repository with its registry, for example docker.io/library/sha256",
            field="repository",
        ),
    )


# Upper-case; names are compared without regard to case, since programs read proxies in either.
_DECIDED = sorted({name.upper() for name in pinned.environment()} - set(pinned.CHOICES) | set(pinned.TRUSTS))
_NAME_IS_UNDECIDED = Rule(
    f"!(self.upperAscii() in [{', '.join(literal(name) for name in _DECIDED)}])",
    lambda name: name.upper() not in _DECIDED,
    "is not for a sandbox to set: Claude Code's managed settings decide where its requests and its key go, by what way"
    " and whom it believes, whatever is set here: leave it out (this version has no way through a proxy of your own,"
    " nor to an authority of your own)",
)


class EnvVar(Strict):
    """A literal environment variable. Credentials don't belong here."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=128),
        names.ENV_NAME,
        NAME_IS_NO_CREDENTIAL,
        *NAME_IS_FREE,
        _NAME_IS_UNDECIDED,
    ]
    """The variable's name. Names of credentials, those that the operator sets itself, and those that managed settings
    decide about (proxies, certificates, where requests go), are refused."""
    value: Annotated[str, Field(max_length=MAX_ARGUMENT), *NO_CREDENTIAL] = ""
    """The variable's value. What looks like a credential is refused."""

    RULES = (NO_CREDENTIAL_IN_HEADERS,)


class SecretKeyRef(Strict):
    """A key of a Secret in the sandbox's own namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_NAME]
    """The Secret's name. It has to be in the sandbox's own namespace."""
    key: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_KEY] = "api-key"
    """Which of the Secret's keys holds the Claude API key."""


class Credentials(Strict):
    """How the agent authenticates to the Claude API."""

    api_key_secret_ref: SecretKeyRef
    """The Claude API key, in a Secret that opted in.

    A Secret opts in by its type `claudesandbox.dev/api-key`, or by the label `claudesandbox.dev/api-key: "true"`.
    """


class Resources(Strict):
    """Limits of the workload; requests equal limits for memory and ephemeral storage."""

    cpu: Annotated[Quantity, at_least("100m"), at_most("512")] = "2"
    """CPU limit, in cores."""
    memory: Annotated[
        Quantity,
        at_least("256Mi", ": Claude Code alone takes up to 210 MB; write a unit, for example 2Gi"),
        at_most("16Ti"),
    ] = "2Gi"
    """Memory limit. Files in /tmp and in the home directory count towards it."""
    ephemeral_storage: Annotated[Quantity, at_least("64Mi", ": write a unit, for example 8Gi"), at_most("64Ti")] = "8Gi"
    """Limit of the node's disk that logs, writable layers and an EmptyDir workspace may take."""


class WorkspaceType(Choice):
    """What holds /workspace."""

    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    EMPTY_DIR = "EmptyDir"


class Retention(Choice):
    """What becomes of the workspace's claim when the sandbox is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


def _only_with_claim(name: str) -> Rule:
    attribute = {"retention": "retention", "storageClassName": "storage_class_name"}[name]
    return Rule(
        f"self.type == 'PersistentVolumeClaim' || !has(self.{name})",
        lambda workspace: (
            workspace.type is WorkspaceType.PERSISTENT_VOLUME_CLAIM or getattr(workspace, attribute) is None
        ),
        "is only for workspaces of type PersistentVolumeClaim: an EmptyDir is gone with its pod; remove it, or change"
        " spec.workspace.type",
        field=name,
    )


class Workspace(Strict):
    """The agent's working directory, /workspace."""

    type: WorkspaceType = WorkspaceType.PERSISTENT_VOLUME_CLAIM
    """What holds the workspace: a PersistentVolumeClaim, on Docker a volume of the host, or something short-lived.

    An EmptyDir is gone with its pod or container. The type can't be changed later.
    """
    size: Annotated[Quantity, at_least("16Mi", ": write a unit, for example 10Gi"), at_most("1Pi")] = "10Gi"
    """How large the workspace is. That of a PersistentVolumeClaim can only grow."""
    storage_class_name: Annotated[str, Field(min_length=1, max_length=253), names.STORAGE_CLASS] | None = None
    """The claim's StorageClass; without it the cluster's default. It can't be changed later."""
    read_only: bool | None = None
    """Read-only for the agent. Default: false in Development, true in Production."""
    retention: Retention | None = None
    """What becomes of the claim when the sandbox is deleted. Default: Retain. Only for a PersistentVolumeClaim."""

    RULES = (
        _only_with_claim("retention"),
        _only_with_claim("storageClassName"),
        Rule(
            "self.type != 'EmptyDir' || !has(self.readOnly) || !self.readOnly",
            lambda workspace: workspace.type is not WorkspaceType.EMPTY_DIR or not workspace.read_only,
            "must not be true for an EmptyDir, which starts empty and would stay so: remove it, or set"
            " spec.workspace.type to PersistentVolumeClaim",
            field="readOnly",
        ),
    )
    # The API server also tries these on the schema's own default, against an object without any field.
    TRANSITIONS = (
        Transition(
            "!has(oldSelf.type) || self.type == oldSelf.type",
            "can't be changed, since the files would be left behind: make a new sandbox and copy them",
            field="type",
        ),
        Transition(
            "has(self.storageClassName) == has(oldSelf.storageClassName)"
            " && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
            "can't be changed, as a claim's can't: make a new sandbox and copy the files",
            field="storageClassName",
        ),
        Transition(
            "self.type == 'EmptyDir' || !has(oldSelf.size)"
            " || !isQuantity(string(self.size)) || !isQuantity(string(oldSelf.size))"
            " || quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",
            "can only grow, as a claim can: write the old size or a larger one",
            field="size",
        ),
    )

    @property
    def effective_retention(self) -> Retention:
        """What becomes of the claim: Retain where the user did not say."""
        return self.retention or Retention.RETAIN


class Egress(Strict):
    """Where the agent may connect to. All else is denied."""

    allowed_cidrs: Annotated[
        list[
            Annotated[str, Field(min_length=1, max_length=43), networks.CANONICAL, networks.NARROW, networks.PERMITTED]
        ],
        Field(max_length=64),
        networks.DISTINCT,
    ] = Field(default=list(ANTHROPIC_CIDRS), alias="allowedCIDRs")
    """Networks that may be connected to, on the allowed ports. Default: Anthropic's published ranges of its API."""
    allowed_ports: Annotated[
        list[Annotated[int, Field(ge=1, le=65535)]], Field(min_length=1, max_length=32), networks.DISTINCT_PORTS
    ] = [443]
    """TCP ports of those networks. To allow no connection, leave allowedCIDRs empty."""
    dns: bool = True
    """Whether the cluster's resolver may be asked."""


HOST_ADDRESS = "127.0.0.1"
"""Where a port is published on a Docker host that names no address."""


class Port(Strict):
    """A TCP port of the agent's that others may connect to.

    On Kubernetes pods of the same namespace may; on Docker it is published on an address of the host.
    """

    name: Annotated[str, Field(min_length=1, max_length=15), names.PORT_NAME, names.PORT_NAME_HAS_LETTER]
    """A name for the port, for example http."""
    container_port: Annotated[int, Field(ge=1024, le=65535)]
    """The port's number. Ports below 1024 would need a privilege that a sandbox never has."""
    host_port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """The Docker host's port that leads to it. Without it the engine chooses a free one: see status.endpoints.

    It has to be one that the DockerHost's spec.publishPorts allows, by default 30000 to 32767.
    """
    host_ip: Annotated[str, Field(min_length=1, max_length=39), networks.ADDRESS] | None = Field(
        default=None, alias="hostIP"
    )
    """The Docker host's address that it is published on. Default: 127.0.0.1, so that only the host itself can connect.

    127.0.0.1 and ::1 are always allowed; any other has to be in the DockerHost's spec.publishAddresses.
    """

    @property
    def effective_host_ip(self) -> str:
        """Where it is published: only for the host itself where the user did not say."""
        return self.host_ip or HOST_ADDRESS


_DISTINCT_PORTS = Rule(
    "self.all(a, self.exists_one(b, a.containerPort == b.containerPort))",
    lambda ports: len({port.container_port for port in ports}) == len(ports),
    "lists a containerPort twice: write each once",
)
_DISTINCT_HOST_PORTS = Rule(
    "self.all(a, !has(a.hostPort) || self.exists_one(b, has(b.hostPort) && a.hostPort == b.hostPort))",
    lambda ports: len(asked := [port.host_port for port in ports if port.host_port is not None]) == len(set(asked)),
    "lists a hostPort twice: a port of the host can lead to one port only",
)


class Network(Strict):
    """Default deny in both directions; these are the exceptions."""

    egress: Egress = Egress()
    """Where the agent may connect to."""
    ports: Annotated[list[Port], Field(max_length=32), UniqueBy("name"), _DISTINCT_PORTS, _DISTINCT_HOST_PORTS] = []
    """The agent's own ports that others may connect to: pods of the same namespace, or on Docker who reaches the host.
    """


class SeccompProfileType(Choice):
    """Which filter of system calls the kernel holds the agent to. There is none without one."""

    RUNTIME_DEFAULT = "RuntimeDefault"
    STRICT = "Strict"


class SeccompProfile(Strict):
    """The filter of system calls, as a container's securityContext has one."""

    type: SeccompProfileType = SeccompProfileType.RUNTIME_DEFAULT
    """RuntimeDefault: what the runtime lets through. Strict: only what Claude Code and ordinary development need.

    Strict also refuses debuggers, sockets but for IP, Unix and route netlink, and 32-bit programs. It is for backend
    type Docker. Unconfined and profiles of one's own can't be chosen.
    """


class Security(Strict):
    """What can be tightened beyond the defaults. Nothing here can loosen them."""

    seccomp_profile: SeccompProfile = SeccompProfile()
    """Which system calls the kernel carries out for the agent."""


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


class ClaudeSandboxSpec(Strict):
    """A hardened, isolated, measured workload for one Claude Code agent."""

    profile: Profile = Profile.DEVELOPMENT
    """Development reports unsafe choices; Production has safer defaults and refuses them.

    Production requires an image's digest, keeps the workspace read-only and refuses wide networks.
    """
    backend: Backend = Backend()
    """Where the sandbox runs."""
    operating_mode: OperatingMode = OperatingMode.RUNNING
    """Whether the workload exists. A suspended sandbox has none and keeps its workspace."""
    image: Image | None = None
    """The sandbox's image; without it the operator's own default."""
    command: Annotated[list[Argument], Field(max_length=16)] = []
    """The container's entrypoint, not run in a shell. Without it the image's own."""
    args: Annotated[list[Argument], Field(max_length=64)] = []
    """Arguments of the entrypoint."""
    env: Annotated[list[EnvVar], Field(max_length=64), UniqueBy("name")] = []
    """Environment variables, literals only. They are readable by everyone who may read the sandbox."""
    credentials: Credentials
    """How the agent authenticates to the Claude API."""
    resources: Resources = Resources()
    """Limits of the workload."""
    workspace: Workspace = Workspace()
    """The agent's working directory."""
    network: Network = Network()
    """Who may connect to whom. Everything else is denied in both directions."""
    security: Security = Security()
    """What is tightened beyond the defaults."""
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
            "self.profile != 'Production' || !has(self.image) || has(self.image.digest)",
            lambda spec: not spec.in_production or spec.image is None or spec.image.digest is not None,
            "is required by profile Production, since a tag can be moved: write the image's digest"
            " (sha256:…), or leave out spec.image",
            field="image.digest",
        ),
        Rule(
            "self.profile != 'Production' || !has(self.workspace.readOnly) || self.workspace.readOnly",
            lambda spec: not spec.in_production or spec.workspace.read_only is not False,
            "must not be false in profile Production: remove it, or use profile Development",
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
            "self.profile != 'Production' || self.network.egress.allowedCIDRs.all(c,"
            f" {networks.narrow_cel('c', networks.WIDEST_IN_PRODUCTION)})",
            lambda spec: (
                not spec.in_production
                or all(
                    networks.narrow(cidr, networks.WIDEST_IN_PRODUCTION) for cidr in spec.network.egress.allowed_cidrs
                )
            ),
            "has a network that is too wide for profile Production: IPv4 destinations need at least"
            f" /{networks.WIDEST_IN_PRODUCTION[0]} and IPv6 at least /{networks.WIDEST_IN_PRODUCTION[1]}",
            field="network.egress.allowedCIDRs",
        ),
        Rule(
            "self.backend.type != 'Docker' || !has(self.workspace.storageClassName)",
            lambda spec: not spec.on_docker or spec.workspace.storage_class_name is None,
            "means nothing on backend type Docker, where the workspace is a volume of the host: remove it",
            field="workspace.storageClassName",
        ),
        Rule(
            "self.backend.type == 'Docker' || self.security.seccompProfile.type != 'Strict'",
            lambda spec: spec.on_docker or spec.security.seccomp_profile.type is not SeccompProfileType.STRICT,
            "can't be Strict on backend type Kubernetes, where a profile is a file on every node, which nothing in a"
            " pod brings there: use RuntimeDefault, or set spec.backend.type to Docker",
            field="security.seccompProfile.type",
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

    @property
    def on_docker(self) -> bool:
        """Whether the sandbox is a container on a Docker host."""
        return self.backend.type is BackendType.DOCKER

    @property
    def in_production(self) -> bool:
        """Whether unsafe choices are refused."""
        return self.profile is Profile.PRODUCTION

    @property
    def effective_read_only(self) -> bool:
        """Whether the workspace is read-only for the agent: as the profile says where the user did not."""
        read_only = self.workspace.read_only
        return self.in_production if read_only is None else read_only
