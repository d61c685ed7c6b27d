"""Free TCP ports that stay the cluster's own over a restart of its components."""

import socket
from collections.abc import Container
from zlib import crc32

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.network import is_ipv6

# Below the kernel's range for outgoing connections (from 32768 by default, ip(7)): while a component is
# down, no client can be given its port as a source port, and none can connect to itself. Below what sandboxes on Docker
# publish by default (from 30000), too.
FIRST, LAST = 20000, 30000


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if is_ipv6(host) else socket.AF_INET) as probe:
        # As servers do: connections of the one before that are not forgotten yet keep none from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def allocate(seed: str, purposes: tuple[str, ...], taken: Container[int]) -> dict[str, int]:
    """A free port for each purpose, none of them in `taken`.

    The search begins at a place that depends on `seed`, so that a cluster that is made again with the same
    seed tends to have the ports it had. Raises LocalClusterError where too few are free.
    """
    width = LAST - FIRST
    start = crc32(seed.encode()) % width
    found: list[int] = []
    for step in range(width):
        if len(found) == len(purposes):
            return dict(zip(purposes, found, strict=True))
        port = FIRST + (start + step) % width
        if port not in taken and is_free(port):
            found.append(port)
    raise LocalClusterError(
        f"No free TCP ports are left between {FIRST} and {LAST}.", "Stop other clusters or servers."
    )


def require_free(port: int) -> None:
    """Raise LocalClusterError where something else listens on the port that was asked for."""
    if not 1 <= port <= 65535:
        raise LocalClusterError(f"{port} is not a TCP port.", "Use a number from 1 to 65535.")
    if not is_free(port):
        raise LocalClusterError(
            f"Port {port} of 127.0.0.1 is taken, or may not be used.",
            f"Choose another with --port, leave --port out, or find its owner with `ss -ltnp sport = :{port}`.",
        )
