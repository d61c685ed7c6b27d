"""Measures one host's sandboxes: what was seen and can be read of each, against what is declared.

Theory of operation. What a pass saw is there already (`LastSeen`); what the engine's document of a container does not
tell is read for each measurement anew: from this machine's /proc where the engine may be on it, the managed settings in
the container, and who was let into it. The two that take long are not waited for: what can be reached from the sandbox
(`Probes`) and what the container's own files are (`FileLooks`) are begun where they are due, and what is known counts.
It holds nothing beside those two. Called by the one pass at work on a sandbox; a crash loses what is known, and the
next pass begins it anew.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.spec import Image as NamedImage
from claude_sandbox.api.status import Compliance
from claude_sandbox.backends.base import Outcome
from claude_sandbox.backends.docker.cloning.beside import cloner_of
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.threads import ask_kernel
from claude_sandbox.backends.docker.events.followed import Followed
from claude_sandbox.backends.docker.evidence import container as evidence
from claude_sandbox.backends.docker.evidence.file_looks import FileLooks
from claude_sandbox.backends.docker.evidence.measure import Read, measured
from claude_sandbox.backends.docker.evidence.proc import witness_of
from claude_sandbox.backends.docker.keys.managed_settings import settings_of
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.probing.probes import Probes
from claude_sandbox.backends.docker.relay.relays import Publishing
from claude_sandbox.backends.docker.seen import LastSeen
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.evidence.exemptions import exemptions_of
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.isolation import Judgement


class Measurements:
    """Of one Docker host, which a user calls `host`; `cluster` identifies the control plane of the sandboxes.

    `publishing`, `permits`: what administrators give for ports now, and whether they allow an image. `wake`: have a
    sandbox measured again.
    """

    def __init__(
        self,
        engine: Engine,
        cluster: str,
        host: str,
        last: LastSeen,
        followed: Followed,
        probes: Probes,
        wake: Callable[[str, str], None],
        *,
        allowed_registries: tuple[str, ...],
        publishing: Callable[[], Publishing],
        permits: Callable[[NamedImage | None], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._cluster = cluster
        self._host = host
        self._last = last
        self._followed = followed
        self._probes = probes
        self._wake = wake
        self._allowed_registries = allowed_registries
        self._publishing = publishing
        self._permits = permits
        self._now = now
        self._files = FileLooks(wake)

    async def measure(
        self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome
    ) -> tuple[Compliance, Judgement, Judgement]:
        """The controls' results, and what the Compliant and IsolationVerified conditions say."""
        seen = self._last.get(blueprint.identity)
        container = seen.observed.container if seen is not None else None
        meant = blueprint
        if seen is not None and container is None and (cloner := cloner_of(blueprint)) is not None:
            # As the init container of a pod is judged, so is what clones as long as there is nothing else.
            container, meant = seen.observed.cloner.container, cloner
            seen = replace(seen, observed=replace(seen.observed, container=container))
        missing = "there is no container" if seen is not None else f"Docker host {self._host} could not be asked"
        read = await self._read(meant, container) if container is not None else Read()
        if seen is not None:
            read = replace(read, probe=self._probes.known(blueprint.identity, seen), probe_max_age=self._probes.max_age)
        return measured(self._declared(meant, spec), seen, missing, outcome, read, self._now())

    def forget(self, identity: Identity) -> None:
        """The sandbox is gone."""
        self._files.forget(identity)

    async def close(self) -> None:
        """Look at nothing more."""
        await self._files.close()

    def _declared(self, meant: Blueprint, spec: ClaudeSandboxSpec) -> Declared:
        return evidence.declared(
            meant,
            spec.profile,
            self._allowed_registries,
            names_of(self._cluster, meant.identity),
            addresses=self._publishing().addresses,
            cluster=self._cluster,
            level=spec.compliance.level,
            exemptions=exemptions_of(spec.compliance),
            image_refused=(
                meant.image_refused if self._permits(spec.image) else "its DockerHost does not allow its image"
            ),
        )

    async def _read(self, blueprint: Blueprint, container: Object) -> Read:
        """What of a container its document does not tell."""
        local = self._engine.may_be_local
        process = await ask_kernel(partial(witness_of, container, self._now())) if local else None
        if isinstance(process, Reading):
            files = await self._files.known(blueprint.identity, container, process.value)
            process = replace(process, value=replace(process.value, files=files))
        settings = await settings_of(self._engine, container, blueprint.settings, self._now())
        visits, ended = await self._followed.visits(container)
        if ended:
            # Told of once; that it is over, by the next pass.
            self._wake(blueprint.identity.namespace, blueprint.identity.name)
        return Read(process, settings, visits)
