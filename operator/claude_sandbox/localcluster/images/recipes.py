"""What each image is made of: the files of its build context, fetched and checked on this machine."""

import base64
import hashlib
import os
import platform
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.claudecode import program, review
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images.base import packages
from claude_sandbox.localcluster.images.progress import run
from claude_sandbox.localcluster.images.wheels import REMEDY, fetched, pip
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs import toolchain

CLAUDE_CODE = "2.1.331"
# The npm packages of the native program by machine, and their published hashes (subresource integrity).
_CLAUDE_PACKAGES = {
    "x86_64": (
        "@anthropic-ai/claude-code-linux-x64",
        "sha512-IpvZ9c/NopO/sr8ThWLVAUDXVAFT3auLWrhbR6wq1dgkuJfZYdTtoXf6GajE5KL9R58iTt/86OPXrJAsM4+l8g==",
    ),
    "aarch64": (
        "@anthropic-ai/claude-code-linux-arm64",
        "sha512-zy+OOB7i1J7rCjNoPB2ZBD7EAtT0Eus1wH+toklZGL2XpwHyw+POGUGOpEBBE6xe5EkAYWXzFSTQ3uD8UtWlRg==",
    ),
}
_PROGRAMS = ("entrypoint", "clone-repositories")


@dataclass(frozen=True)
class Recipe:
    """An image by name: where its sources are, what it is called, and what is fetched for it.

    `fetch` gets the staging directory, the Python version of the base (`3.11`) and a place for progress.
    """

    name: str
    reference: str
    default_base: str
    sources: tuple[Path, ...]
    pins: tuple[str, ...]
    fetch: Callable[[Path, str, Callable[[str], None]], None]

    def packages(self) -> tuple[str, ...]:
        """The distribution's packages that the image has."""
        return packages((self.sources[0] / "packages.txt").read_text())

    def key(self) -> str:
        """A digest of everything that decides the image's content, but for the base."""
        digest = hashlib.sha256("\0".join((self.reference, platform.machine(), *self.pins)).encode())
        for source in self.sources:
            files = sorted(source.rglob("*")) if source.is_dir() else [source]
            for file in files:
                if file.is_file() and "__pycache__" not in file.parts:
                    digest.update(str(file.relative_to(source.parent)).encode() + b"\0")
                    digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def stage(self, directory: Path, python: str, report: Callable[[str], None]) -> None:
        """Lay out the build context in an empty directory. Raises LocalClusterError where a file can't be fetched."""
        shutil.copytree(self.sources[0], directory, dirs_exist_ok=True)
        shutil.copy(self.sources[0].parent / "install-packages", directory)
        for name in _PROGRAMS:
            if (directory / name).exists():
                (directory / name).chmod(0o755)
        self.fetch(directory, python, report)


def project() -> Path:
    """The directory of the project's sources. Raises LocalClusterError where it was installed without them."""
    root = Path(__file__).parents[4]
    if not (root / "images").is_dir():
        raise LocalClusterError(
            "The images' sources are not there.", "Run this from a clone of the project, not from an installed wheel."
        )
    return root


def recipe(name: str) -> Recipe:
    """The recipe of the image called `sandbox` or `operator`. Raises KeyError for another name."""
    return {"sandbox": _sandbox, "operator": _operator}[name](project())


def _sandbox(root: Path) -> Recipe:
    return Recipe(
        name="sandbox",
        reference=f"claudesandbox.dev/sandbox:{CLAUDE_CODE}",
        default_base="debian:bookworm-slim",
        sources=(root / "images/sandbox", root / "images/install-packages"),
        pins=_claude_package(),
        fetch=lambda directory, _python, report: _reviewed(fetch_claude(directory, report), report),
    )


def _operator(root: Path) -> Recipe:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return Recipe(
        name="operator",
        reference=f"claudesandbox.dev/operator:{version}",
        default_base="python:3.11-slim-bookworm",
        sources=(
            root / "images/operator",
            root / "images/install-packages",
            root / "operator/claude_sandbox",
            root / "requirements.lock",
            root / "requirements-build.lock",
            root / "pyproject.toml",
        ),
        pins=(),
        fetch=lambda directory, python, report: _fetch_wheels(root, directory, python, report),
    )


def _claude_package() -> tuple[str, str]:
    machine = platform.machine()
    try:
        return _CLAUDE_PACKAGES[machine]
    except KeyError:
        raise LocalClusterError(
            f"Claude Code has no program for this machine's architecture, {machine}.",
            f"Use a machine with one of these: {', '.join(_CLAUDE_PACKAGES)}.",
        ) from None


def fetch_claude(directory: Path, report: Callable[[str], None]) -> Path:
    """Claude Code's program as `directory/claude`. Raises LocalClusterError where it can't be had."""
    package, integrity = _claude_package()
    parent = cache_dir() / "npm"
    archive = parent / f"{package.rpartition('/')[2]}-{CLAUDE_CODE}.tgz"
    with locked(parent):
        if not archive.exists():
            _pack(package, integrity, archive, report)
    # tar is quicker than Python's tarfile on 240 MB, and takes one member only.
    run(["tar", "-xzf", archive, "-C", directory, "--strip-components=1", "package/claude"],
        "Unpacking Claude Code", report)  # fmt: skip
    unpacked = directory / "claude"
    unpacked.chmod(0o755)
    return unpacked


def _reviewed(file: Path, report: Callable[[str], None]) -> None:
    """Raises LocalClusterError for a program that could be led astray in a way that nobody has decided about."""
    report("Looking at what this release of Claude Code can be told.")
    try:
        code = file.read_bytes()
        undecided = review.undecided(program.variables(code), program.settings(code))
    except ValueError as error:
        raise LocalClusterError(
            f"Claude Code {CLAUDE_CODE} can't be reviewed: {error}.",
            "Mend operator/claude_sandbox/claudecode/program.py for the way in which this release is built.",
        ) from error
    if undecided:
        raise LocalClusterError(
            f"Claude Code {CLAUDE_CODE} knows what is neither pinned nor waived:\n" + "\n".join(undecided),
            "Pin each in operator/claude_sandbox/claudecode/pinned.py, or waive it with a reason in waived.py.",
        )


def _pack(package: str, integrity: str, archive: Path, report: Callable[[str], None]) -> None:
    partial = archive.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        run(
            [*toolchain.npm(report), "pack", "--silent", "--ignore-scripts", f"{package}@{CLAUDE_CODE}"],
            f"Fetching {package} {CLAUDE_CODE}", report, directory=partial,
            remedy="Let npm reach a package registry (npm config get registry), and try again.",
        )  # fmt: skip
        fetched = next(partial.glob("*.tgz"))
        # What was published, as noted above, not what the registry says of itself.
        if sha512(fetched) != integrity:
            raise LocalClusterError(
                f"{package} {CLAUDE_CODE} is not what was published: its hash is {sha512(fetched)}.",
                "Find out what your npm registry serves instead; don't use it.",
            )
        fetched.rename(archive)
    finally:
        shutil.rmtree(partial)


def sha512(file: Path) -> str:
    """The file's hash as npm's lock files write it."""
    with file.open("rb") as content:
        return "sha512-" + base64.b64encode(hashlib.file_digest(content, "sha512").digest()).decode()


def _fetch_wheels(root: Path, directory: Path, python: str, report: Callable[[str], None]) -> None:
    wheels = directory / "wheels"
    shutil.copy(root / "requirements.lock", directory)
    shutil.copytree(fetched((root / "requirements.lock", directory / "pip.txt"), python, report), wheels)
    # pip by itself would fetch whatever goes by the name of the build's backend and of what that needs.
    with tempfile.TemporaryDirectory() as backend:
        run(
            [*pip(), "install", "--require-hashes", "--no-deps", "--only-binary=:all:", "--target", backend,
             "--requirement", root / "requirements-build.lock"],
            "Fetching what builds the operator's wheel", report, remedy=REMEDY,
        )  # fmt: skip
        run(
            [*pip(), "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", wheels, root],
            "Building the operator's wheel", report, remedy=REMEDY, environment=os.environ | {"PYTHONPATH": backend},
        )  # fmt: skip
