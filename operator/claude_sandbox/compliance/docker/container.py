"""A container's document, looked at. What it does not tell is None, unless engines leave it out where it is empty."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from claude_sandbox.compliance.docker.evidence import Declared
from claude_sandbox.compliance.docker.mounts import Mount, asked_mounts, bound_mounts, listed_mounts
from claude_sandbox.compliance.evidence import Object

_ABSENT = object()


def untold(path: str) -> str:
    """That the document does not say what was looked for."""
    return f"the document does not tell {path}"


class Container:
    """One container.

    A field of another type than the engine's counts as absent. Where the engine writes null for an empty list or map,
    null is empty. `omissible` marks what it leaves out when it is empty, in every version from 20.10 on.
    """

    def __init__(
        self,
        document: Object,
        declared: Declared | None = None,
        networks: Sequence[Object] = (),
        volumes: Sequence[Object] = (),
    ) -> None:
        self.document = document
        self.declared = declared or Declared()
        self._networks = networks
        self._volumes = volumes

    def flag(self, path: str) -> bool | None:
        value = self._at(path)
        return value if isinstance(value, bool) else None

    def number(self, path: str) -> int | None:
        """Null is 0, as for the engine."""
        value = self._at(path)
        if value is None:
            return 0
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, path: str) -> str | None:
        value = self._at(path)
        return value if isinstance(value, str) else None

    def strings(self, path: str, *, omissible: bool = False) -> tuple[str, ...] | None:
        return self._items(path, str, omissible)

    def objects(self, path: str, *, omissible: bool = False) -> tuple[Object, ...] | None:
        return self._items(path, Mapping, omissible)

    def mapping(self, path: str, *, omissible: bool = False) -> Object | None:
        value = self._at(path)
        if value is None or (omissible and self._left_out(path)):
            return {}
        return value if isinstance(value, Mapping) else None

    def tells(self, path: str) -> bool:
        """Whether there is a value other than null."""
        return self._at(path) not in (_ABSENT, None)

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
        """What is mounted, as the engine lists it, and what was asked for and is not in that list."""
        found = list(listed_mounts(self.objects("Mounts") or (), self._volumes))
        known = {(mount.destination, mount.host) for mount in found}
        for mount in (
            *bound_mounts(self.strings("HostConfig.Binds") or ()),
            *asked_mounts(self.objects("HostConfig.Mounts", omissible=True) or ()),
        ):
            if (mount.destination, mount.host) not in known:
                found.append(mount)
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

    def network(self, name: str, identifier: str | None) -> Object | None:
        """The document of a network, if it was given: of this very one where the container tells its identifier."""
        for network in self._networks:
            if network.get("Name") == name and (not identifier or network.get("Id") == identifier):
                return network
        return None

    def _at(self, path: str) -> Any:
        value: Any = self.document
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return _ABSENT
            value = value[key]
        return value

    def _left_out(self, path: str) -> bool:
        """Whether the object that the field belongs to is there, and the field is not."""
        parent, _, key = path.rpartition(".")
        owner = self._at(parent) if parent else self.document
        return isinstance(owner, Mapping) and key not in owner

    def _items(self, path: str, kind: type, omissible: bool) -> tuple[Any, ...] | None:
        value = self._at(path)
        if value is None or (omissible and self._left_out(path)):
            return ()
        if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
            return None
        return tuple(value)


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
