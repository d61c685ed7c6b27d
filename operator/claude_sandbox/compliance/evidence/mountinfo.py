"""What is mounted in a container, as the kernel tells it: /proc/PID/mountinfo, see proc_pid_mountinfo(5)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class KernelMount:
    """One mount. `root` is which part of the file system is mounted: `/` for all of it."""

    device: str
    root: str
    place: str
    options: frozenset[str]
    """Of the mount and of the file system: what either forbids is forbidden, and is then in here."""
    shared: bool
    """Whether mounts made here are seen elsewhere."""
    kind: str
    sized: bool
    """Whether the file system has a size of its own."""

    @property
    def writable(self) -> bool:
        return "ro" not in self.options


def parse(text: str) -> tuple[KernelMount, ...]:
    """The mounts, in the order in which they were made: of several at one place the last one counts.

    Raises ValueError for what is no such text.
    """
    return tuple(_mounts(text))


def _mounts(text: str) -> Iterator[KernelMount]:
    # A path may hold whatever else ends a line elsewhere: the kernel writes newlines, tabs, spaces and backslashes in
    # octal, and nothing else.
    for line in filter(None, text.split("\n")):
        mount, separator, system = line.partition(" - ")
        if not separator:
            raise ValueError("a line of mountinfo without a separator")
        _, _, device, root, place, options, *optional = mount.split(" ")
        kind, _, super_options = system.split(" ", 2)
        of_system = super_options.split(",")
        yield KernelMount(
            device=device,
            root=_plain(root),
            place=_plain(place),
            options=frozenset(options.split(",")) | ({"ro"} & set(of_system)),
            shared=any(one.startswith("shared:") for one in optional),
            kind=kind,
            sized=any(one.startswith("size=") for one in of_system),
        )


def _plain(path: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), path)
