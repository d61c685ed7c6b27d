"""What control groups allow processes, as it was read of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """None where it could not be read, infinite where there is no limit."""

    memory: float | None = None
    """Bytes."""
    cpus: float | None = None
    processes: float | None = None
