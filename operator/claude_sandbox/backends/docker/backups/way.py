"""The way of a backup's helper to a server elsewhere: a relay on two networks, which leads to one address and port.

Theory of operation. It holds nothing. The helper is on an internal network, from which an engine lets nothing out; the
relay is on that and on another one, and forwards one port. Both networks and the relay are made anew for each helper,
after what an earlier one left was taken away, and go with it; what a crash leaves goes with the next helper, or with
the sandbox. Called by who looks after the sandbox's one helper, and so once at a time.
"""

from typing import Any

from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.documents.hardening import ICC, NO_RESOLVER, companion_host
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Manifest
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.names import is_owned, labels_of, names_of
from claude_sandbox.backends.docker.removal import remove_network
from claude_sandbox.blueprint.model import Identity, Image

_PROGRAM = ("python3", "-I", "-m", "claude_sandbox.relay")
_USER = "65532:65532"
"""As which the operator's image runs."""
_MEMORY = 96 << 20
_CPU = 1_000_000_000
_PIDS = 32
_IDLE = 3600
"""Seconds that a connection may be silent."""


def inner_of(cluster: str, sandbox: Identity) -> str:
    """The network that the helper is on."""
    return names_of(cluster, sandbox).backup


def relay_of(cluster: str, sandbox: Identity) -> str:
    """What the relay and its outer network are called."""
    return f"{names_of(cluster, sandbox).backup}-way"


async def lead(
    engine: Engine, cluster: str, sandbox: Identity, image: Image, server: dict[str, Any], uid: dict[str, str],
    capabilities: EngineCapabilities,
) -> str:  # fmt: skip
    """Have a way to the server's address: which address of the inner network leads there. Raises EngineError.

    `uid`: labels that say whose backup it is for.
    """
    await end(engine, cluster, sandbox)
    inner, outer = inner_of(cluster, sandbox), relay_of(cluster, sandbox)
    labelled = labels_of(cluster, sandbox, names.BACKUP_NETWORK) | uid
    await engine.create_network(_network(inner, labelled, internal=True))
    await engine.create_network(_network(outer, labelled, internal=False))
    body = _relay(outer, image, server, labels_of(cluster, sandbox, names.BACKUP_WAY) | uid, capabilities)
    identifier = await engine.create_container(outer, body)
    # Before the start: its address on the inner network, which the helper is told, is given out with that.
    await engine.connect(inner, identifier)
    await engine.start(identifier)
    live = await engine.container(identifier) or {}
    found = ((live.get("NetworkSettings") or {}).get("Networks") or {}).get(inner) or {}
    return str(found.get("IPAddress") or "")


async def end(engine: Engine, cluster: str, sandbox: Identity) -> None:
    """Take it away, whatever of it is there. Raises EngineError."""
    live = await engine.container(relay_of(cluster, sandbox))
    if live is not None and is_owned(live, cluster, sandbox, names.BACKUP_WAY):
        await engine.remove_container(str(live["Id"]))
    for name in (inner_of(cluster, sandbox), relay_of(cluster, sandbox)):
        network = await engine.network(name)
        if network is not None and is_owned(network, cluster, sandbox, names.BACKUP_NETWORK):
            try:
                await remove_network(engine, str(network["Id"]))
            except EngineError as error:
                if not error.is_not_found:
                    raise


def _network(name: str, labelled: dict[str, str], *, internal: bool) -> Manifest:
    return {
        "Name": name,
        "Driver": "bridge",
        "Internal": internal,
        "Attachable": False,
        "Ingress": False,
        "EnableIPv6": False,
        # Only on the inner one is there anybody to connect to.
        "Options": {ICC: str(internal).lower()},
        "Labels": labelled,
    }


def _relay(
    network: str, image: Image, server: dict[str, Any], labelled: dict[str, str], capabilities: EngineCapabilities
) -> Manifest:
    port, address = server["port"], server["address"]
    host = companion_host(
        network, memory=_MEMORY, cpu=_CPU, pids=_PIDS, open_files=1024, logs={"max-size": "1m", "max-file": "2"},
        limits_swap=capabilities.limits_swap,
    )  # fmt: skip
    # Ports below 1024 are for root alone where an engine does not say otherwise.
    sysctls = {**host["Sysctls"], "net.ipv4.ip_unprivileged_port_start": "0"}
    return {
        "Hostname": "backup-way",
        "Image": image.reference,
        "User": _USER,
        "WorkingDir": "/",
        "Env": [],
        "Labels": labelled,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGKILL",
        "Entrypoint": list(_PROGRAM),
        "Cmd": ["--listen-on", "0.0.0.0", "--idle", str(_IDLE), f"{port}={address}:{port}"],  # noqa: S104 - see above
        "HostConfig": {**host, "Sysctls": sysctls, "Dns": [NO_RESOLVER]},
        "NetworkingConfig": {"EndpointsConfig": {network: {}}},
    }
