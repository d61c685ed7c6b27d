"""CPU and memory of processes, from /proc (proc(5)): nothing is asked of the processes themselves."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Bytes of one process: resident now, resident at most since its start or the last `forget_peak`."""

    resident: int
    peak: int


def memory(pid: int) -> Memory:
    """Raises FileNotFoundError where the process has ended."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Memory(*(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))


def forget_peak(pid: int) -> None:
    """Have the kernel count the peak of the resident memory from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """User and system time of the process so far, in steps of 10 ms. Raises FileNotFoundError where it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def busy_seconds() -> float:
    """Time that all CPUs together were busy since the machine's start."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:10])
    return (user + nice + system + irq + softirq + steal) * _TICK


@dataclass(frozen=True)
class Cpu:
    """CPU seconds of each named process, and of all the machine's other processes together."""

    by_name: Mapping[str, float]
    others: float


class CpuMeter:
    """Counts from its creation on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._busy = busy_seconds()
        self._start = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def read(self) -> Cpu:
        """Since the meter's creation."""
        spent = {name: cpu_seconds(pid) - self._start[name] for name, pid in self._pids.items()}
        return Cpu(spent, max(0.0, busy_seconds() - self._busy - sum(spent.values())))
