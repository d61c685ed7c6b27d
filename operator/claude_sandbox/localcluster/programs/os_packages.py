"""Programs of the Linux distribution, unpacked into the cache rather than installed.

Installing containerd or a Docker Engine would start and enable a service of the machine. Unpacking
their packages gives the same programs and changes nothing; those that are installed already are used.
"""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Needed:
    """Distribution packages (Debian's names), and the programs and other files that are wanted from them."""

    packages: tuple[str, ...]
    programs: tuple[str, ...]
    files: tuple[str, ...] = ()
    """Patterns of paths below the file system's root, such as `usr/lib/*/libc.a`."""


@dataclass(frozen=True)
class Programs:
    """The tree that packages were unpacked into; the machine's own directories come after it."""

    root: Path

    def search_path(self) -> str:
        """The value of PATH with which the programs find each other."""
        own = (self.root / part for part in ("usr/sbin", "usr/bin", "sbin", "bin", "links"))
        inherited = os.environ.get("PATH", "")
        return ":".join([*map(str, own), inherited, _SYSTEM_PATH])

    def find(self, program: str) -> Path | None:
        """Where `program` is, or None."""
        found = shutil.which(program, path=self.search_path())
        return None if found is None else Path(found)

    def path(self, program: str) -> Path:
        """Where `program` is; raises LocalClusterError where it is not there any more."""
        found = self.find(program)
        if found is None:
            raise LocalClusterError(f"{program} is not there any more.", f"Delete {self.root} and try again.")
        return found

    def file(self, pattern: str) -> Path | None:
        """The first file here, or else on the machine, whose path below the root matches the pattern, or None."""
        return next((path for base in (self.root, Path("/")) for path in sorted(base.glob(pattern))), None)

    def directory(self, *candidates: str) -> Path | None:
        """The first of the directories (such as `usr/lib/cni`) that exists here or on the machine."""
        places = (base / candidate for base in (self.root, Path("/")) for candidate in candidates)
        return next((place for place in places if place.is_dir()), None)

    def environment(self) -> dict[str, str]:
        """What the programs need besides what the machine's environment says."""
        multiarch = f"{platform.machine()}-linux-gnu"
        libraries = [self.root / part / multiarch for part in ("usr/lib", "lib")]
        extensions = self.root / "usr/lib" / multiarch / "xtables"
        environment = {"PATH": self.search_path(), "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
        if extensions.is_dir():
            environment["XTABLES_LIBDIR"] = str(extensions)
        return environment


def ensure(needed: Needed, report: Callable[[str], None]) -> Programs:
    """The programs, fetched with apt-get where the machine lacks one.

    Raises LocalClusterError with the packages' names where that can't be done.
    """
    parent = cache_dir() / "os-packages"
    programs = Programs(parent / _key(needed))
    if not _missing(needed, programs):
        return programs
    with locked(parent):
        # Another may have fetched them while this one waited.
        if missing := _missing(needed, programs):
            _fetch(needed, missing, programs, report)
    return programs


def _missing(needed: Needed, programs: Programs) -> tuple[str, ...]:
    absent = (program for program in needed.programs if programs.find(program) is None)
    return (*absent, *(pattern for pattern in needed.files if programs.file(pattern) is None))


def _key(needed: Needed) -> str:
    # A new release of the distribution has other libraries; what was unpacked for the old one is of no use.
    release = platform.freedesktop_os_release()
    parts = (release.get("ID", ""), release.get("VERSION_ID", ""), platform.machine(), *needed.packages)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _fetch(needed: Needed, missing: tuple[str, ...], programs: Programs, report: Callable[[str], None]) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise LocalClusterError(
            f"These are not installed: {', '.join(missing)}.",
            "Install them with this machine's package manager"
            f" (Debian calls the packages {' '.join(needed.packages)}).",
        )
    report(f"Fetching the distribution's packages {', '.join(needed.packages)}; they are unpacked, not installed.")
    partial = programs.root.with_name(f".{programs.root.name}")
    shutil.rmtree(partial, ignore_errors=True)
    archives = partial / "archives"
    (archives / "partial").mkdir(parents=True)
    _download(needed, archives)
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, partial], check=True, capture_output=True)
    shutil.rmtree(archives)
    _link_alternatives(partial)
    shutil.rmtree(programs.root, ignore_errors=True)
    partial.rename(programs.root)
    if still := _missing(needed, programs):
        raise LocalClusterError(
            f"The packages {', '.join(needed.packages)} don't hold {', '.join(still)}.",
            "Install them yourself: programs so that they are on PATH.",
        )


def _download(needed: Needed, archives: Path) -> None:
    # Also what is installed, which would give no archive otherwise; and nothing is installed, so apt's lock, which is
    # root's alone, is not asked for.
    command = [
        "apt-get", "install", "--yes", "--quiet", "--download-only", "--no-install-recommends", "--reinstall",
        "--option", f"Dir::Cache::archives={archives}/", "--option", "Debug::NoLocking=1", *needed.packages,
    ]  # fmt: skip
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    if first.returncode == 0:
        return
    # The lists of a fresh machine are empty, those of an old one name files that are gone.
    update = subprocess.run(["apt-get", "update", "--quiet"], capture_output=True, text=True, check=False)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    if again.returncode != 0:
        errors = [line for line in (update.stderr + again.stderr).splitlines() if line.startswith("E:")]
        raise LocalClusterError(
            "apt-get could not fetch the distribution's packages:\n" + "\n".join(errors),
            f"See that `apt-get install --download-only {' '.join(needed.packages)}` works, and try again.",
        )


def _link_alternatives(root: Path) -> None:
    """The names that a package gets when it is configured: iptables and its relatives."""
    links = root / "links"
    links.mkdir()
    directory = next((d for d in ("usr/sbin", "sbin") if (root / d / "xtables-nft-multi").exists()), None)
    if directory is None:
        return
    for family in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            (links / f"{family}{suffix}").symlink_to(f"../{directory}/xtables-nft-multi")
