"""Whether a node and its parts do what they are there for, asked of each of them now."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from claude_sandbox.localcluster import components
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.health import Probe, answers_ok
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.network import at, is_ipv6
from claude_sandbox.localcluster.node.api import Api
from claude_sandbox.localcluster.node.commands import call, succeeds
from claude_sandbox.localcluster.node.config import CONTAINERD_SOCKET, HEALTH_PORTS
from claude_sandbox.localcluster.node.manifests import Manifest
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.namespaces import enter, enter_network
from claude_sandbox.localcluster.node.network import resolve
from claude_sandbox.localcluster.node.parts import NEEDED
from claude_sandbox.localcluster.pki.pki import Files
from claude_sandbox.localcluster.programs.os_packages import Programs, ensure

# Seconds, for a slow machine that does other things, too.
_PATIENCE = 120.0
_POLL = 0.1
_LOG_LINES = 12
_KUBELET_PORT = 10250


def health(layout: Layout, name: str) -> bool:
    """Whether the component runs and answers that it is well."""
    if components.running(layout, name) is None:
        return False
    if name == "containerd":
        return _containerd_answers(Names.of(layout), ensure(NEEDED, lambda _line: None))
    address = address_file(layout).read_text()
    if name in HEALTH_PORTS:
        return answers_ok(address, HEALTH_PORTS[name], "/healthz")
    ca = Files(layout.pki, "ca").certificate
    return Probe(address, _KUBELET_PORT, "/healthz", ca, Files(layout.pki, "admin"))()


def address_file(layout: Layout) -> Path:
    """Where the node's address is written for those who only know the cluster's directory."""
    return layout.node / "address"


def is_registered(api: Api, node: str) -> bool:
    """Whether the API server knows the node."""
    return _node(api, node) is not None


def is_ready(api: Api, node: str) -> bool:
    """Whether the API server has the node as Ready."""
    conditions = (_node(api, node) or {}).get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def knows_pods(layout: Layout, node_ip: str) -> bool:
    """Whether the kubelet has been told its pods: until then one that was restarted denies that they exist.

    There is always one, CoreDNS.
    """
    admin = Files(layout.pki, "admin")
    kubelet = Api(
        f"https://{at(node_ip, _KUBELET_PORT)}", Files(layout.pki, "ca").certificate, admin.certificate, admin.key
    )
    try:
        return bool(kubelet.get("/pods").get("items"))
    except LocalClusterError:
        return False


def resolves(names: Names, dns_ip: str) -> bool:
    """Whether the cluster's resolver, asked at its Service's address from within the node, knows the API server."""
    question = (sys.executable, "-I", resolve.__file__, dns_ip, "kubernetes.default.svc.cluster.local")
    return succeeds([*enter_network(names), *question])


def enforces(names: Names, programs: Programs, node_ip: str) -> bool:
    """Whether the policy engine's rules are in the path of what pods send: its first pass is done."""
    filters = "ip6tables" if is_ipv6(node_ip) else "iptables"
    command = [*enter(names), str(programs.path(filters)), "--wait", "--list-rules", "FORWARD"]
    return "KUBE-ROUTER-FORWARD" in call(command, {**os.environ, **programs.environment()})


def await_true(layout: Layout, needed: Sequence[str], trouble: str, well: Callable[[], bool]) -> None:
    """Wait until `well` says so; `trouble` says what is wrong where it doesn't.

    Raises LocalClusterError where one of the `needed` components ends, with the end of its log, or time is up.
    """
    deadline = time.monotonic() + _PATIENCE
    while not well():
        for name in needed:
            if components.running(layout, name) is None:
                raise LocalClusterError(
                    f"{name} ended. The end of {components.log_file(layout, name)}:\n{_log(layout, name)}",
                    f"Mend what the log names, and run `claude-sandbox cluster up --node --name {layout.name}` again.",
                )
        if time.monotonic() > deadline:
            raise LocalClusterError(
                f"After {_PATIENCE:.0f} s {trouble}.",
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


def _containerd_answers(names: Names, programs: Programs) -> bool:
    ctr = [*enter(names), str(programs.path("ctr")), "--address", CONTAINERD_SOCKET, "version"]
    return succeeds(ctr, {**os.environ, **programs.environment()})
