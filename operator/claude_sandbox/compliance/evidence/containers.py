"""What was read of one container from a Docker Engine, and what it is declared to be."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from claude_sandbox.api.fields.compliance import Level
from claude_sandbox.api.spec import AppArmorProfile, Profile, SeccompProfileType
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.evidence.probes import NOT_PROBED, ProbeReport
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import ClaudeCode, ManagedSettings, Object, Reading, Unread


@dataclass(frozen=True)
class DeclaredPort:
    """A TCP port of the container's, and the address of the host that it may be published on."""

    number: int
    address: str


@dataclass(frozen=True)
class Companion:
    """The container that publishes ports for another, or by which another gets out: its document, and in what it is
    not the desired one. `volume`: the name of the only one that it is meant to have; empty: none."""

    document: Object
    differences: tuple[str, ...] = ()
    volume: str = ""


@dataclass(frozen=True)
class Declared:
    """What the container is meant to be.

    What depends on a declaration that nobody made is Unknown: it is neither taken for meant nor for a mistake.
    Paths are paths in the container.
    """

    profile: Profile = Profile.DEVELOPMENT
    workspaces: frozenset[str] = frozenset()
    """The places that may be written to and keep their files."""
    mounts: frozenset[str] = field(default_factory=frozenset)
    """Where else something of the host or a secret is meant to be mounted, to be read."""
    peers: frozenset[str] = field(default_factory=frozenset)
    """Names of containers that are meant to be on the same network, for example a proxy."""
    ports: tuple[DeclaredPort, ...] | None = None
    """What may be connected to, by a relay; None where nobody declares that."""
    gateway: bool | None = None
    """Whether a gateway is its only way out, and holds its key; None where nobody declares that."""
    addresses: frozenset[str] | None = frozenset()
    """Addresses of the host, besides those of its loopback, that its administrator lets be published on.

    None: that is not known.
    """
    image_digest: str | None = None
    allowed_registries: tuple[str, ...] = ()
    """Registries, or registries with the beginning of a path, that images may come from. Empty: any."""
    image_refused: str = ""
    """Why its host's administrator does not allow the image; empty where nobody forbids it."""
    seccomp: SeccompProfileType = SeccompProfileType.RUNTIME_DEFAULT
    """The filter of system calls that it has at least."""
    app_armor: AppArmorProfile | None = None
    """What AppArmor is to hold it to; None: what the engine holds containers to that ask for nothing."""
    claude_code: ClaudeCode | None = None
    """Where Claude Code is to be from; None where nobody declares that."""
    managed_settings: ManagedSettings | None = None
    """Claude Code's; None where nobody declares them."""
    without_programs: frozenset[str] = field(default_factory=frozenset)
    """Scratch space in which no program is meant to be run."""
    lifetime: str = ""
    """By which field of its spec it ends at some time, whatever it does; empty: by none."""
    level: Level = Level.SANDBOX
    """Up to which level controls have to pass."""
    exemptions: tuple[Exemption, ...] = ()
    """What may fail for a while."""
    keeps_nothing: bool = False
    """Whether it is declared that there is no place that keeps what is written to it: its workspace is read-only."""


@dataclass(frozen=True)
class SettingsContent:
    """What the engine reads where the managed settings are to be: None where there are none. Never shown."""

    content: str | None


@dataclass(frozen=True)
class KeyPlace:
    """What the operator brought into the place of a container's key, by its own word for it.

    `placeholder`: whether it is known to be what only its gateway takes. `current`: whether it is for the key of this
    moment; None where that is not known.
    """

    placeholder: bool
    current: bool | None = None


@dataclass(frozen=True)
class Journal:
    """The journal of the engine's host, which the log driver journald writes to with all else that runs there.

    `most`: bytes that journald keeps of it, by its own word; `kept`: those that there are.
    """

    most: int
    kept: int


NOT_READ = Unread("nobody asked the engine for them")


@dataclass(frozen=True)
class ExecSession:
    """A session that somebody outside has in a container (`docker exec`), but for health checks: who it is.

    What the engine does not tell is None. An empty `user` is the container's own. What it runs is not kept: whatever
    somebody types may be a secret.
    """

    privileged: bool | None = None
    user: str | None = None


@dataclass(frozen=True)
class ExecSessions:
    """Who was let into a container from outside. `left`: whether one that has ended left processes there that the
    container itself can't have started; None where that could not be found out."""

    sessions: tuple[ExecSession, ...] = ()
    left: bool | None = False


@dataclass(frozen=True)
class EngineInfo:
    """What an engine says of itself that decides about its containers, as far as it was asked."""

    remaps_users: bool | None = None
    """Whether the engine gives containers users of their own (userns-remap, rootless); None where it was not asked."""
    unenforced: frozenset[str] = frozenset()
    """Limits that the engine is known to take and not to enforce, as `docker info` calls them (MemoryLimit, …)."""
    default_seccomp: str | None = None
    """The profile of containers that name none, as the engine calls it. Empty: it can't filter. None: not known."""
    isolates: bool | None = None
    """Whether it knows networks on which the host has no address (`gateway_mode` isolated); None: it was not asked."""


@dataclass(frozen=True)
class DockerEvidence:
    """Everything that is known about a container at `now`."""

    declared: Declared
    container: Reading[Object] | Unread
    """The container's document, as `docker inspect` prints it."""
    now: datetime
    networks: tuple[Object, ...] = ()
    """Documents of `docker network inspect`, of the container's networks and perhaps of others."""
    volumes: tuple[Object, ...] = ()
    """Documents of `docker volume inspect`."""
    process: Reading[Process] | Unread | None = None
    """What the kernel says of the container's first process, where the engine is on this machine.

    Unread: it says something, and that could not be understood. What it is a witness to is Unknown then, since a
    sandbox must gain nothing by confusing it. None: it says nothing.
    """
    drift: Reading[tuple[str, ...]] | Unread | None = None
    """In what the container differs from what it was made from; None where no ClaudeSandbox declares it."""
    outdated: bool = False
    """Whether it was made from another spec than the one that is asked for now."""
    engine: EngineInfo = EngineInfo()
    settings: Reading[SettingsContent] | Unread = NOT_READ
    """What the container has for managed settings."""
    journal: Reading[Journal] | Unread | None = None
    """Where its output goes to the host's journal, that; None where nobody asked for it."""
    key_place: KeyPlace | None = None
    """What is in the place of its key; None where that was not read, or nothing was brought."""
    relay: Companion | None = None
    """What publishes its ports, where something does; as old as `container`."""
    gateway: Companion | None = None
    """By what it gets out, where there is something; as old as `container`."""
    visits: ExecSessions | None = None
    """Who else is in it; None where only the container's own document tells of sessions."""
    probe: Reading[ProbeReport] | Unread = NOT_PROBED
    """What was tried from its place in the network, for as long as it has that place."""
    probe_max_age: timedelta = timedelta.max
    """A probe older than this proves nothing any more."""
    max_age: timedelta = timedelta.max
    """A reading older than this is stale, and makes results Unknown."""
