"""A base image without an image registry: the distribution's own packages, from the mirror this machine uses."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images.progress import run
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

# A bootstrapper that takes security updates from their own archive at once, which debootstrap can't.
_NEEDED = Needed(("mmdebstrap",), ("mmdebstrap",))
_EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
_INCLUDED = ("/usr/share/doc/*/copyright",)
_OPTIONS = ("--variant=essential", "--mode=root", "--format=tar")


@dataclass(frozen=True)
class Source:
    """One of the machine's package sources, as apt knows it."""

    uri: str
    suite: str
    component: str


def packages(listing: str) -> tuple[str, ...]:
    """The names in a packages.txt: the first word of each line that isn't a comment."""
    lines = (line.partition("#")[0].split() for line in listing.splitlines())
    return tuple(words[0] for words in lines if words)


def bootstrap(names: Sequence[str], report: Callable[[str], None], *, directories: Sequence[str] = ()) -> Path:
    """A tar archive of the distribution's essential packages and the named ones, made where the cache lacks it.

    `directories` are there before the named ones are set up: some link into what is left out otherwise (_EXCLUDED).
    Raises LocalClusterError where this machine can't make one.
    """
    release = platform.freedesktop_os_release()
    made_of = (
        *(release.get("ID", ""), release.get("VERSION_ID", ""), platform.machine()),
        *(*_OPTIONS, *_EXCLUDED, *sorted(names), *directories),
    )
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
    parent = cache_dir() / "bases"
    target = parent / f"{key}.tar"
    if target.exists():
        return target
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LocalClusterError(
            "A base image can only be bootstrapped by root on Debian and its relatives.",
            "Name one that the Docker Engine can pull (--base), or run the command as root.",
        )
    with locked(parent):
        if not target.exists():
            _make(names, release, target, report, directories)
    return target


def python_version(base: Path) -> str | None:
    """The `major.minor` version of the Python in a bootstrapped base, or None where it has none."""
    with tarfile.open(base) as archive:
        for member in archive:
            if match := re.fullmatch(r"\./usr/bin/python(3\.\d+)", member.name):
                return match[1]
    return None


def sources(targets: str, distribution: str) -> tuple[Source, ...]:
    """The distribution's own sources in the output of `apt-get indextargets` (see `_indextargets`).

    Those of other vendors, which a machine may have as well, are left out.
    """
    found = []
    for line in targets.splitlines():
        origin, *rest = line.split("|")
        if origin.lower() == distribution.lower():
            found.append(Source(*rest))
    return tuple(dict.fromkeys(found))


def _make(
    names: Sequence[str],
    release: Mapping[str, str],
    target: Path,
    report: Callable[[str], None],
    directories: Sequence[str],
) -> None:
    programs = ensure(_NEEDED, report)
    distribution = release.get("ID", "")
    own = sources(_indextargets(), distribution)
    if not own:
        raise LocalClusterError(
            "apt-get knows no source of the distribution's packages.", "See that `apt-get update` works."
        )
    partial = target.with_name(f".{target.name}")
    filters = [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    filters += [f"--dpkgopt=path-include={pattern}" for pattern in _INCLUDED]
    hooks = [f'--essential-hook=mkdir -p "$1/{one}"' for one in directories]
    command: list[str | Path] = [
        programs.path("mmdebstrap"), *_OPTIONS, *filters, *hooks, f"--include={','.join(sorted(names))}",
        release.get("VERSION_CODENAME", ""), partial, "-",
    ]  # fmt: skip
    environment = {**os.environ, **programs.environment(), "SOURCE_DATE_EPOCH": "0"}
    try:
        run(
            command, "Bootstrapping a base image from the distribution's packages", report,
            environment=environment, stdin=_sources_list(own, _keyring(distribution)),
        )  # fmt: skip
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _sources_list(own: Sequence[Source], keyring: Path) -> str:
    option = f"[signed-by={keyring}] " if keyring.exists() else ""
    return "".join(f"deb {option}{source.uri} {source.suite} {source.component}\n" for source in own)


def _keyring(distribution: str) -> Path:
    return Path(f"/usr/share/keyrings/{distribution}-archive-keyring.gpg")


def _indextargets() -> str:
    """The machine's package sources: one line each, with origin, URI, suite and component."""
    form = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    result = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return result.stdout
