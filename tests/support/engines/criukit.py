"""CRIU for an engine to checkpoint containers with, and `age` to open what was encrypted.

A CRIU that is older than the kernel refuses it, so where the distribution's own does, a newer release's is taken, with
the libraries that it was built for and their loader.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from enginekit import own, remapping
from nodekit import report

from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

CRIU = Needed(("criu",), ("criu",))
AGE = Needed(("age",), ("age", "age-keygen"))
NEWER = "trixie"
"""The release of Debian that has CRIU 4.1, which knows kernels since 6.13."""
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_RUN = """#!/bin/sh
exec {root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu {root}/usr/sbin/criu "$@"
"""
_BARE = """#!/bin/sh
LD_LIBRARY_PATH={libraries} exec {program} "$@"
"""


def criu() -> Path:
    """The directory of a `criu` that works with this kernel. Skips where none can be had."""
    try:
        for directory in (_of_the_distribution, _newer):
            found = directory()
            if _works(found / "criu"):
                return found
    except (LocalClusterError, subprocess.CalledProcessError) as error:
        pytest.skip(f"CRIU can't be had: {error}")
    pytest.skip("no CRIU that can be had works with this kernel")


@contextlib.contextmanager
def checkpointing(release: str, directory: Path) -> Iterator[EngineDescription]:
    """An engine that can checkpoint, with the `criu` of an empty directory.

    It remaps users: then root needs no right to others' limits, which CRIU reads."""
    name = own(f"checkpoints-{release.replace('.', '-')}")
    with pytest.MonkeyPatch.context() as patch:
        # Its own, so that a test can take it away.
        (directory / "criu").symlink_to(criu() / "criu")
        patch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        try:
            yield remapping(name, release, experimental=True)
        finally:
            engine.down(name, report)


def key_pair(directory: Path) -> tuple[str, Path]:
    """A recipient, and the file with its private key."""
    programs, file = ensure(AGE, report), directory / "key"
    subprocess.run([programs.path("age-keygen"), "-o", file], check=True, capture_output=True)
    public = subprocess.run(
        [programs.path("age-keygen"), "-y", file], check=True, capture_output=True, text=True
    ).stdout.strip()
    return public, file


def opened(sealed: Path, key: Path) -> "subprocess.CompletedProcess[bytes]":
    """What `age` makes of a file with a private key."""
    program = ensure(AGE, report).path("age")
    return subprocess.run([program, "--decrypt", "--identity", key, sealed], capture_output=True, check=False)


def _works(program: Path) -> bool:
    return subprocess.run([program, "check"], capture_output=True, check=False).returncode == 0


def _of_the_distribution() -> Path:
    programs = ensure(CRIU, report)
    libraries = programs.environment()["LD_LIBRARY_PATH"]
    return _written("criu-own", _BARE.format(libraries=libraries, program=programs.path("criu")))


def _newer() -> Path:
    root = cache_dir() / f"criu-{NEWER}"
    with locked(cache_dir() / "criu"):
        if not root.exists():
            _fetch(root)
    return _written("criu-newer", _RUN.format(root=root))


def _written(name: str, script: str) -> Path:
    program = cache_dir() / name / "criu"
    program.parent.mkdir(exist_ok=True)
    if not program.exists() or program.read_text() != script:
        partial = program.with_name(f".{os.getpid()}")
        partial.write_text(script)
        partial.chmod(0o755)
        partial.rename(program)
    return program.parent


def _archive() -> str:
    """Where this machine has its own packages from: newer releases are beside them. Raises LocalClusterError."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for line in told.splitlines():
        if line.startswith("Debian main "):
            return line.removeprefix("Debian main ")
    raise LocalClusterError("this machine has no packages of Debian's", "Install CRIU.")


def _fetch(root: Path) -> None:
    """All of its packages, down to the C library, by apt with lists of its own: nothing of the machine's changes."""
    report(f"Fetching CRIU of Debian {NEWER}; it is unpacked, not installed.")
    partial = root.with_name(f".{root.name}")
    for directory in ("lists/partial", "archives/partial", "root"):
        (partial / directory).mkdir(parents=True, exist_ok=True)
    sources = partial / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYS}] {_archive()} {NEWER} main\n")
    (partial / "status").touch()
    settings = {
        "Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "-", "Dir::State::lists": partial / "lists",
        "Dir::State::status": partial / "status", "Dir::Cache": partial, "Debug::NoLocking": 1,
    }  # fmt: skip
    apt = ["apt-get", "--yes", "--quiet", *(f"--option={name}={value}" for name, value in settings.items())]
    subprocess.run([*apt, "update"], check=True, capture_output=True)
    subprocess.run(
        [*apt, "install", "--download-only", "--no-install-recommends", "criu"], check=True, capture_output=True
    )
    for package in sorted((partial / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, partial / "root"], check=True, capture_output=True)
    (partial / "root").rename(root)
    subprocess.run(["rm", "-rf", partial], check=True)
