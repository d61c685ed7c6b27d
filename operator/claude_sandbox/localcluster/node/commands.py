"""Short commands of the operating system, with their own words in the error."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError


def call(command: Sequence[str | Path], environment: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Run the command and return its output; raises LocalClusterError with what it said where it fails."""
    result = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        shown = " ".join(map(str, command))
        raise LocalClusterError(
            f"`{shown}` failed: {(result.stderr or result.stdout).strip()}",
            "See whether this machine (or the container that this runs in) allows it to root.",
        )
    return result.stdout


def succeeds(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> bool:
    """Whether the command ends with success; what it prints is not of interest."""
    result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return result.returncode == 0
