"""A node from nothing to Ready, and from whatever state it is in to nothing."""

import http.client
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from claude_sandbox.localcluster import components
from claude_sandbox.localcluster.context import NodeContext
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.health import Probe, await_healthy
from claude_sandbox.localcluster.images.archive import ImageArchive
from claude_sandbox.localcluster.layout import Layout, write_private
from claude_sandbox.localcluster.node import (
    cgroups,
    config,
    images,
    link,
    manifests,
    namespaces,
    processes,
    resolve,
    settings,
    volumes,
)
from claude_sandbox.localcluster.node.api import Api
from claude_sandbox.localcluster.node.commands import call, succeeds
from claude_sandbox.localcluster.node.config import Files
from claude_sandbox.localcluster.node.manifests import Manifest
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.ospackages import Needed, Programs, ensure
from claude_sandbox.localcluster.pki import Files as KeyFiles

Report = Callable[[str], None]

# The last two become images of pods.
BINARIES = ("kubelet", "kube-proxy", "kube-router", "coredns", "pause")
COMPONENTS = ("containerd", "kubelet", "kube-proxy", "kube-router")

NEEDED = Needed(
    ("containerd", "runc", "containernetworking-plugins", "iptables", "ipset", "conntrack", "nftables", "iproute2"),
    ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "iptables", "ip6tables", "iptables-save",
     "iptables-restore", "ipset", "conntrack", "nft", "ip", "nsenter", "unshare", "mount", "umount"),
)  # fmt: skip
# Where they answer, on the node's address, without TLS.
_HEALTH_PORTS = {"kube-proxy": 10256, "kube-router": 20244}
# Modules of the kernel, where it has not been built with them.
_MODULES = ("br_netfilter", "overlay", "nf_tables", "ip_set", "veth")
# Seconds.
_CONTAINERD_PATIENCE = 30.0
_READY_PATIENCE = 120.0
_POLL = 0.1
_LOG_LINES = 12


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
    settings.prepare(names.id)
    namespaces.make(names, context.layout)
    link.make(names, _addresses(context), programs)


def up(context: NodeContext, report: Report) -> None:
    """Start what doesn't run of the node, and return when it is Ready, resolves names and enforces policies."""
    programs = ensure(NEEDED, report)
    names = Names.of(context.layout)
    pause, coredns = (images.of_program(name, context) for name in ("pause", "coredns"))
    files = _write_files(context, names, programs, pause)
    cgroups.make(names.cgroup)
    _start_containerd(context, names, programs, files, report)
    for archive in (pause, coredns):
        images.load(names, archive, programs)
    api = _api(context)
    _apply(api, context, coredns, files)
    _start_others(context, names, programs, files, report)
    report("Waiting for the node to be ready.")
    _await(context.layout, COMPONENTS, "the node is not Ready", lambda: _node_ready(api, context.node_name))
    _await(
        context.layout, COMPONENTS, "CoreDNS does not resolve the cluster's names", lambda: _resolves(names, context)
    )
    for name in COMPONENTS:
        _await(context.layout, COMPONENTS, f"{name} is not well", partial(health, context.layout, name))
    _await(context.layout, COMPONENTS, "kube-router enforces no policies", lambda: _enforces(names, programs))


def load_image(layout: Layout, archive: ImageArchive) -> None:
    """Give the node an image, so that pods can name it as `archive.reference` or `archive.pinned`.

    Raises LocalClusterError where the node doesn't run.
    """
    images.load(Names.of(layout), archive, ensure(NEEDED, lambda _line: None))


def health(layout: Layout, name: str) -> bool:
    """Whether the component answers that it is well, now."""
    if components.running(layout, name) is None:
        return False
    names = Names.of(layout)
    programs = ensure(NEEDED, lambda _line: None)
    if name == "containerd":
        return _containerd_answers(names, programs)
    address = (layout.node / "address").read_text()
    if name in _HEALTH_PORTS:
        return _answers_ok(address, _HEALTH_PORTS[name])
    return _kubelet_probe(layout, address)()


def down(layout: Layout, report: Report) -> None:
    """End everything of the node and remove it from the machine, whatever state it is in."""
    names = Names.of(layout)
    report("Taking the node down.")
    # Nothing is worth saving, and nothing may start a pod's process anew.
    for name in reversed(COMPONENTS):
        components.stop(layout, name, grace=0)
    processes.end(names)
    cgroups.end(names.cgroup)
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
        files.containerd: config.containerd(pause.reference, programs.path("runc"), plugins, files.network.parent),
        files.network: config.network(context.pod_cidr),
        files.kubelet: config.kubelet(context, files, names.cgroup),
        files.kube_proxy: config.kube_proxy(context),
        files.resolver: config.resolver(machine.read_text() if machine.exists() else ""),
        context.layout.node / "address": context.node_ip,
    }
    for file, text in content.items():
        write_private(file, text)
    # Pods read it under their own users.
    files.resolver.chmod(0o644)
    return files


def _start_containerd(context: NodeContext, names: Names, programs: Programs, files: Files, report: Report) -> None:
    _start(
        context.layout, names, programs, report, "containerd",
        (str(programs.path("containerd")), "--config", str(files.containerd)), (files.containerd, files.network),
    )  # fmt: skip
    await_healthy(context.layout, "containerd", lambda: _containerd_answers(names, programs), _CONTAINERD_PATIENCE)


def _start_others(context: NodeContext, names: Names, programs: Programs, files: Files, report: Report) -> None:
    api = _api(context)

    def registered() -> bool:
        return _node(api, context.node_name) is not None

    binaries = {name: str(path) for name, path in context.binaries.items()}
    commands: dict[str, tuple[tuple[str, ...], tuple[Path, ...]]] = {
        "kubelet": (
            (
                binaries["kubelet"],
                f"--config={files.kubelet}",
                f"--kubeconfig={context.kubelet_kubeconfig}",
                f"--hostname-override={context.node_name}",
                f"--node-ip={context.node_ip}",
            ),
            (files.kubelet, files.resolver, context.kubelet_kubeconfig, context.kubelet_certificate, context.ca),
        ),
        "kube-proxy": (
            (binaries["kube-proxy"], f"--config={files.kube_proxy}"),
            (files.kube_proxy, context.kube_proxy_kubeconfig),
        ),
        "kube-router": (
            (
                binaries["kube-router"],
                f"--kubeconfig={context.kube_router_kubeconfig}",
                f"--hostname-override={context.node_name}",
                f"--service-cluster-ip-range={context.service_cidr}",
                "--run-firewall=true",
                "--run-router=false",
                "--run-service-proxy=false",
                "--run-loadbalancer=false",
                "--enable-cni=false",
                f"--health-port={_HEALTH_PORTS['kube-router']}",
            ),
            (context.kube_router_kubeconfig,),
        ),
    }
    for name, (argv, inputs) in commands.items():
        _start(context.layout, names, programs, report, name, argv, inputs)
        if name == "kubelet":
            # kube-router ends where the API server doesn't know its node yet.
            _await(context.layout, ("kubelet",), "the kubelet has not registered the node", registered)


def _start(
    layout: Layout, names: Names, programs: Programs, report: Report, name: str, argv: tuple[str, ...],
    inputs: tuple[Path, ...],
) -> None:  # fmt: skip
    if components.running(layout, name) is None:
        report(f"Starting {name}.")
    nsenter, *arguments = namespaces.enter(names)
    command = (str(programs.path(nsenter)), *arguments, *argv)
    components.start(layout, name, command, programs.environment(), inputs)


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


def _await(layout: Layout, needed: tuple[str, ...], trouble: str, well: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _READY_PATIENCE
    while not well():
        for name in needed:
            if components.running(layout, name) is None:
                raise LocalClusterError(
                    f"{name} ended. The end of {components.log_file(layout, name)}:\n{_log(layout, name)}",
                    f"Mend what the log names, and run `claude-sandbox cluster up --node --name {layout.name}` again.",
                )
        if time.monotonic() > deadline:
            raise LocalClusterError(
                f"After {_READY_PATIENCE:.0f} s {trouble}.",
                f"See the logs in {layout.logs}, or begin afresh after "
                f"`claude-sandbox cluster down --name {layout.name}`.",
            )
        time.sleep(_POLL)


def _log(layout: Layout, name: str) -> str:
    lines = components.log_file(layout, name).read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])


def _node(api: Api, name: str) -> Manifest | None:
    nodes = api.get("/api/v1/nodes")["items"]
    return next((one for one in nodes if one["metadata"]["name"] == name), None)


def _node_ready(api: Api, name: str) -> bool:
    node = _node(api, name) or {}
    conditions = node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _resolves(names: Names, context: NodeContext) -> bool:
    script = Path(resolve.__file__)
    name = "kubernetes.default.svc.cluster.local"
    return succeeds([*namespaces.enter(names), sys.executable, "-I", script, context.cluster_dns_ip, name])


def _enforces(names: Names, programs: Programs) -> bool:
    """Whether kube-router's rules are in the path of what pods send: its first pass over all pods is done."""
    command = [*namespaces.enter(names), str(programs.path("iptables")), "--wait", "--list-rules", "FORWARD"]
    rules = call(command, {**os.environ, **programs.environment()})
    return "KUBE-ROUTER-FORWARD" in rules


def _containerd_answers(names: Names, programs: Programs) -> bool:
    ctr = [*namespaces.enter(names), str(programs.path("ctr")), "--address", config.CONTAINERD_SOCKET, "version"]
    return succeeds(ctr, {**os.environ, **programs.environment()})


def _kubelet_probe(layout: Layout, address: str) -> Probe:
    ca = KeyFiles(layout.pki, "ca").certificate
    return Probe(address, 10250, "/healthz", ca, KeyFiles(layout.pki, "admin"))


def _answers_ok(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
