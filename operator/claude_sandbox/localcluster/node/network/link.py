"""The way between the machine and the node: a pair of interfaces, routes, and the packet filter's consent."""

import os
import shutil
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from claude_sandbox.localcluster.network import is_ipv6
from claude_sandbox.localcluster.node.commands import call, succeeds
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.namespaces import enter
from claude_sandbox.localcluster.programs.os_packages import Programs

INSIDE = "eth0"


@dataclass(frozen=True)
class Addresses:
    """The two ends of the link, its network, and the pods' network behind it."""

    gateway_ip: str
    node_ip: str
    link_cidr: str
    pod_cidr: str


def make(names: Names, addresses: Addresses, programs: Programs) -> None:
    """Connect the node, or mend its connection. Raises LocalClusterError where the machine doesn't allow it."""
    length = ip_network(addresses.link_cidr).prefixlen
    ip, environment = str(programs.path("ip")), _env(programs)
    inside = (*enter(names), ip)
    if not _is_there(names, inside):
        remove(names, programs)
        # Made from within, the near end sent out to the namespace that this process is in.
        near = ("peer", "name", names.link, "netns", str(os.getpid()))
        call([*inside, "link", "add", INSIDE, "type", "veth", *near], environment)
    six = is_ipv6(addresses.node_ip)
    # Nobody else is in the link's network: nothing waits until it is known that an address is nobody else's.
    now = ("nodad",) if six else ()
    call([ip, "address", "replace", f"{addresses.gateway_ip}/{length}", "dev", names.link, *now], environment)
    call([ip, "link", "set", names.link, "up"], environment)
    call([*inside, "address", "replace", f"{addresses.node_ip}/{length}", "dev", INSIDE, *now], environment)
    for interface in ("lo", INSIDE):
        call([*inside, "link", "set", interface, "up"], environment)
    call([*inside, "route", "replace", "::/0" if six else "default", "via", addresses.gateway_ip], environment)
    # For the API server, which calls webhooks and aggregated APIs at the addresses of their pods.
    call([ip, "route", "replace", addresses.pod_cidr, "via", addresses.node_ip, "dev", names.link], environment)
    # By IPv6 the node reaches the machine, and nothing beyond it: the machine itself may have no route there.
    if not six:
        _let_out(names, addresses, programs)


def remove(names: Names, programs: Programs) -> None:
    """Remove the link and, with it, its addresses and routes. Nothing happens where there is none."""
    if Path("/sys/class/net", names.link).exists():
        call([programs.path("ip"), "link", "delete", names.link], _env(programs))


def close(names: Names, programs: Programs) -> None:
    """Take back the packet filter's consent; nothing happens where it was never given."""
    if succeeds([programs.path("nft"), "list", "table", "ip", names.table], _env(programs)):
        call([programs.path("nft"), "delete", "table", "ip", names.table], _env(programs))
    iptables = shutil.which("iptables")
    for rule in _consent(names) if iptables else ():
        while succeeds([str(iptables), "--wait", "--check", "FORWARD", *rule]):
            call([str(iptables), "--wait", "--delete", "FORWARD", *rule])


def _is_there(names: Names, inside: tuple[str, ...]) -> bool:
    return Path("/sys/class/net", names.link).exists() and succeeds([*inside, "link", "show", INSIDE])


def _let_out(names: Names, addresses: Addresses, programs: Programs) -> None:
    """Masquerade what leaves the machine, in a table of the node's own, and pass filters that drop by default."""
    networks = f"{{ {addresses.link_cidr}, {addresses.pod_cidr} }}"
    script = f"""
        table ip {names.table}
        delete table ip {names.table}
        table ip {names.table} {{
            chain postrouting {{
                type nat hook postrouting priority srcnat
                ip saddr {networks} oifname != "{names.link}" masquerade
            }}
        }}
        """
    call([programs.path("nft"), "--file", "-"], _env(programs), script)
    # Where the machine has iptables of its own, something (Docker, a firewall) may let it drop what is forwarded.
    # The same program that made such rules sees them; in a chain that accepts anyway nothing is added.
    iptables = shutil.which("iptables")
    if iptables is None or not _drops_forwarded(iptables):
        return
    for rule in _consent(names):
        if not succeeds([iptables, "--wait", "--check", "FORWARD", *rule]):
            call([iptables, "--wait", "--insert", "FORWARD", *rule])


def _drops_forwarded(iptables: str) -> bool:
    return "-P FORWARD ACCEPT" not in call([iptables, "--wait", "--list-rules", "FORWARD", "--table", "filter"])


def _consent(names: Names) -> tuple[tuple[str, ...], ...]:
    note = ("--match", "comment", "--comment", names.table, "--jump", "ACCEPT")
    return (("--in-interface", names.link, *note), ("--out-interface", names.link, *note))


def _env(programs: Programs) -> dict[str, str]:
    return {**os.environ, **programs.environment()}
