"""The machine's Docker Engine: who may use its socket, and how it is had where there is none."""

import grp
import platform
import shutil
import subprocess
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.machine.lifecycle import Say

GROUP = "docker"
_PACKAGE = "docker.io"


def group(socket: str) -> str:
    """The group that may use the engine's socket. Raises LocalClusterError where that is root's alone."""
    # The services' accounts are made for them alone, so a group is the only way in for the operator.
    number = Path(socket).stat().st_gid
    if number == 0:
        raise LocalClusterError(
            f"{socket} is the group root's, so the operator would have to be of that group.",
            "Make the group (groupadd --system docker) and restart Docker, which then gives it the socket.",
        )
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def can_install() -> bool:
    """Whether Docker can be installed from this distribution's own packages."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    return is_supported(release) and shutil.which("apt-get") is not None


def is_supported(release: dict[str, str]) -> bool:
    """Whether a distribution (os-release(5)) has the package by that name: Debian, Ubuntu and what is made of them."""
    return bool({"debian", "ubuntu"} & {release.get("ID", ""), *release.get("ID_LIKE", "").split()})


def install(say: Say) -> None:
    """Install the distribution's Docker Engine, which starts it. Raises LocalClusterError where apt-get fails."""
    for arguments in (("update",), ("install", "--yes", _PACKAGE)):
        say(f"apt-get {' '.join(arguments)}")
        done = subprocess.run(["apt-get", "--quiet", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
            raise LocalClusterError(f"apt-get {' '.join(arguments)} failed:\n{last}", "Mend it, and run this again.")
