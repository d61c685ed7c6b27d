"""A Kubernetes of one's own on this machine: brought up, repaired, inspected and removed without a trace.

Theory of operation. `up` compares what is there with what the cluster's description says and does what is missing, so
it mends what a crash or an interrupted `up` left. `down` relies on no description: it ends what carries the cluster's
mark and removes the directory, from whatever state.

Holds nothing in memory: the description (`description.py`) and the records of processes (`components.py`) are in the
cluster's directory, and the lock on that directory lets one command at a time change them. Ports and addresses are
chosen under a lock of all clusters and engines (`claims.py`).
"""

import contextlib
import importlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from claude_sandbox.localcluster import components, controlplane, description, kubeconfig, ports
from claude_sandbox.localcluster.context import NodeContext
from claude_sandbox.localcluster.description import Description, Wish
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.health import await_healthy
from claude_sandbox.localcluster.layout import Layout, write_private
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.pki import pki
from claude_sandbox.localcluster.pki.pki import Files
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.tools import tool

Report = Callable[[str], None]


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up."""

    name: str
    kubeconfig: Path
    """The administrator's kubeconfig."""
    server: str
    """The API server's URL."""
    version: str
    """The Kubernetes release, for example `1.34.4`."""
    layout: Layout


def up(
    name: str,
    *,
    version: str | None = None,
    node: bool = False,
    controllers: bool = False,
    port: int | None = None,
    fsync: bool = True,
    copy: Path | None = None,
    ipv6: bool = False,
    report: Report,
) -> Cluster:
    """Bring the cluster up, or what is missing of it; return when all of it is well.

    `version` is `1.34` or `1.37` (None: what the cluster has, or the default); `controllers` adds
    kube-controller-manager and kube-scheduler, `node` a node and the controllers; `port` is the API
    server's; without `fsync` data may be lost when the machine crashes, and writes are faster; `copy` is
    a further file for the admin's kubeconfig; with `ipv6` all addresses are of IPv6, and the node reaches
    nothing but this machine. `report` is called with lines for a person.
    Raises LocalClusterError where it can't be done.
    """
    layout = Layout.of(name)
    wish = Wish(version, node, controllers, port, fsync, None if copy is None else copy.absolute(), ipv6)
    with _owned(layout, report):
        existing = description.load(layout)
        if node or (existing is not None and existing.node):
            node_room().preflight()
        if existing is None:
            # What an interrupted command left without a record is of no use to a new cluster.
            _clear(layout, report)
        wanted = description.settle(layout, wish)
        # Before anything is started: where a build fails, what runs goes on as it is.
        binaries = builder.build_all([tool(one, wanted.release) for one in _needed(wanted)], report)
        return _converge(layout, wanted, binaries, report)


def down(name: str, report: Report) -> bool:
    """End every process of the cluster and remove all it has left on the machine, whatever state it is in.

    Returns whether there was anything. Raises LocalClusterError where something can't be removed.
    """
    layout = Layout.of(name)
    if not layout.root.exists():
        return False
    with _owned(layout, report):
        _clear(layout, report)
    return True


def kill(cluster: Cluster, component: str) -> None:
    """End a component as a crash would. Raises LocalClusterError where it doesn't run."""
    components.kill(cluster.layout, component)


def restart(cluster: Cluster, component: str) -> None:
    """Start a component of the control plane anew, on the same port and data, and wait until it is well.

    Raises LocalClusterError where the cluster has no such component, or it doesn't get well.
    """
    layout = cluster.layout
    with locked(layout.root):
        recorded = require(layout)
        binaries = {one: builder.location(tool(one, recorded.release)) for one in controlplane.names(recorded)}
        for program in controlplane.programs(recorded, layout, binaries):
            if program.name == component:
                components.stop(layout, component)
                _start(layout, recorded, program)
                return
    raise unknown_component(layout, component, controlplane.names(recorded))


def require(layout: Layout) -> Description:
    """The cluster's description; raises LocalClusterError where there is no such cluster."""
    recorded = description.load(layout)
    if recorded is None:
        raise LocalClusterError(
            f"There is no cluster {layout.name!r}.", f"Make it: `claude-sandbox cluster up --name {layout.name}`."
        )
    return recorded


def unknown_component(layout: Layout, component: str, known: tuple[str, ...]) -> LocalClusterError:
    """The error for a component that the cluster doesn't have."""
    return LocalClusterError(
        f"The cluster {layout.name!r} has no component {component!r}.", f"Name one of these: {', '.join(known)}."
    )


@contextlib.contextmanager
def _owned(layout: Layout, report: Report) -> Iterator[None]:
    """Hold the cluster against other commands; leave no trace of one that is gone or could not even be described."""
    with locked(layout.root, lambda: report(f"Waiting for another command on the cluster {layout.name!r}.")):
        try:
            yield
        finally:
            # The directories that hold a cluster, as far as they are empty.
            with contextlib.suppress(OSError):
                for directory in (layout.root, layout.root.parent, layout.root.parent.parent):
                    directory.rmdir()


def _clear(layout: Layout, report: Report) -> None:
    """End the cluster's processes and remove all its files but the directory itself."""
    recorded = description.load(layout)
    if layout.node.exists() or (recorded is not None and recorded.node):
        node_room().down(layout, report)
    for component in components.recorded(layout):
        # Nothing is worth saving: the data goes next.
        if (process := components.running(layout, component)) is not None:
            process.kill()
    # What a crash left without a record, and what the components had started themselves.
    components.sweep(layout)
    for copy in recorded.copies if recorded is not None else ():
        _remove_copy(Path(copy), layout)
    # First of the files, so that one who is interrupted here leaves nothing that looks like a cluster.
    layout.record.unlink(missing_ok=True)
    for entry in layout.root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _converge(layout: Layout, wanted: Description, binaries: dict[str, Path], report: Report) -> Cluster:
    layout.make()
    addresses = wanted.addresses
    node = (wanted.node_name, addresses.node_ip) if wanted.node else None
    pki.ensure(layout.pki, pki.subjects(addresses.gateway_ip if wanted.node else None, node, addresses.kubernetes_ip))
    _write_kubeconfigs(layout, wanted)
    context = _node_context(layout, wanted, binaries) if wanted.node else None
    if context is not None:
        node_room().attach(context, report)
    for program in controlplane.programs(wanted, layout, binaries):
        if components.running(layout, program.name) is None:
            report(f"Starting {program.name}.")
        _start(layout, wanted, program)
    if context is not None:
        node_room().up(context, report)
    return Cluster(wanted.name, layout.kubeconfig, wanted.server, wanted.release, layout)


def _start(layout: Layout, wanted: Description, program: controlplane.Program) -> None:
    if components.running(layout, program.name) is None:
        port = wanted.ports[program.name]
        if not ports.is_free(port, program.probe.host):
            raise LocalClusterError(
                f"{program.name} can't have its port: {program.probe.host}:{port} is taken.",
                f"End what listens there (`ss -ltnp sport = :{port}` tells), or begin afresh after "
                f"`claude-sandbox cluster down --name {layout.name}`.",
            )
    components.start(layout, program.name, program.argv, inputs=program.inputs)
    # The next component needs this one.
    await_healthy(layout, program.name, program.probe, program.patience)


def _write_kubeconfigs(layout: Layout, wanted: Description) -> None:
    users = {layout.config / file: user for file, user in controlplane.kubeconfig_users(wanted).items()}
    if wanted.node:
        users |= {_node_kubeconfig(layout, user): user for user in ("kubelet", "kube-proxy", "kube-router")}
    users[layout.kubeconfig] = "admin"
    for path, user in users.items():
        kubeconfig.ensure(path, wanted.name, user, wanted.server, layout.pki)
    text = layout.kubeconfig.read_bytes()
    for copy in map(Path, wanted.copies):
        if not copy.exists() or copy.read_bytes() != text:
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_private(copy, text)


def _remove_copy(copy: Path, layout: Layout) -> None:
    # Another's kubeconfig may have been written there since.
    with contextlib.suppress(OSError):
        if copy.read_bytes() == layout.kubeconfig.read_bytes():
            copy.unlink()


def _node_kubeconfig(layout: Layout, user: str) -> Path:
    return layout.config / f"{user}.kubeconfig"


def _node_context(layout: Layout, wanted: Description, binaries: dict[str, Path]) -> NodeContext:
    serving = Files(layout.pki, "kubelet-server")
    addresses = wanted.addresses
    return NodeContext(
        layout=layout,
        binaries={name: binaries[name] for name in node_room().BINARIES},
        kubernetes_version=wanted.release,
        server=wanted.server,
        admin_kubeconfig=layout.kubeconfig,
        kubelet_kubeconfig=_node_kubeconfig(layout, "kubelet"),
        kube_proxy_kubeconfig=_node_kubeconfig(layout, "kube-proxy"),
        kube_router_kubeconfig=_node_kubeconfig(layout, "kube-router"),
        ca=Files(layout.pki, "ca").certificate,
        kubelet_certificate=serving.certificate,
        kubelet_key=serving.key,
        service_cidr=addresses.service_cidr,
        cluster_dns_ip=addresses.cluster_dns_ip,
        pod_cidr=addresses.pod_cidr,
        link_cidr=addresses.link_cidr,
        gateway_ip=addresses.gateway_ip,
        node_ip=addresses.node_ip,
        node_name=wanted.node_name,
    )


def _needed(wanted: Description) -> tuple[str, ...]:
    return (*controlplane.names(wanted), *(node_room().BINARIES if wanted.node else ()))


def node_room() -> ModuleType:
    """The package that makes nodes; imported only where there is a node."""
    return importlib.import_module("claude_sandbox.localcluster.node")
