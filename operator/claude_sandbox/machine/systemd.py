"""What is asked of systemd."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.machine.units import MARK


@dataclass(frozen=True)
class State:
    """A unit, as systemd knows it: `pid` is None where it has no process."""

    active: str
    enabled: str
    pid: int | None
    restarts: int


def require() -> None:
    """Raise LocalClusterError where systemd does not run this machine (sd_booted(3))."""
    if not Path("/run/systemd/system").is_dir():
        raise LocalClusterError(
            "This machine is not run by systemd, which is to start everything.",
            "Use a machine that is; to try things without, `claude-sandbox demo --backend docker`.",
        )


def call(*arguments: str) -> str:
    """What systemctl prints. Raises LocalClusterError, with the end of the unit's journal, where it fails."""
    done = subprocess.run(["systemctl", "--no-pager", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalClusterError(
            f"systemctl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}",
            "See `journalctl --unit='claude-sandbox-*' --since=-5min`.",
        )
    return done.stdout


def state(unit: str) -> State:
    """How the unit is now."""
    names = ("ActiveState", "UnitFileState", "MainPID", "NRestarts")
    said = call("show", f"--property={','.join(names)}", unit)
    values = dict(line.partition("=")[::2] for line in said.splitlines())
    pid = int(values.get("MainPID") or 0)
    # Of a unit that there is not systemctl says `inactive`, without a state of its file, and doesn't fail.
    return State(values["ActiveState"], values.get("UnitFileState") or "disabled", pid or None,
                 int(values.get("NRestarts") or 0))  # fmt: skip


def started_from(pid: int) -> str:
    """What a running service was started from: the mark in its environment."""
    try:
        # It may have ended since systemd was asked; what has no mark is started anew.
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    found = dict(variable.partition("=")[::2] for variable in variables)
    return found.get(MARK, "")
