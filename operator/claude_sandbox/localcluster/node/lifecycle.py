"""A node from nothing to Ready, and from whatever state it is in to nothing.

Theory of operation. `attach` and `up` make what is missing, and can be repeated; `down` goes by names that follow from
the cluster's directory, and needs no record. What the node changes outside of its own namespaces and control group (the
link to the machine, kernel settings, packet filter rules) is known to `down`, which puts it back.

Called under the lock of the cluster that the node is of. Holds nothing in memory.
"""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from claude_sandbox.localcluster import components
from claude_sandbox.localcluster.context import NodeContext
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images.archive import ImageArchive
from claude_sandbox.localcluster.layout import Layout, write_private
from claude_sandbox.localcluster.node import (
    cgroups,
    checks,
    config,
    images,
    manifests,
    namespaces,
    parts,
    processes,
    settings,
    volumes,
)
from claude_sandbox.localcluster.node.api import Api
from claude_sandbox.localcluster.node.commands import succeeds
from claude_sandbox.localcluster.node.config import Files
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.network import link, near
from claude_sandbox.localcluster.node.parts import COMPONENTS, NEEDED, Part
from claude_sandbox.localcluster.pki.pki import Files as KeyFiles
from claude_sandbox.localcluster.programs.os_packages import Programs, ensure

Report = Callable[[str], None]

# The last two become images of pods.
BINARIES = (
    *("kubelet", "kube-proxy", "kube-router", "coredns", "pause"),
    *("containerd", "containerd-shim-runc-v2", "runc"),
)

# Modules of the kernel, where it has not been built with them.
_MODULES = ("br_netfilter", "overlay", "nf_tables", "ip_set", "veth")


def preflight() -> None:
    """Raise LocalClusterError where this machine can't have a node, with what to do about it."""
    if os.geteuid() != 0:
        raise LocalClusterError(
            "A node can only be made by root.", "Run the command as root, or use a cluster without --node."
        )
    if not Path("/proc/self/ns/net").exists() or shutil.which("unshare") is None:
        raise LocalClusterError("A node needs Linux with namespaces and util-linux.", "Use another machine, or kind.")


def attach(context: NodeContext, report: Report) -> None:
    """Make the node's namespaces and its link to the machine, so that `gateway_ip` is there to be listened on."""
    programs = ensure(NEEDED, report)
    names = Names.of(context.layout)
    context.layout.node.mkdir(mode=0o700, exist_ok=True)
    _load_modules()
    # First: what is changed of the machine is noted, so that `down` can put it back.
    settings.prepare(names.id)
    namespaces.make(names, context.layout)
    link.make(names, _addresses(context), programs)
    near.close(names, programs)


def up(context: NodeContext, report: Report) -> None:
    """Start what doesn't run of the node, and return when it is Ready, resolves names and enforces policies."""
    programs = ensure(NEEDED, report)
    layout, names, api = context.layout, Names.of(context.layout), _api(context)
    pause, coredns = (images.of_program(name, context) for name in ("pause", "coredns"))
    files = _write_files(context, names, programs, pause)
    cgroups.make(names.cgroup)

    def start(part: Part) -> None:
        if components.running(layout, part.name) is None:
            report(f"Starting {part.name}.")
        environment = programs.environment()
        if part.path is not None:
            environment["PATH"] = f"{part.path}:{environment['PATH']}"
        components.start(layout, part.name, _inside(names, programs, part), environment, part.inputs)

    def wait(trouble: str, well: Callable[[], bool], *needed: str) -> None:
        checks.await_true(layout, needed or COMPONENTS, trouble, well)

    start(parts.containerd(context, files))
    wait("containerd does not answer", lambda: checks.health(layout, "containerd"), "containerd")
    # Before the kubelet, which would look for them in a registry.
    for archive in (pause, coredns):
        images.load(names, archive, programs)
    _apply(api, context, coredns, files)
    start(parts.kubelet(context, files))
    wait("the node is not registered", lambda: checks.is_registered(api, context.node_name), "kubelet")
    start(parts.kube_proxy(context, files))
    start(parts.kube_router(context, files))
    report("Waiting for the node to be ready.")
    wait("the node is not Ready", lambda: checks.is_ready(api, context.node_name))
    wait("the kubelet knows no pods", lambda: checks.knows_pods(layout, context.node_ip))
    wait("CoreDNS does not resolve the cluster's names", lambda: checks.resolves(names, context.cluster_dns_ip))
    wait("kube-router enforces no policies", lambda: checks.enforces(names, programs, context.node_ip))
    for name in COMPONENTS:
        wait(f"{name} is not well", partial(checks.health, layout, name))


def load_image(layout: Layout, archive: ImageArchive) -> None:
    """Give the node an image, so that pods can name it as `archive.reference` or `archive.pinned`.

    Raises LocalClusterError where the node doesn't run.
    """
    images.load(Names.of(layout), archive, ensure(NEEDED, lambda _line: None))


def down(layout: Layout, report: Report) -> None:
    """End everything of the node and remove it from the machine, whatever state it is in."""
    names = Names.of(layout)
    report("Taking the node down.")
    # Nothing is worth saving, and nothing may start a pod's process anew.
    for name in reversed(COMPONENTS):
        components.stop(layout, name, grace=0)
    # By record, by namespaces and by control group: each finds what the others miss.
    processes.end(names)
    cgroups.end(names.cgroup)
    # Only now: that a package can't be fetched must not keep processes running.
    programs = ensure(NEEDED, report)
    link.close(names, programs)
    link.remove(names, programs)
    namespaces.remove(names)
    settings.restore(names.id)
    if layout.node.exists():
        shutil.rmtree(layout.node)


def _addresses(context: NodeContext) -> link.Addresses:
    return link.Addresses(context.gateway_ip, context.node_ip, context.link_cidr, context.pod_cidr)


def _load_modules() -> None:
    modprobe = shutil.which("modprobe", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    for module in _MODULES if modprobe else ():
        # A module that was built in, or that this machine may not load: what is missing shows below.
        succeeds([str(modprobe), "--quiet", module])
    if not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        raise LocalClusterError(
            "The kernel can't filter packets between pods.", "Load its module: `modprobe br_netfilter`."
        )


def _write_files(context: NodeContext, names: Names, programs: Programs, pause: ImageArchive) -> Files:
    files = Files(context.layout.node / "config")
    files.network.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    plugins = programs.directory("usr/lib/cni", "opt/cni/bin")
    if plugins is None:
        raise LocalClusterError("The CNI plugins are not there.", "Install the package containernetworking-plugins.")
    machine = Path("/etc/resolv.conf")
    content = {
        files.containerd: config.containerd(context, pause.reference, plugins, files),
        files.network: config.network(context.pod_cidr),
        files.kubelet: config.kubelet(context, files, names.cgroup),
        files.kube_proxy: config.kube_proxy(context),
        files.resolver: config.resolver(machine.read_text() if machine.exists() else ""),
        checks.address_file(context.layout): context.node_ip,
    }
    for file, text in content.items():
        write_private(file, text)
    # Pods read it under their own users.
    files.resolver.chmod(0o644)
    files.policy_programs.mkdir(mode=0o700, exist_ok=True)
    restore = files.policy_programs / "ip6tables-restore"
    write_private(restore, config.IP6TABLES_RESTORE)
    restore.chmod(0o700)
    return files


def _inside(names: Names, programs: Programs, part: Part) -> tuple[str, ...]:
    nsenter, *arguments = namespaces.enter(names)
    return (str(programs.path(nsenter)), *arguments, *part.argv)


def _apply(api: Api, context: NodeContext, coredns: ImageArchive, files: Files) -> None:
    forwards = bool(files.resolver.read_text())
    for manifest in (
        *manifests.policy_engine(),
        *manifests.resolver(coredns.pinned, context.cluster_dns_ip, forwards),
        manifests.storage_class(),
    ):
        api.apply(manifest)
    volumes.ensure(api, context.layout, context.node_name)


def _api(context: NodeContext) -> Api:
    admin = KeyFiles(context.layout.pki, "admin")
    return Api(context.server, context.ca, admin.certificate, admin.key)
