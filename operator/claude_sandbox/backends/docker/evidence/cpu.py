"""How much CPU time a container has used, where its engine is on this machine."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from claude_sandbox.backends.base import CpuUse
from claude_sandbox.backends.docker.engine.documents import Object, started_at
from claude_sandbox.backends.docker.evidence.proc import group_of, own_group
from claude_sandbox.procfs.counters import counters
from claude_sandbox.procfs.files import CGROUPS, PROC


def cpu_use(container: Object, proc: Path = PROC, cgroups: Path = CGROUPS) -> CpuUse | None:
    """Since it was started; None where the kernel does not tell of that very container. Blocks. Never raises."""
    with suppress(OSError, ValueError):
        membership = own_group(container, proc)
        if membership is None:
            return None
        used = counters([group_of(membership, "cpuacct", cgroups)]).cpu_microseconds
        if used is not None:
            return CpuUse(used / 1e6, f"{container['Id']} {started_at(container)}", datetime.now(UTC))
    return None
