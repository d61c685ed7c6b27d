"""A container's document, looked at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.containers.mounts import (
    Mount,
    asked_mounts,
    bound_mounts,
    desktop_sources,
    listed_mounts,
)
from claude_sandbox.compliance.evidence.containers import (
    Companion,
    Declared,
    EngineInfo,
    ExecSessions,
    Journal,
    KeyPlace,
    SettingsContent,
)
from claude_sandbox.compliance.evidence.probes import ProbeReport
from claude_sandbox.compliance.evidence.readings import Object


def untold(path: str) -> str:
    """That the document does not say what was looked for."""
    return f"the document does not tell {path}"


class Container(Document):
    """One container."""

    def __init__(
        self,
        document: Object,
        declared: Declared | None = None,
        networks: Sequence[Object] = (),
        volumes: Sequence[Object] = (),
        *,
        drift: tuple[str, ...] | str | None = None,
        outdated: bool = False,
        engine: EngineInfo = EngineInfo(),  # noqa: B008 - frozen
        relay: Companion | None = None,
        gateway: Companion | None = None,
        visits: ExecSessions | None = None,
        settings: SettingsContent | str = "their content was not read",
        key_place: KeyPlace | None = None,
        journal: Journal | str = "nobody asked the engine's host",
        probe: ProbeReport | str = "was not tried",
    ) -> None:
        super().__init__(document)
        self.declared = declared or Declared()
        self._networks = networks
        self._volumes = volumes
        self.drift = drift
        """In what it differs from what it was made from; why that is not known; None where nothing declares it."""
        self.outdated = outdated
        self.engine = engine
        self.visits = visits
        """Who was let into it from outside; None where only its document tells of sessions."""
        self.relay = relay
        """What publishes its ports for it."""
        self.gateway = gateway
        """By what it gets out."""
        self.settings = settings
        """What it has for managed settings, or why that is not known."""
        self.key_place = key_place
        """What is in the place of its key, as far as that is known."""
        self.journal = journal
        """What its host's journal keeps, or why that is not known."""
        self.probe = probe
        """What was tried from its place in the network, or why nothing is known of that, as the end of a sentence."""

    @cached_property
    def running(self) -> bool:
        """Whether it is known to run: the engine decides on AppArmor and SELinux when it starts a container."""
        return self.flag("State.Running") is True

    @cached_property
    def security(self) -> tuple[tuple[str, str], ...] | None:
        """The security options as key and value, in their order; of several with one key the last one counts.

        The engine cuts at the first `=`, and at the first `:` only where there is no `=`.
        """
        options = self.strings("HostConfig.SecurityOpt")
        return None if options is None else tuple(map(_option, options))

    def option(self, key: str) -> str | None:
        """The last security option with this key; None where there is none, or none are told."""
        found = [value for name, value in self.security or () if name == key]
        return found[-1] if found else None

    @cached_property
    def environment(self) -> tuple[tuple[str, str], ...] | None:
        """Names and values of the variables; never to be printed."""
        entries = self.strings("Config.Env")
        return (
            None if entries is None else tuple((name, value) for name, _, value in (e.partition("=") for e in entries))
        )

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        """What is mounted, as the engine lists it, and what was asked for, or labelled, and is not in that list."""
        sources = desktop_sources(self.mapping("Config.Labels") or {})
        found = list(listed_mounts(self.objects("Mounts") or (), self._volumes, sources))
        known = {(mount.destination, mount.host) for mount in found}
        for mount in (
            *bound_mounts(self.strings("HostConfig.Binds") or (), self._volumes, sources),
            *asked_mounts(self.objects("HostConfig.Mounts", omissible=True) or (), self._volumes, sources),
        ):
            if (mount.destination, mount.host) not in known:
                found.append(mount)
        binds = {mount.destination: mount for mount in found if mount.kind == "bind"}
        # The label tells the path that the user named, the list perhaps another of Docker Desktop's virtual machine:
        # both are judged.
        for place, source in sources.items():
            if place in binds and all(one.host != source for one in found if one.destination == place):
                found.append(replace(binds[place], host=source))
        return tuple(found)

    @cached_property
    def mount_doubts(self) -> tuple[str, ...]:
        """Why `mounts` may not be all."""
        return tuple(
            untold(path)
            for path, told in (
                ("Mounts", self.objects("Mounts")),
                ("HostConfig.Binds", self.strings("HostConfig.Binds")),
                ("HostConfig.Mounts", self.objects("HostConfig.Mounts", omissible=True)),
            )
            if told is None
        )

    def volume_options(self, name: str | None) -> Object | None:
        """The driver options of a volume of the engine's own driver; None where its document was not given."""
        for volume in self._volumes:
            if name and volume.get("Name") == name and volume.get("Driver") == "local":
                options = volume.get("Options")
                return options if isinstance(options, Mapping) else {} if options is None else None
        return None

    def network(self, name: str, identifier: str | None) -> Object | None:
        """The document of a network, if it was given: of this very one where the container tells its identifier."""
        for network in self._networks:
            if network.get("Name") == name and (not identifier or network.get("Id") == identifier):
                return network
        return None


def _option(option: str) -> tuple[str, str]:
    if option == "disable":
        return "label", "disable"
    key, separator, value = option.partition("=" if "=" in option else ":")
    # The one option that the engine takes without a value.
    return key.lower(), value if separator else "true"


def doubts_of(*told: tuple[str, object]) -> Iterator[str]:
    """That the paths are not told whose values are None."""
    for path, value in told:
        if value is None:
            yield untold(path)
