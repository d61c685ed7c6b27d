"""What the kernel says of a container's first process. Fields are those of proc(5) and cgroups(7)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Limits:
    """What the control group allows; None where it could not be read, infinite where there is no limit."""

    memory: float | None = None
    """Bytes."""
    cpus: float | None = None
    processes: float | None = None


@dataclass(frozen=True)
class Process:
    """A container's first process: `status`, `uid_map` and `gid_map` as below /proc, and its control group's limits."""

    status: str
    uid_map: str
    gid_map: str
    limits: Limits

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """The lines of `status` by name."""
        pairs = (line.partition(":") for line in self.status.splitlines())
        return {name: value.strip() for name, _, value in pairs}

    def numbers(self, name: str, of: str) -> tuple[int, ...]:
        """Users or groups as the container itself calls them; those that mean nothing there are left out."""
        return tuple(_translated(map(int, self.fields.get(name, "").split()), of))


def _translated(numbers: Iterator[int], mapping: str) -> Iterator[int]:
    """From the host's numbers to the container's, by lines of: first inside, first outside, how many."""
    ranges = [tuple(map(int, line.split())) for line in mapping.splitlines()]
    for number in numbers:
        for inside, outside, count in ranges:
            if outside <= number < outside + count:
                yield inside + number - outside
