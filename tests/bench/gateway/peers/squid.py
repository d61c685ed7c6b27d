"""Squid: the access rules of its own example configuration, with `dstdomain` for the names that are allowed."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench.gateway.peers.running import Running, Wanted, free_port, process

from claude_sandbox.localcluster.programs.os_packages import Programs

_RULES = """
acl SSL_ports port {ports}
acl Safe_ports port {ports}
acl allowed dstdomain {names}
# The example's to_localhost, and what is link-local; without the one address that stands for a public one here.
acl to_inside dst 127.0.0.2-127.255.255.255 0.0.0.0/32 ::1 169.254.0.0/16 fe80::/10
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access deny to_inside
http_access allow allowed
http_access deny all
"""


@contextlib.asynccontextmanager
async def squid(programs: Programs, directory: Path, wanted: Wanted) -> AsyncIterator[Running]:
    """It, without a cache on disk and without helpers."""
    port = free_port()
    directory.chmod(0o777)  # noqa: ASYNC240
    hosts = directory / "hosts"
    hosts.write_text("".join(f"{one} {name}\n" for name, all_of in wanted.addresses.items() for one in all_of))
    share, unlinkd = programs.file("usr/share/squid/mime.conf"), programs.file("usr/lib/squid/unlinkd")
    assert share is not None
    lines = [
        f"http_port 127.0.0.1:{port}",
        _RULES.format(ports=" ".join(map(str, wanted.ports)), names=" ".join(wanted.names)),
        f"hosts_file {hosts}",
        "dns_nameservers 127.0.0.1",
        "cache deny all",
        "access_log none",
        f"cache_log {directory}/cache.log",
        f"pid_filename {directory}/squid.pid",
        f"mime_table {share}",
        f"error_directory {share.parent}/errors/templates",
        f"icon_directory {share.parent}/icons",
        f"coredump_dir {directory}",
        "pinger_enable off",
        f"unlinkd_program {unlinkd}",
        "netdb_filename none",
        "shutdown_lifetime 0 seconds",
        *(["cache_effective_user proxy"] if os.geteuid() == 0 else []),
    ]
    configuration = directory / "squid.conf"
    configuration.write_text("\n".join(lines) + "\n")
    argv = (str(programs.path("squid")), "-N", "-f", str(configuration))
    async with process(argv, directory, port, {**os.environ, **programs.environment()}) as started:
        yield Running(started.pid, f"127.0.0.1:{port}")
