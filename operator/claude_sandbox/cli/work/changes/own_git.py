"""A repository of our own, and git in it: no configuration, attribute, hook, alternate or helper of anybody else's.

Theory of operation. It holds a new directory with an empty bare repository in it, which goes with it. What is put in
are objects, whose names git computes from their content, so that none can stand for another. No file of it is ever
checked out. Every process has a bound for its memory, its time, and the files that it writes: a pack of a few bytes
can say that it holds terabytes. A crash leaves the directory, without anything that was run of it.
"""

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.plain import plain_text

MEMORY = 4 << 30
SECONDS = 600
"""Of address space and of CPU that a git may use."""
_SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.excludesFile": os.devnull,
    "core.attributesFile": os.devnull,
    "core.protectHFS": "false",
    "core.protectNTFS": "false",
    "pack.threads": "1",
    "gc.auto": "0",
    "protocol.allow": "never",
    "safe.directory": "*",
}
# Above every .gitattributes: what is text, and how it is compared, is not for the repository to say.
_ATTRIBUTES = "* !diff !text !eol !filter !ident !merge !whitespace !working-tree-encoding !conflict-marker-size\n"


class OwnGit:
    """A context. Every method raises WorkError where git does not do what it is asked for."""

    def __init__(self, most_bytes: int) -> None:
        program = shutil.which("git")
        if program is None:
            raise WorkError("There is no git on this machine, which the changes are computed with.", "Install git.")
        self._program = program
        self._most_bytes = most_bytes
        self.place = Path(tempfile.mkdtemp(prefix="claude-sandbox-diff-"))
        self.repository = self.place / "git"
        self.empty = self.place / "empty"
        """A directory to be in: git looks for files where it is."""
        self.empty.mkdir()
        try:
            # No template: one of this machine may bring hooks.
            self.run("init", "--quiet", "--bare", "--template=", str(self.repository))
            (self.repository / "HEAD").write_text("ref: refs/heads/nothing\n")
            (self.repository / "info").mkdir(exist_ok=True)
            (self.repository / "info/attributes").write_text(_ATTRIBUTES)
        except BaseException:
            shutil.rmtree(self.place, ignore_errors=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.place, ignore_errors=True)

    @property
    def packs(self) -> Path:
        """Where packs are put; `index` makes their objects known."""
        return self.repository / "objects/pack"

    def index(self, pack: Path) -> None:
        """Make the objects of a pack known by names that git computes from their content."""
        self.run("index-pack", f"--max-input-size={self._most_bytes}", str(pack))

    def has(self, commit: str) -> bool:
        """Whether there is this commit, or what the name stands for."""
        return self._done("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0

    def merge_base(self, one: str, other: str) -> str | None:
        """A commit that both come from; None where there is none, or the history is not there."""
        found = self._done("merge-base", one, other)
        return found.stdout.decode("ascii", errors="replace").strip() or None if found.returncode == 0 else None

    def run(self, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        """What it prints."""
        done = self._done(*arguments, stdin=stdin, environment=environment)
        if done.returncode:
            raise WorkError(
                f"git {arguments[0]} failed on what the sandbox sent: {plain_text(done.stderr) or done.returncode}.",
                "The repository in the sandbox may be damaged, or too large: --max-size.",
            )
        return done.stdout

    def _done(
        self, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            self._command(*arguments),
            input=stdin,
            capture_output=True,
            check=False,
            cwd=self.empty,
            env={**self._environment(), **(environment or {})},
            preexec_fn=self._bounded,
        )

    def start(
        self, *arguments: str, errors: IO[bytes] | None = None, environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """A git that is written to and read from."""
        return subprocess.Popen(
            self._command(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors or subprocess.DEVNULL,
            cwd=self.empty,
            env={**self._environment(), **(environment or {})},
            preexec_fn=self._bounded,  # noqa: PLW1509
        )

    def stream(self, *arguments: str) -> Iterator[bytes]:
        """What it prints, in pieces."""
        with (self.place / "errors").open("wb+") as errors, self.start(*arguments, errors=errors) as process:
            assert process.stdin is not None  # noqa: S101 - both are pipes
            assert process.stdout is not None  # noqa: S101
            # It reads nothing, and would not end while it could.
            process.stdin.close()
            try:
                # `read1`, so that what is there is shown before a whole piece is.
                while part := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
                    yield part
            except BaseException:
                process.kill()
                raise
            if process.wait():
                errors.seek(0)
                raise WorkError(f"git {arguments[0]} failed: {plain_text(errors.read(4096))}.", "See --max-size.")

    def _command(self, *arguments: str) -> list[str]:
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        # A replacement ref would have one commit shown for another.
        return [self._program, "--no-pager", "--no-replace-objects", *settings, *arguments]

    def _environment(self) -> dict[str, str]:
        # Nothing is inherited: each GIT_… variable may name a program or another repository.
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            # Nothing of a user's own is there: no configuration, and no credential helper.
            "HOME": str(self.empty),
            "XDG_CONFIG_HOME": str(self.empty),
            "LC_ALL": "C.UTF-8",
            "GIT_DIR": str(self.repository),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            # An object that is missing is missing, and asked for nowhere.
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_CEILING_DIRECTORIES": str(self.place),
        }

    def _bounded(self) -> None:
        for kind, bound in (
            (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 2 * self._most_bytes + (1 << 20)),
        ):  # fmt: skip
            resource.setrlimit(kind, (bound, bound))
