"""What is known of a sandbox's container, in the terms in which compliance is judged. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.spec import Level, Profile
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.docker import drift
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.images import tools
from claude_sandbox.backends.docker.names import Names
from claude_sandbox.backends.docker.objects import Documents
from claude_sandbox.blueprint.model import Blueprint
from claude_sandbox.blueprint.tools import DIRECTORY
from claude_sandbox.compliance.evidence.containers import (
    NOT_READ,
    Companion,
    Declared,
    DeclaredPort,
    DockerEvidence,
    EngineInfo,
    ExecSessions,
    KeyPlace,
    SettingsContent,
)
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.evidence.probes import NOT_PROBED, ProbeReport
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import ClaudeCode, ManagedSettings, Reading, Unread
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.compliance.reports.isolation import Judgement, proven

# The events tell of changes at once; a sweep looks at everything this often at least.
MAX_AGE = timedelta(minutes=10)


def declared(
    blueprint: Blueprint,
    profile: Profile,
    allowed_registries: tuple[str, ...],
    called: Names | None,
    *,
    addresses: tuple[str, ...] | None = (),
    image_refused: str = "",
    cluster: str = "",
    level: Level = Level.SANDBOX,
    exemptions: tuple[Exemption, ...] = (),
) -> Declared:
    """What the container is meant to be. `called`: how it and what is beside it are called; None where that is not
    known. `cluster`: the control plane that it is of.

    `addresses`: of the host, on which it may; None where they are not known.
    """
    kept = frozenset(() if blueprint.kept_home is None else (blueprint.kept_home.path,))
    # A workspace that is read-only is not where may be written.
    workspaces = kept if blueprint.workspace.read_only else kept | {blueprint.workspace.path}
    return Declared(
        profile=profile,
        lifetime=blueprint.lifetime,
        level=level,
        exemptions=exemptions,
        seccomp=blueprint.seccomp,
        app_armor=blueprint.app_armor,
        workspaces=workspaces,
        keeps_nothing=not workspaces,
        without_programs=frozenset(scratch.path for scratch in blueprint.scratch if not scratch.executable),
        mounts=frozenset(
            {
                *(blueprint.key.directory, blueprint.settings.directory, blueprint.workspace.path),
                *((blueprint.tools.directory,) if blueprint.tools is not None else ()),
                *kept,
            }
        ),
        peers=frozenset(_peers(blueprint, called)) if called is not None else frozenset(),
        gateway=blueprint.gateway is not None,
        ports=tuple(DeclaredPort(port.number, port.host_ip) for port in blueprint.network.ports),
        addresses=None if addresses is None else frozenset(addresses),
        image_digest=blueprint.image.digest,
        allowed_registries=allowed_registries,
        image_refused=image_refused,
        claude_code=_claude_code(blueprint, cluster),
        managed_settings=ManagedSettings(
            blueprint.settings.directory,
            blueprint.settings.file,
            blueprint.settings.content,
            blueprint.settings.files,
        ),
    )


def _claude_code(blueprint: Blueprint, cluster: str) -> ClaudeCode:
    brought = blueprint.tools
    if brought is None:
        return ClaudeCode(blueprint.image.reference, DIRECTORY)
    volume = tools.volume_of(cluster, brought)
    return ClaudeCode(brought.image.reference, brought.directory, True, blueprint.command, (volume,))


def _peers(blueprint: Blueprint, called: Names) -> Iterator[str]:
    if blueprint.network.ports:
        yield called.relay
    if blueprint.gateway is not None:
        yield called.gateway


def evidence(
    meant: Declared,
    container: Object | str,
    networks: Sequence[Object],
    volumes: Sequence[Object],
    seen: datetime,
    now: datetime,
    *,
    process: Reading[Process] | Unread | None = None,
    drifted: tuple[str, ...] = (),
    outdated: bool = False,
    capabilities: EngineCapabilities | None = None,
    relay: Companion | None = None,
    gateway: Companion | None = None,
    visits: ExecSessions | None = None,
    settings: Reading[SettingsContent] | Unread = NOT_READ,
    key_place: KeyPlace | None = None,
    probe: Reading[ProbeReport] | Unread = NOT_PROBED,
    probe_max_age: timedelta = timedelta.max,
) -> DockerEvidence:
    """Everything that was read of the container, as it was read. Instead of a container, why none was read.

    `drifted`, `outdated` and the engine's `capabilities` are of when the container was `seen`.
    """
    return DockerEvidence(
        declared=meant,
        container=Unread(container) if isinstance(container, str) else Reading(container, EvidenceSource.INSPECT, seen),
        now=now,
        networks=tuple(networks),
        volumes=tuple(volumes),
        process=process,
        drift=Reading(drifted, EvidenceSource.INSPECT, seen),
        outdated=outdated,
        engine=word_of(capabilities),
        relay=relay,
        gateway=gateway,
        visits=visits,
        settings=settings,
        key_place=key_place,
        probe=probe,
        probe_max_age=probe_max_age,
        max_age=MAX_AGE,
    )


def word_of(capabilities: EngineCapabilities | None) -> EngineInfo:
    """What of the engine's capabilities decides about its containers; None: it was not asked."""
    if capabilities is None:
        return EngineInfo()
    return EngineInfo(
        capabilities.gives_users, capabilities.unenforced, capabilities.seccomp, capabilities.knows_isolated
    )


def isolation(
    wanted: Documents,
    container: Object | None,
    network: Object | None,
    found: Sequence[Finding] = (),
    *,
    under_way: bool = False,
) -> Judgement:
    """The `IsolationVerified` condition: by the documents, and where they are right by what the controls found.
    `under_way`: whether the first probe is.
    """
    if container is None:
        return ConditionStatus.UNKNOWN, Reason.NO_WORKLOAD, "There is no container to isolate."
    others = sorted(drift.networks_of(container).keys() - {wanted.names.network})
    if others:
        return ConditionStatus.FALSE, Reason.POLICY_WIDENED, f"The container is on other networks: {', '.join(others)}."
    if network is None:
        return ConditionStatus.FALSE, Reason.POLICY_MISSING, f"There is no network {wanted.names.network}."
    if paths := drift.network_differences(wanted.network, network):
        return (
            ConditionStatus.FALSE,
            Reason.POLICY_WIDENED,
            f"The network {wanted.names.network} is not the desired one: {', '.join(paths)}.",
        )
    return proven(found, "The only network is the sandbox's own and internal", under_way=under_way)
