"""The hardened workload, free of any backend. Both backends translate the same blueprint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from claude_sandbox.api.spec import HOST_ADDRESS, AppArmorProfile, Budget, SeccompProfileType


@dataclass(frozen=True)
class Identity:
    """Whose workload it is."""

    namespace: str
    name: str
    uid: str
    namespace_uid: str = field(default="", compare=False)
    """Which namespace of that name. Only what outlives the sandbox outside of it is told apart by it (Docker)."""
    workspace: int | None = field(default=None, compare=False)
    """Which of its workspaces it has; None: it does not say, and has the first."""


@dataclass(frozen=True)
class User:
    """Who the agent is in the container, numerically."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Amounts:
    """What the workload may use at most, or is promised: CPU in thousandths of a core, the rest in bytes."""

    cpu_millicores: int
    memory: int
    ephemeral_storage: int


@dataclass(frozen=True)
class Scratch:
    """A writable place in memory, gone with the workload. `size` in bytes.

    `executable`: whether programs in it can be run. Where a backend can't keep them from it, the API refuses the wish.
    """

    name: str
    path: str
    size: int
    executable: bool = True


@dataclass(frozen=True)
class Volume:
    """A workspace that outlives the workload. `size` as the user wrote it, `storage_class` None for the default."""

    size: str
    storage_class: str | None
    retain: bool


@dataclass(frozen=True)
class Workspace:
    """The agent's working directory. Without a volume it is as short-lived as the workload, of `size` bytes."""

    path: str
    size: int
    read_only: bool
    volume: Volume | None


@dataclass(frozen=True)
class KeptHome:
    """The directory in the home that outlives the workload, as the workspace does."""

    path: str
    volume: Volume


@dataclass(frozen=True)
class KeyFile:
    """The API key as the file `directory/file`, taken from one key of one Secret.

    The file is called the same whatever the key is: the settings that name it are kept as they are asked for now, in
    workloads that were made for another key too.
    """

    secret: str
    key: str
    directory: str
    file: str

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.file}"


@dataclass(frozen=True)
class SettingsFile:
    """Claude Code's managed settings: what a repository or the agent can't override.

    `pins` is what the operator alone says. `content` may have more (`instructions.py`), which what runs gets in place.
    `files`: what else is in the directory, by its path there.
    """

    directory: str
    file: str
    pins: str
    content: str
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Port:
    """A TCP port that may be connected to.

    On a Docker host it is published on the address `host_ip`, there on `host_port`; None: on any that is free.
    """

    name: str
    number: int
    host_ip: str = HOST_ADDRESS
    host_port: int | None = None


@dataclass(frozen=True)
class EgressBlock:
    """A network that may be connected to, but for some networks in it. All in CIDR notation."""

    cidr: str
    excepted: tuple[str, ...]


@dataclass(frozen=True)
class NetworkRules:
    """The exceptions from default deny in both directions. `egress_ports` are TCP ports of the egress networks."""

    egress: tuple[EgressBlock, ...]
    egress_ports: tuple[int, ...]
    dns: bool
    ports: tuple[Port, ...]


@dataclass(frozen=True)
class ServiceHeader:
    """The header that opens a service. `prefix`: what stands before the credential, which is a key of a Secret.

    `generation`: that Secret's, where the gateway is told of another one; None where it sees to that by itself.
    """

    name: str
    prefix: str
    secret: str
    key: str
    generation: str | None = None


@dataclass(frozen=True)
class GatewayService:
    """Another service as the gateway knows it. `paths` are patterns; `registry`: the type of a package registry."""

    name: str
    host: str
    header: ServiceHeader | None
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    per_minute: int
    registry: str | None


@dataclass(frozen=True)
class PushRules:
    """What may be pushed. `branches` and `protected_paths` are patterns."""

    branches: tuple[str, ...]
    force: bool
    delete: bool
    protected_paths: tuple[str, ...]


@dataclass(frozen=True)
class GatewayRepository:
    """A repository as the gateway knows it. `secret`: the Secret with its credential; `push`: None is read-only.

    `generation`: that Secret's, where the gateway is told of another one; None where it sees to that by itself.
    """

    url: str
    secret: str | None
    push: PushRules | None
    generation: str | None = None


@dataclass(frozen=True)
class Clone:
    """A repository that is cloned once before the agent starts. `path`: where to, in the workload.

    `url`: by https, as it would be asked for without a gateway. `depth`: commits of history, None for all.
    """

    path: str
    url: str
    ref: str | None
    depth: int | None
    submodules: bool
    lfs: bool


@dataclass(frozen=True)
class Git:
    """What a workload with repositories needs. `config`: git's for the whole system, which is a file beside the managed
    settings; `image`: the operator's own, which clones."""

    clones: tuple[Clone, ...]
    config: str
    image: "Image"


@dataclass(frozen=True)
class Gateway:
    """What a sandbox that never holds its key may do through its gateway, in the gateway's own words.

    `models`: patterns of names, none for every model. `domains`: where it may connect to besides the provider.
    `budget`: None is no limit. `oauth`: its credential is the token of a subscription, and no API key.
    """

    models: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    budget: Budget | None = None
    oauth: bool = False
    services: tuple[GatewayService, ...] = ()
    repositories: tuple[GatewayRepository, ...] = ()


@dataclass(frozen=True)
class Probe:
    """A command that succeeds in the container. Times in seconds."""

    command: tuple[str, ...]
    period: int
    timeout: int
    failures: int


@dataclass(frozen=True)
class Image:
    """What runs. `digest` is None where the user did not pin one.

    `pull_secrets`: names of Secrets of its namespace that a node logs in to the registry with.
    """

    reference: str
    digest: str | None
    pull_policy: str
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tools:
    """Claude Code with all that it needs of a system, which the operator's image brings into one that is anybody's.

    `image` has them in `directory`, and there they are mounted read-only; `size` bytes are enough for them.
    """

    image: Image
    directory: str
    size: int


@dataclass(frozen=True)
class Site:
    """What the operator's administrator decided for all sandboxes.

    `image` is what sandboxes run that name none; `opened` are the private networks that they may be let into.
    `strict_groups`: pods ask for the groups that they name and no others, which nodes with an old runtime refuse.
    `runtime_classes`: the RuntimeClasses that sandboxes may ask for. `strict_profile`: where the cluster's nodes have
    the Strict filter of system calls, below the kubelet's directory of filters; None: they have none.
    `app_armor_profiles`: those of its machines that sandboxes may ask for. `releases`: images as `image` is, with other
    releases of Claude Code, by the names under which sandboxes may ask for them.
    """

    image: Image
    opened: tuple[IPv4Network | IPv6Network, ...] = ()
    strict_groups: bool = True
    runtime_classes: frozenset[str] = frozenset()
    strict_profile: str | None = None
    app_armor_profiles: frozenset[str] = frozenset()
    releases: Mapping[str, Image] = field(default_factory=dict)

    def image_of(self, release: str | None) -> Image:
        """The operator's image with this release of Claude Code; None is the one that it gives sandboxes."""
        return self.image if release is None else self.releases.get(release, self.image)


@dataclass(frozen=True)
class Blueprint:
    """Everything that is decided about a workload.

    What is not a field is not a choice: no capability, no privilege escalation, a seccomp filter, a read-only root
    file system, no service account token, no namespace of the host.
    """

    identity: Identity
    running: bool
    image: Image
    command: tuple[str, ...]
    args: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    user: User
    # Whether groups that the image's own /etc/group gives the user are left out.
    strict_groups: bool
    seccomp: SeccompProfileType
    limits: Amounts
    requests: Amounts
    scratch: tuple[Scratch, ...]
    workspace: Workspace
    key: KeyFile
    settings: SettingsFile
    network: NetworkRules
    startup: Probe
    readiness: Probe
    liveness: Probe
    grace_seconds: int
    # None: its image has Claude Code in itself.
    tools: Tools | None = None
    # None: the sandbox holds its key itself.
    gateway: Gateway | None = None
    # None: what the cluster runs pods with that ask for nothing.
    runtime_class: str | None = None
    # Where nodes have the Strict filter; None: the backend brings it there, or the workload has another.
    seccomp_file: str | None = None
    # What AppArmor is to hold it to; None: what it holds workloads to that ask for nothing, where there is AppArmor.
    app_armor: AppArmorProfile | None = None
    # Whether users in the workload are other users on its node.
    user_namespace: bool = False
    # None: nothing in the home outlives the workload.
    kept_home: KeptHome | None = None
    # Whether something that it is to be told is not there: then none is made, nor one that runs replaced.
    held: bool = False
    # Whether what runs gives way to its new image, whatever is asked for of a workload that differs.
    exchanged: bool = False
    # Why a ClaudeImagePolicy refuses its image; empty: none does. What runs of it may go on.
    image_refused: str = ""
    # None: there are no repositories.
    git: Git | None = None
    # By which field of the spec it ends at some time, whatever it does; empty: by none.
    lifetime: str = ""

    @property
    def is_filled(self) -> bool:
        """Whether something is written to its workspace: by the agent, or by what clones before it starts."""
        return not self.workspace.read_only or self.git is not None

    @property
    def writable(self) -> tuple[str, ...]:
        """The directories in which the sandbox may write."""
        workspace = () if self.workspace.read_only else (self.workspace.path,)
        kept = () if self.kept_home is None else (self.kept_home.path,)
        return (*(scratch.path for scratch in self.scratch), *workspace, *kept)
