"""Programs of the installation's own: copies, so that a clone, a virtual environment or a cache may go."""

import compileall
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import claude_sandbox
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import cache_dir

_DISTRIBUTION = "claude-sandbox-operator"
_VERSIONS = "versions"
# Where services may not look, so that nothing that they run can be there.
_PRIVATE = (Path("/root"), Path("/home"), Path("/run/user"))


def interpreter() -> str:
    """The Python that this runs on, without a virtual environment. Raises LocalClusterError for a user's own."""
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}").resolve()
    if any(base.is_relative_to(place) for place in _PRIVATE):
        raise LocalClusterError(
            f"This runs on a Python in a home directory, {base}, which services can't use.",
            "Use the distribution's: `make clean`, then `make PYTHON=/usr/bin/python3 .venv/.installed`, and run this"
            " again.",
        )
    return str(base)


def put_programs(built: Mapping[str, Path], target: Path) -> dict[str, str]:
    """Copy programs below `target`, each to a place that tells its version; their paths below it by name."""
    result = {}
    for name, source in built.items():
        # A built program's directory is named after everything that decides its content; others say nothing.
        is_built = source.is_relative_to(cache_dir() / "bin")
        version = source.parent.name if is_built else f"{name}-{_digest(source)}"
        relative = Path(_VERSIONS, version, name)
        # A version is named for its content and comes to its place by a rename, so one that is there is whole.
        if not (target / relative).exists():
            _directory(target / relative.parent, target)
            partial = (target / relative).with_name(f".{name}.{os.getpid()}")
            shutil.copyfile(source, partial)
            partial.chmod(0o755)
            partial.replace(target / relative)
        result[name] = str(relative)
    return result


def put_operator(target: Path) -> str:
    """Copy this package and all that it needs to run; the directory's path below `target`."""
    needed = required(_DISTRIBUTION)
    own = Path(claude_sandbox.__file__).parent
    relative = Path(_VERSIONS, f"operator-{_key(own, needed)}")
    if (target / relative).exists():
        return str(relative)
    partial = (target / relative).with_name(f".{relative.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    _directory(partial, target)
    shutil.copytree(own, partial / own.name, ignore=shutil.ignore_patterns("__pycache__"))
    for distribution in needed:
        _copy(distribution, partial)
    # Now, because the services may not write there.
    compileall.compile_dir(partial, quiet=2)
    _readable(partial)
    partial.rename(target / relative)
    return str(relative)


def link(target: Path, programs: Mapping[str, str], launcher: str) -> None:
    """What people run, in `bin`: links to the programs, and this command itself."""
    directory = target / "bin"
    _directory(directory, target)
    for name, relative in programs.items():
        partial = directory / f".{name}.{os.getpid()}"
        # Made beside and renamed: at any moment somebody may run the command.
        partial.symlink_to(Path("..", relative))
        partial.replace(directory / name)
    partial = directory / f".claude-sandbox.{os.getpid()}"
    partial.write_text(launcher)
    partial.chmod(0o755)
    partial.replace(directory / "claude-sandbox")


def prune(target: Path, kept: set[str]) -> None:
    """Remove versions that nothing uses any more; `kept` are paths of those that something does."""
    wanted = {Path(one).parts[1] for one in kept}
    for entry in (target / _VERSIONS).iterdir():
        if entry.name not in wanted:
            shutil.rmtree(entry)


def required(name: str) -> list[metadata.Distribution]:
    """The installed distribution and, whatever it takes, all that it requires, each once."""
    found: dict[str, metadata.Distribution] = {}
    wanted = [(name, False)]
    while wanted:
        one, optional = wanted.pop()
        key = re.sub(r"[-_.]+", "-", one).lower()
        if key in found:
            continue
        try:
            distribution = metadata.distribution(one)
        except metadata.PackageNotFoundError:
            if optional:
                continue
            raise LocalClusterError(
                f"The Python package {one} is not installed where this command runs.",
                "Run it as it was installed: from a clone, `.venv/bin/claude-sandbox` after `make lint`.",
            ) from None
        found[key] = distribution
        wanted += _requirements(distribution)
    return [found[key] for key in sorted(found)]


def _requirements(distribution: metadata.Distribution) -> Iterator[tuple[str, bool]]:
    """Names, and whether it may do without: a marker may say that it is for other machines."""
    for line in distribution.requires or ():
        requirement, _, marker = line.partition(";")
        if "extra" in marker:
            continue
        match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
        if match is not None:
            yield match[0], bool(marker)


def _copy(distribution: metadata.Distribution, target: Path) -> None:
    own = distribution.metadata["Name"] == _DISTRIBUTION
    for file in distribution.files or ():
        # Scripts and manuals are outside of the packages' directory; ours are copied from where they are run.
        if file.is_absolute() or ".." in file.parts or not Path(str(file.locate())).exists():
            continue
        if own and not file.parts[0].endswith(".dist-info"):
            continue
        place = target / file
        place.parent.mkdir(parents=True, exist_ok=True)
        # With its time, by which what is compiled already is known to be of it.
        shutil.copy2(str(file.locate()), place)


def _directory(path: Path, top: Path) -> None:
    """A directory, and those above it up to `top`, that any account may look into, whatever the umask is."""
    path.mkdir(parents=True, exist_ok=True)
    for one in (path, *path.parents):
        one.chmod(0o755)
        if one == top:
            return


def _readable(directory: Path) -> None:
    """For the services' accounts, whatever the umask was."""
    for parent, _, files in os.walk(directory):
        Path(parent).chmod(0o755)
        for file in files:
            Path(parent, file).chmod(0o644)


def _key(own: Path, needed: list[metadata.Distribution]) -> str:
    digest = hashlib.sha256(f"{sys.implementation.cache_tag}\0{sys.abiflags}".encode())
    for distribution in needed:
        digest.update(f"\0{distribution.metadata['Name']} {distribution.version}".encode())
    for file in sorted(own.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"\0{file.relative_to(own)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:12]
