"""How a cluster is, component by component, asked of each one now."""

from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster import components, controlplane
from claude_sandbox.localcluster.cluster import node_room, require
from claude_sandbox.localcluster.description import Description
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.programs.tools import KUBERNETES_PROGRAMS, tool


@dataclass(frozen=True)
class ComponentStatus:
    """One component: `pid` is None where it doesn't run; version and endpoint are empty where it has none."""

    name: str
    pid: int | None
    healthy: bool
    version: str
    endpoint: str


@dataclass(frozen=True)
class ClusterStatus:
    """A cluster and its components, in the order in which they are started."""

    name: str
    kubernetes_version: str
    server: str
    kubeconfig: Path
    components: tuple[ComponentStatus, ...]

    @property
    def healthy(self) -> bool:
        """Whether every component runs and says that it is well."""
        return all(component.healthy for component in self.components)


def status(name: str) -> ClusterStatus:
    """The cluster's status. Raises LocalClusterError where there is no such cluster."""
    layout = Layout.of(name)
    recorded = require(layout)
    ours = [_control_plane_component(layout, recorded, one) for one in controlplane.names(recorded)]
    nodes = [_node_component(layout, recorded, one) for one in node_room().COMPONENTS] if recorded.node else []
    return ClusterStatus(name, recorded.release, recorded.server, layout.kubeconfig, (*ours, *nodes))


def component_names(recorded: Description) -> tuple[str, ...]:
    """All components that the cluster is to have."""
    return (*controlplane.names(recorded), *(node_room().COMPONENTS if recorded.node else ()))


def _control_plane_component(layout: Layout, recorded: Description, name: str) -> ComponentStatus:
    process = components.running(layout, name)
    probe = controlplane.probe(recorded, layout, name)
    return ComponentStatus(
        name,
        None if process is None else process.pid,
        # Another program may have taken the port of one that ended; it could not answer for it.
        process is not None and probe(),
        tool(name, recorded.release).version,
        f"https://{probe.host}:{probe.port}",
    )


def _node_component(layout: Layout, recorded: Description, name: str) -> ComponentStatus:
    process = components.running(layout, name)
    version = recorded.release if name in KUBERNETES_PROGRAMS else ""
    healthy = process is not None and bool(node_room().health(layout, name))
    return ComponentStatus(name, None if process is None else process.pid, healthy, version, "")
