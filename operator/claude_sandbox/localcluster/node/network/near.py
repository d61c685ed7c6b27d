"""Pods of a node reach each other, and the node, by no address that the policy engine doesn't know.

Each interface has a link-local address of IPv6 (RFC 4291), also where a cluster's addresses are of IPv4. The policy
engine knows pods by the addresses that Kubernetes knows, and lets through what goes between others.
"""

import os

from claude_sandbox.localcluster.node.commands import call
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.namespaces import enter
from claude_sandbox.localcluster.programs.os_packages import Programs

# Neighbours are found by link-local addresses and ICMPv6; nothing else of a node needs either.
_RULES = """
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        meta l4proto ipv6-icmp drop
        ip6 saddr fe80::/10 drop
        ip6 daddr { fe80::/10, ff00::/8 } drop
"""
# `filter` comes before the kernel hands what is bridged to the filters of IPv6, after which others would be left out.
_TABLE = f"""
table bridge claude-sandbox
delete table bridge claude-sandbox
table bridge claude-sandbox {{
    chain forward {{
        type filter hook forward priority filter
        {_RULES}
    }}
    chain input {{
        type filter hook input priority filter
        {_RULES}
    }}
}}
"""


def close(names: Names, programs: Programs) -> None:
    """Let pods' bridges pass on nothing of these but what finds neighbours. Raises LocalClusterError where that can't
    be."""
    environment = {**os.environ, **programs.environment()}
    call([*enter(names), str(programs.path("nft")), "--file", "-"], environment, _TABLE)
