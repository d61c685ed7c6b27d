"""Where an engine keeps its files, and what its parts are called on the machine."""

from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.layout import ENGINE_RECORD, Layout, engines_dir
from claude_sandbox.localcluster.node.names import RUN, Names


@dataclass(frozen=True)
class Places(Layout):
    """The files of one engine. All lies below `root`, but for the sockets (see EngineNames.sockets)."""

    @classmethod
    def of(cls, name: str) -> "Places":
        """The places of the engine called `name`; raises LocalClusterError for a name that can't be used."""
        return cls(engines_dir() / Layout.of(name).name)

    @property
    def record(self) -> Path:
        return self.root / ENGINE_RECORD

    @property
    def data(self) -> Path:
        """dockerd's data root."""
        return self.root / "docker"

    @property
    def containerd(self) -> Path:
        """containerd's, which holds the images of newer engines."""
        return self.root / "containerd"

    def make(self) -> None:
        """Create the directories, readable by their owner only."""
        for directory in (self.root, self.logs, self.run, self.config, self.pki, self.node):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)


@dataclass(frozen=True)
class EngineNames(Names):
    """The names of an engine's parts outside of its own namespaces."""

    @classmethod
    def of(cls, layout: Layout) -> "EngineNames":
        """The names for the engine; two of the same name in different directories have different ones."""
        return cls(Names.of(layout).id)

    @property
    def directory(self) -> Path:
        """Where the engine's namespaces are held."""
        return RUN / f"engine-{self.id}"

    @property
    def sockets(self) -> Path:
        """Where the engine listens, within its namespaces and outside of them.

        A socket's path may have 108 bytes at most, so it can't be below a state directory of any length.
        """
        return self.directory / "sockets"
