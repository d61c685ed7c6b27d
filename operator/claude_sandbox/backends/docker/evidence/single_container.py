"""One container, a sandbox's or not, read once and whole: the evidence for its controls without a running operator.

Reads only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.api.validate import InvalidSpec, parse_spec
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.drift import container_differences, networks_of
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object, labels, name_of
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.events.exec_sessions import left_behind, sessions_in
from claude_sandbox.backends.docker.evidence.container import declared, word_of
from claude_sandbox.backends.docker.evidence.file_looks import look_at
from claude_sandbox.backends.docker.evidence.journal import journal_of
from claude_sandbox.backends.docker.evidence.proc import witness_of
from claude_sandbox.backends.docker.images.tools import LABEL_IMAGE
from claude_sandbox.backends.docker.keys.key_place import read_place
from claude_sandbox.backends.docker.keys.managed_settings import settings_of
from claude_sandbox.backends.docker.objects import documents, spec_hash
from claude_sandbox.backends.kubernetes.evidence.single_pod import Standard
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.blueprint.tools import DIRECTORY
from claude_sandbox.compliance.evidence.containers import NOT_READ, Companion, Declared, DockerEvidence, ExecSessions
from claude_sandbox.compliance.evidence.exemptions import exemptions_of
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import Reading, Unread

SandboxOf = Callable[[Identity], Awaitable[Object | str]]
"""Reads a ClaudeSandbox; instead of one, why it can't be read."""


@dataclass(frozen=True)
class Survey:
    """What was read of a container, and what it is measured against."""

    container: Object
    evidence: DockerEvidence
    note: str = ""
    """Why it is not measured against the ClaudeSandbox that it says it belongs to."""


async def survey(
    engine: Engine, name: str, standard: Standard, meant: Declared, sandbox_of: SandboxOf, *, local: bool
) -> Survey | None:
    """Read a container by its name or identifier; None where there is none. Raises EngineError.

    A sandbox's container is measured against its ClaudeSandbox, any other against `meant`. `local`: whether the engine
    may be on this machine, so that its kernel can be asked as well.
    """
    container = await engine.container(name)
    if container is None:
        return None
    read_at = datetime.now(UTC)
    process = await asyncio.to_thread(_witness, container, read_at) if local else None
    networks, volumes, sessions, capabilities = await asyncio.gather(
        _all(engine.network, {identifier or name for name, identifier in networks_of(container).items()}),
        _all(engine.volume, {str(one["Name"]) for one in container.get("Mounts") or () if one.get("Name")}),
        sessions_in(engine, container),
        _capabilities(engine),
    )
    against, blueprint, note = await _against(engine, container, standard, meant, sandbox_of)
    evidence = DockerEvidence(
        declared=against,
        container=Reading(container, EvidenceSource.INSPECT, read_at),
        now=datetime.now(UTC),
        networks=networks,
        volumes=volumes,
        process=process,
        journal=await journal_of(container, read_at) if local else None,
        drift=None if blueprint is None else await _drift(engine, container, blueprint, capabilities, read_at),
        engine=word_of(capabilities),
        relay=await _relay(engine, container, blueprint),
        gateway=await _gateway(engine, container, blueprint),
        # Of what is no sandbox it is not known whether it may have processes of several users.
        visits=ExecSessions(sessions, False if blueprint is None else await left_behind(engine, container)),
        key_place=None if blueprint is None else await read_place(engine, container, blueprint.key),
        settings=NOT_READ
        if blueprint is None or note
        else await settings_of(engine, container, blueprint.settings, read_at),
    )
    return Survey(container, evidence, note)


def _witness(container: Object, at: datetime) -> Reading[Process] | Unread | None:
    """What the kernel says, and what its own files are, for which nobody has looked before."""
    found = witness_of(container, at)
    if not isinstance(found, Reading):
        return found
    return replace(found, value=replace(found.value, files=look_at(container, found.value)))


async def _capabilities(engine: Engine) -> EngineCapabilities | None:
    """None where the engine may not be asked about itself."""
    try:
        return await engine.capabilities()
    except EngineError as error:
        if error.is_unreachable:
            raise
        return None


async def _relay(engine: Engine, container: Object, blueprint: Blueprint | None) -> Companion | None:
    """What publishes the ports of a sandbox's container, if something does."""
    if blueprint is None or not blueprint.network.ports:
        return None
    called = names.names_of(str(labels(container)[names.LABEL_CLUSTER]), blueprint.identity)
    found = await engine.container(called.relay)
    return None if found is None else Companion(found)


async def _gateway(engine: Engine, container: Object, blueprint: Blueprint | None) -> Companion | None:
    """By what a sandbox that holds no key gets out, if something is there."""
    if blueprint is None or blueprint.gateway is None:
        return None
    called = names.names_of(str(labels(container)[names.LABEL_CLUSTER]), blueprint.identity)
    found = await engine.container(called.gateway)
    return None if found is None else Companion(found, volume=called.accounts)


async def _drift(
    engine: Engine, container: Object, blueprint: Blueprint, capabilities: EngineCapabilities | None, read_at: datetime
) -> Reading[tuple[str, ...]] | Unread:
    """In what the container is not the one that the operator would make."""
    if capabilities is None:
        return Unread("the engine could not be asked what it can do (docker info)")
    (image,) = await _all(engine.image, {str(container.get("Image", ""))}) or (None,)
    wanted = documents(blueprint, str(labels(container)[names.LABEL_CLUSTER]), capabilities)
    found = container_differences(wanted.container, container, image, capabilities)
    return Reading((*found.updatable, *found.fixed), EvidenceSource.INSPECT, read_at)


async def _against(
    engine: Engine, container: Object, standard: Standard, meant: Declared, sandbox_of: SandboxOf
) -> tuple[Declared, Blueprint | None, str]:
    """What the container is declared to be, by the blueprint of its ClaudeSandbox where it has one, and what has to be
    said about that.
    """
    found = labels(container)
    cluster = str(found.get(names.LABEL_CLUSTER) or "")
    identity = names.identity_in(found, cluster)
    if identity is None or found.get(names.LABEL_COMPONENT) != names.AGENT:
        return meant, None, ""
    whose = f"ClaudeSandbox {identity.namespace}/{identity.name}"
    if names.names_of(cluster, identity).container != name_of(container):
        return meant, None, f"it has the labels of {whose}, and not the name of its container"
    sandbox = await sandbox_of(identity)
    if isinstance(sandbox, str):
        return meant, None, f"it is not measured against its {whose}, which could not be read: {sandbox}"
    if sandbox["metadata"]["uid"] != identity.uid:
        return meant, None, f"it belongs to an earlier {whose}"
    try:
        spec = parse_spec(sandbox)
    except InvalidSpec as error:
        return meant, None, f"it is not measured against its {whose}, whose spec is not valid: {error}"
    # As a pod's: an image that nobody names is the one that it has.
    brought = await _brought_from(engine, container) if spec.image is not None else None
    image = standard.image or parse_image(brought or str(container["Config"]["Image"]), "IfNotPresent")
    blueprint = build(identity, spec, Site(image, standard.opened))
    called = names.names_of(cluster, identity)
    profile = standard.profile or spec.profile
    level = standard.level or spec.compliance.level
    allowed = standard.allowed_registries
    wanted = declared(
        blueprint,
        profile,
        allowed,
        called,
        addresses=None,
        cluster=cluster,
        level=level,
        exemptions=exemptions_of(spec.compliance),
    )
    # Of what was made from just this, the image is known.
    certain = standard.image is not None or found.get(names.LABEL_SPEC_HASH) == spec_hash(blueprint, cluster)
    wanted = replace(wanted, claude_code=wanted.claude_code and replace(wanted.claude_code, certain=certain))
    # What ConfigMaps tell it besides is not read here, so that nothing can be said of its settings.
    told = "what its spec.claudeCode names was not read" if any(spec.claude_code.config_maps) else ""
    return replace(wanted, peers=wanted.peers | meant.peers), blueprint, told


async def _brought_from(engine: Engine, container: Object) -> str | None:
    """The operator's image that a volume of the container says it is filled from."""
    for mount in container.get("Mounts") or ():
        if mount.get("Destination") == DIRECTORY and mount.get("Type") == "volume":
            (volume,) = await _all(engine.volume, {str(mount.get("Name"))}) or (None,)
            return labels(volume).get(LABEL_IMAGE) if volume is not None else None
    return None


async def _all(read: Callable[[str], Awaitable[Object | None]], wanted: Iterable[str]) -> tuple[Object, ...]:
    """Those that are there and may be read; without the others their controls are Unknown."""

    async def one(name: str) -> Object | None:
        try:
            return await read(name)
        except EngineError as error:
            if error.is_unreachable:
                raise
            return None

    found = await asyncio.gather(*map(one, sorted(wanted)))
    return tuple(document for document in found if document is not None)
