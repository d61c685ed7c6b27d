"""Where a cluster keeps its files, and where built binaries are kept."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError

ENGINE_RECORD = "engine.json"
"""In an engine's directory, what it is."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    # The XDG base directory specification: a relative path is to be ignored.
    return Path(value) if value.startswith("/") else Path.home() / default


def cache_dir() -> Path:
    """Built and fetched binaries, shared by all clusters; safe to delete at any time."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "claude-sandbox"


def state_dir() -> Path:
    """What there is on this machine of this user: clusters and engines."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "claude-sandbox"


def clusters_dir() -> Path:
    """One directory for each cluster that is up (or was interrupted)."""
    return state_dir() / "clusters"


def engines_dir() -> Path:
    """One directory for each engine that is up (or was interrupted)."""
    return state_dir() / "engines"


@dataclass(frozen=True)
class Layout:
    """The files of one cluster. Everything lies below `root`, so that `down` can remove it whole."""

    root: Path

    @classmethod
    def of(cls, name: str) -> "Layout":
        """The layout of the cluster called `name`; raises LocalClusterError for a name that can't be used."""
        if not _NAME.fullmatch(name):
            raise LocalClusterError(
                f"{name!r} can't be a cluster's name.",
                "Use at most 32 lowercase letters, digits and dashes, beginning and ending with a letter or digit.",
            )
        return cls(clusters_dir() / name)

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def record(self) -> Path:
        return self.root / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def node(self) -> Path:
        return self.root / "node"

    def make(self) -> None:
        """Create the directories, readable by their owner only."""
        for directory in (self.root, self.pki, self.logs, self.run, self.etcd, self.config):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)
