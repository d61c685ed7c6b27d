"""What a node is called on the machine: derived from the cluster's directory, so that nothing needs a record."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.layout import Layout

# A tmpfs on every Linux, so it is empty after a restart of the machine, as is all that it stands for.
RUN = Path("/run/claude-sandbox")


@dataclass(frozen=True)
class Names:
    """The names of one node's parts outside of its own namespaces."""

    id: str

    @classmethod
    def of(cls, layout: Layout) -> "Names":
        """The names for the cluster; two clusters of the same name in different directories have different ones."""
        return cls(hashlib.sha256(str(layout.root).encode()).hexdigest()[:8])

    @property
    def directory(self) -> Path:
        """Where the node's namespaces are held."""
        return RUN / f"node-{self.id}"

    @property
    def network(self) -> Path:
        return self.directory / "net"

    @property
    def mounts(self) -> Path:
        return self.directory / "mnt"

    @property
    def complete(self) -> Path:
        """There when the namespaces have all that belongs into them."""
        return self.directory / "complete"

    @property
    def link(self) -> str:
        """The machine's end of the link to the node; at most 15 characters (IFNAMSIZ)."""
        return f"csb{self.id}"

    @property
    def table(self) -> str:
        """The machine's nftables table for the node's way out."""
        return f"claude-sandbox-{self.id}"

    @property
    def cgroup(self) -> str:
        """The cgroup, in every hierarchy, that holds the node's pods."""
        return f"claude-sandbox-{self.id}"
