"""Processes that outlive the command that started them, and are never confused with another's.

A process id alone may be reused by the kernel; together with the start time (field 22 of
`/proc/PID/stat`, proc(5)) it names one process for the uptime of the machine, and the boot id
rules out a record from before a reboot.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError


@dataclass(frozen=True)
class Process:
    """A process of ours: its id, its start in clock ticks since boot, and the boot it belongs to."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """What runs under `pid` now, or None (a zombie has ended, once its last thread has)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The command's name, in parentheses, may itself hold spaces and parentheses.
        state, *rest = stat.rpartition(")")[2].split()
        # While other threads of a killed process are still on their way out, its sockets are still open.
        threads = int(rest[16])
        return None if state in "ZX" and threads <= 1 else cls(pid, int(rest[18]), _boot_id())

    def alive(self) -> bool:
        """Whether this very process still runs."""
        # A child of ours that has ended stays a zombie until somebody asks for it.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Signal this very process; False where it has ended."""
        try:
            # The descriptor first, then the look: it stands for one process, whoever has its id by the time of the
            # signal.
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; False where it has not after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def stop(self, grace: float) -> None:
        """End it: politely, then after `grace` seconds by force."""
        if self.send(signal.SIGTERM) and not self.wait(grace):
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.send(signal.SIGKILL) and not self.wait(10):
            raise LocalClusterError(
                f"Process {self.pid} did not end after SIGKILL.",
                "It hangs in the kernel (see `cat /proc/PID/stack`); try again, or restart the machine.",
            )


def spawn(argv: tuple[str, ...], log: Path, environment: dict[str, str]) -> Process:
    """Start a program in a session of its own, its output appended to `log`.

    Raises LocalClusterError where the program can't be executed.
    """
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), log_flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        # In a session of its own: what a terminal sends to the command (Ctrl-C, a hang-up) doesn't reach it.
        pid = os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsid=True)
    except OSError as error:
        raise LocalClusterError(f"{argv[0]} can't be started: {error.strerror}.", f"Look at {log}.") from error
    process = Process.of(pid)
    if process is None:
        raise LocalClusterError(f"{argv[0]} ended as soon as it was started.", f"Look at {log}.")
    return process


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
