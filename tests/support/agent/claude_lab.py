"""Claude Code's real program in a workspace of its own: as UID 1000, with managed settings where it looks for them.

No node and no engine: a mount namespace in which /etc is a copy. So a run takes less than a second.
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anthropic_stand_in import StandIn, serving

from claude_sandbox.claudecode import pinned

KEY = "sk-ant-api03-of-the-sandbox"
USER = 1000
# In the namespace: $1 is the copy of /etc, $2 the workspace. The rest is the command.
_INSIDE = (
    'mount --bind "$1" /etc && cd "$2" && shift 2'
    ' && exec setpriv --reuid 1000 --regid 1000 --clear-groups --no-new-privs --inh-caps=-all -- "$@"'
)


@dataclass(frozen=True)
class Run:
    """What a run said, which markers a command of the attacker's left, and who was asked what."""

    output: str
    markers: frozenset[str]
    api: tuple[str | None, ...]
    """The key of each message that reached the API."""
    stolen: tuple[str, ...]
    """The path of each request that reached the attacker, and what it bore for a key."""

    @property
    def attacked(self) -> bool:
        return bool(self.markers or self.stolen)


@dataclass
class Lab:
    """A workspace with a repository, the API's stand-in, and an attacker's server.

    In files and settings @WORKSPACE, @HOME and @ATTACKER stand for the two directories and the attacker's URL.
    """

    program: Path
    directory: Path
    api: StandIn
    attacker: StandIn
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the process, beside those that every one has."""
    person: dict[str, Any] = field(default_factory=dict)
    """Settings of the person's own, in the home directory: no repository's."""
    beside: dict[str, str] = field(default_factory=dict)
    """Files beside the managed settings, by their paths."""

    @property
    def workspace(self) -> Path:
        return self.directory / "workspace"

    @property
    def home(self) -> Path:
        return self.directory / "home"

    def run(
        self, files: Mapping[str, Any], managed: Mapping[str, Any] | None = None, *arguments: str, seconds: float = 30
    ) -> Run:
        """One headless run in a new workspace with these files and managed settings, by default the product's.

        A file's content is a text, bytes, or what is written as JSON; scripts end in `.sh`.
        """
        self._begin()
        for path, content in files.items():
            self._write(self.workspace / path, content)
        shutil.rmtree(self.directory / "etc/claude-code", ignore_errors=True)
        for path, content in {**self.beside, "managed-settings.json": dict(self.managed(managed))}.items():
            self._write(self.directory / "etc/claude-code" / path, content)
        for server in (self.api, self.attacker):
            server.requests.clear()
        done = self._ask(arguments or ("-p", "ping"), seconds)
        markers = (path.name for root in (self.home, self.workspace) for path in root.rglob("marker*"))
        return Run(
            done,
            frozenset(markers),
            tuple(one.key for one in self.api.requests if "/v1/messages" in one.path),
            tuple(f"{one.path} {one.key or one.token}" for one in self.attacker.requests),
        )

    def managed(self, settings: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """These settings, or else the product's, with the stand-in for the API."""
        if settings is not None:
            return settings
        return pinned.managed_settings(str(self.directory / "key"), pinned.Api(self.api.url))

    def bare(self) -> dict[str, Any]:
        """The least that makes Claude Code work: the control, in which an attack is to succeed."""
        return {
            "apiKeyHelper": f"/bin/cat {self.directory / 'key'}",
            "env": {**pinned.QUIET, "ANTHROPIC_BASE_URL": self.api.url, "NO_PROXY": "", "no_proxy": ""},
        }

    def _begin(self) -> None:
        for name in ("home", "workspace"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        trust = {str(self.workspace): {"hasTrustDialogAccepted": True}}
        self._write(self.home / ".claude.json", {"hasCompletedOnboarding": True, "projects": trust})
        self._write(self.home / ".claude/settings.json", {"skipDangerousModePermissionPrompt": True, **self.person})
        # Claude Code asks git about the workspace at start.
        shutil.copytree(self.directory / "git", self.workspace / ".git")

    def _write(self, path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
            return
        text = content if isinstance(content, str) else json.dumps(content)
        for name, value in (("WORKSPACE", self.workspace), ("HOME", self.home), ("ATTACKER", self.attacker.url)):
            text = text.replace(f"@{name}", str(value))
        path.write_text(text)
        path.chmod(0o755 if path.suffix == ".sh" else 0o644)

    def _ask(self, arguments: tuple[str, ...], seconds: float) -> str:
        for root in (self.home, self.workspace):
            subprocess.run(["chown", "-R", f"{USER}:{USER}", root], check=True)
        places = [str(self.directory / "etc"), str(self.workspace)]
        command = ["unshare", "--mount", "sh", "-c", _INSIDE, "lab", *places, str(self.program), *arguments]
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "TMPDIR": str(self.home), **self.environment}
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
                check=False,
            )  # fmt: skip
            return done.stdout + done.stderr
        return "it did not end"


@contextlib.contextmanager
def claude_lab(program: Path) -> Iterator[Lab]:
    """A lab in a temporary directory that every user may enter. Only root can make one."""
    with tempfile.TemporaryDirectory(prefix="claude-lab-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "key").write_text(KEY)
        shutil.copytree("/etc", directory / "etc", symlinks=True, ignore_dangling_symlinks=True)
        (directory / "git/refs").mkdir(parents=True)
        (directory / "git/objects").mkdir()
        (directory / "git/HEAD").write_text("ref: refs/heads/main\n")
        (directory / "git/config").write_text("[core]\n\trepositoryformatversion = 0\n")
        with serving("127.0.0.1") as api, serving("127.0.0.1") as attacker:
            yield Lab(program, directory, api, attacker)
