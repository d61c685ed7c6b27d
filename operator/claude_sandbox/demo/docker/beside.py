"""What the demo has beside its sandbox on a Docker Engine: the stand-in for the Claude API, and a git server.

They are on the host's own network, on the address that the engine has on its default bridge: nobody but the host and
its containers can reach that.
"""

import contextlib
from dataclasses import dataclass
from ipaddress import ip_network

from docker import APIClient
from docker.errors import APIError, NotFound

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.names import LABEL_CLUSTER
from claude_sandbox.demo.place import Place
from claude_sandbox.demo.provider import ALLOWED, NO_KEY, PROGRAM, Provider, StandIn
from claude_sandbox.demo.work import repository
from claude_sandbox.demo.work.repository import FILES, GitServer
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.inside import run_inside
from claude_sandbox.install.waiting import Say

_PIDS = 32
_MEMORY = 96 << 20
_USER = 65532


@dataclass(frozen=True)
class Beside:
    """A server on the engine. `files`: a directory in memory that it may write to, if any, of 64 MiB."""

    name: str
    title: str
    image: str
    command: list[str]
    files: str = ""


def stand_in(api: APIClient, cluster: str, image: str, port: int, say: Say) -> Provider:
    """Have the stand-in run on the engine, and say how gateways reach it. Raises SetupError."""
    address = _bridge_address(api)
    say(NO_KEY)
    command = [*PROGRAM, address, str(port)]
    _have(api, cluster, Beside(_provider_name(cluster), "The stand-in for the Claude API", image, command))
    return Provider(f"{ALLOWED}:{port}", f"http://{ALLOWED}:{port}/", StandIn(f"http://{address}:{port}", address))


def no_stand_in(api: APIClient, cluster: str) -> None:
    """Remove it, where there is one."""
    with contextlib.suppress(NotFound):
        api.remove_container(_provider_name(cluster), force=True)


def git_server(api: APIClient, cluster: str, image: str, port: int, say: Say) -> GitServer:
    """Have the git server run on the engine, in the sandbox's image. Raises SetupError."""
    address, name = _bridge_address(api), f"claude-sandbox-demo-git-{cluster[:8]}"
    _have(api, cluster, Beside(name, "The demo's git server", image, repository.program(address, port), FILES))
    place = Place(lambda *argv: run_inside(api, name, *argv), f"docker exec {name}")
    return repository.found(place, address, port, say)


def _provider_name(cluster: str) -> str:
    return f"claude-sandbox-demo-provider-{cluster[:8]}"


def _bridge_address(api: APIClient) -> str:
    """The host's own, on the engine's default bridge."""
    with contextlib.suppress(NotFound):
        for one in api.inspect_network("bridge")["IPAM"]["Config"] or ():
            network = ip_network(one["Subnet"])
            if network.version == 4:
                # Engines of 20.10 don't tell it where nobody chose it; it is the first one then.
                return str(one.get("Gateway") or network[1])
    raise SetupError(
        "The engine has no default bridge network, on whose address the demo's servers would be.",
        "Take `bridge: none` out of the engine's daemon.json.",
    )


def _have(api: APIClient, cluster: str, server: Beside) -> None:
    """Start it, where it does not run as it is now."""
    if not _runs(api, server):
        with contextlib.suppress(NotFound):
            api.remove_container(server.name, force=True)
        _start(api, cluster, server)


def _runs(api: APIClient, server: Beside) -> bool:
    try:
        found = api.inspect_container(server.name)
    except NotFound:
        return False
    config = found["Config"]
    return bool(
        found["State"]["Running"] and config["Image"] == server.image and config["Entrypoint"] == server.command
    )


def _start(api: APIClient, cluster: str, server: Beside) -> None:
    files = {server.files: f"size=64m,uid={_USER},gid={_USER},mode=0700"} if server.files else {}
    host = api.create_host_config(
        network_mode="host",
        cap_drop=["ALL"],
        read_only=True,
        security_opt=["no-new-privileges:true"],
        mem_limit=_MEMORY,
        pids_limit=_PIDS,
        tmpfs=files,
    )
    # By these it goes with the rest of the demo; it is no sandbox's.
    labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, LABEL_CLUSTER: cluster}
    made = api.create_container(
        server.image,
        name=server.name,
        entrypoint=server.command,
        command=[],
        user=f"{_USER}:{_USER}",
        working_dir=server.files or "/",
        labels=labels,
        host_config=host,
    )
    try:
        api.start(made["Id"])
    except APIError as error:
        api.remove_container(made["Id"], force=True)
        raise SetupError(
            f"{server.title} can't be started: {error.explanation}",
            "Mend what the engine says, and run the command again.",
        ) from None
