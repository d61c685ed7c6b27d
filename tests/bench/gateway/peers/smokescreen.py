"""Smokescreen: an ACL that enforces a list of domains, for clients without a certificate of their own."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench.gateway.peers.running import Running, Wanted, free_port, process


@contextlib.asynccontextmanager
async def smokescreen(program: Path, directory: Path, wanted: Wanted) -> AsyncIterator[Running]:
    """It. By itself it leads to public addresses only; the one that stands for a public one is opened."""
    port = free_port()
    default = {"project": "sandbox", "action": "enforce", "allowed_domains": list(wanted.names)}
    # JSON is YAML.
    (directory / "acl.yaml").write_text(json.dumps({"version": "v1", "services": [], "default": default}))
    configuration = {
        "ip": "127.0.0.1",
        "port": port,
        "allow_ranges": ["127.0.0.1/32"],
        "resolver_addresses": [f"127.0.0.1:{wanted.dns}"],
        "acl_file": str(directory / "acl.yaml"),
        "allow_missing_role": True,
    }
    (directory / "smokescreen.yaml").write_text(json.dumps(configuration))
    async with process((str(program), "--config-file", "smokescreen.yaml"), directory, port) as started:
        yield Running(started.pid, f"127.0.0.1:{port}")
