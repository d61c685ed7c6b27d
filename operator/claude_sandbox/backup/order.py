"""What is ordered of a helper, and where it finds things."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_sandbox.backup import RESTORED, SCRATCH, SCRATCH_BEFORE, SOURCE
from claude_sandbox.backup.servers import Server
from claude_sandbox.backup.tree import MARKER

MARKER_NAME = os.fsdecode(MARKER)
LOST = "lost+found"
HOME = "home"
"""The part that a snapshot needn't have."""
_PATIENCE = 600.0
"""Seconds that a repository is waited for which another helper has."""


@dataclass(frozen=True)
class Places:
    """Where things are; in a test elsewhere."""

    source: Path = Path(SOURCE)
    scratch: Path = Path(SCRATCH)
    restored: Path = Path(RESTORED)
    git: str = "git"
    patience: float = _PATIENCE

    @property
    def about(self) -> Path:
        """What goes along with the workspace: the list, the manifest."""
        return self.scratch / "about"

    def list_of(self, part: str) -> Path:
        """Of what is in a part, with digests."""
        return self.about / f"{part}.list"

    @property
    def abouts(self) -> tuple[Path, Path]:
        """Where what goes along is in a snapshot: now, and before."""
        return self.about, Path(SCRATCH_BEFORE, self.about.name)

    @property
    def form(self) -> Path:
        """In which form the lists beside it are, as JSON."""
        return self.about / "form.json"

    @property
    def brought(self) -> Path:
        """Where what goes along comes to out of a snapshot."""
        return self.scratch / "brought"

    def brought_list_of(self, part: str) -> Path | None:
        """The list that came out of a snapshot, which was elsewhere and had another name before."""
        name = self.list_of(part).name
        known = (below(self.brought, about) / one for about in self.abouts for one in (name, f"{name}.gz"))
        return next((one for one in known if one.exists()), None)

    @property
    def copy(self) -> Path:
        """Where a snapshot is restored to be compared."""
        return self.scratch / "restored"

    @property
    def gate(self) -> Path:
        """What restic comes to before it comes to `about`, for it goes by names."""
        return self.scratch / ".gate"

    def before_of(self, part: str) -> Path:
        """What the kernel said of what is in a part, before anything was read."""
        return self.scratch / f"{part}.before"

    def noted_of(self, part: str) -> Path:
        """Of what was another then than it was when it was listed."""
        return self.scratch / f"{part}.noted"

    def touched_of(self, part: str) -> Path:
        """Of what changed in it meanwhile."""
        return self.scratch / f"{part}.touched"

    def filled(self, part: str) -> Path:
        """Where a restore puts a part."""
        return below(self.restored, self.source / part)


def below(root: Path, path: Path) -> Path:
    """An absolute path, as it is below another root."""
    return root / path.relative_to("/")


@dataclass(frozen=True)
class Order:
    """What is to be done."""

    action: str
    sandbox: str
    uid: str
    parts: tuple[str, ...] = ("workspace",)
    """Directories below the source."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What goes along, by name."""
    keep: Mapping[str, int] = field(default_factory=dict)
    """How many snapshots are kept, as restic's `--keep-…`. Empty: all."""
    snapshot: str = ""
    repository: str = ""
    """Which repository was there before, as restic names it; empty where nobody knows of one."""
    verified: str = ""
    """The sandbox's last snapshot there, if that was verified, and to read its list saves more than it takes."""
    server: Server | None = None
    """Where the repository is, if it is elsewhere."""
    location: str = ""
    """Where the repository is in words, for who made the helper and may have ended since."""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Order":
        """Raises KeyError, TypeError and ValueError."""
        return cls(
            str(told["action"]),
            str(told["sandbox"]),
            str(told["uid"]),
            tuple(map(str, told.get("parts") or ("workspace",))),
            {_name(name): str(text) for name, text in (told.get("files") or {}).items()},
            {str(name): int(count) for name, count in (told.get("keep") or {}).items()},
            str(told.get("snapshot") or ""),
            str(told.get("repository") or ""),
            _snapshot(str(told.get("verified") or "")),
            Server.read(told["server"]) if told.get("server") else None,
            str(told.get("location") or ""),
        )


def _name(name: str) -> str:
    if not name or "/" in name or name.startswith("."):
        raise ValueError("a file that goes along has no simple name")
    return name


def _snapshot(name: str) -> str:
    if name.strip("0123456789abcdef"):
        raise ValueError("a snapshot is named by a digest")
    return name


def is_roots(path: Path) -> bool:
    """Whether it is there, and root's: mkfs made it, and no user did."""
    try:
        return path.lstat().st_uid == 0
    except OSError:
        return False


def remove(directory: Path) -> None:
    """A directory, with what has no right of its own to be removed: directories that are read-only."""
    if directory.is_dir():
        subprocess.run(["chmod", "-R", "u+rwX", str(directory)], check=False, capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)
