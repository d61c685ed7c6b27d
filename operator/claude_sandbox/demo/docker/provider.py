"""The stand-in for the Claude API, as a container on the demo's engine."""

import contextlib
from ipaddress import ip_network

from docker import APIClient
from docker.errors import APIError, NotFound

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.names import LABEL_CLUSTER
from claude_sandbox.demo.provider import ALLOWED, PROGRAM, Provider, settings
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.waiting import Say

_PIDS = 32
_MEMORY = 96 << 20


def stand_in(api: APIClient, cluster: str, image: str, port: int, say: Say) -> Provider:
    """Have the stand-in run on the engine, and say how it is reached from the sandboxes' gateways. Raises SetupError.

    It is on the host's own network, on the address that the engine has on its default bridge: nobody but the host and
    its containers can reach that.
    """
    address = _bridge_address(api)
    name = f"claude-sandbox-demo-provider-{cluster[:8]}"
    command = [*PROGRAM, address, str(port)]
    if not _runs(api, name, image, command):
        say("ANTHROPIC_API_KEY is not set, so a stand-in for the Claude API is started: it answers the same whatever")
        say("it is asked.")
        with contextlib.suppress(NotFound):
            api.remove_container(name, force=True)
        _start(api, name, cluster, image, command)
    return Provider(
        True,
        f"{ALLOWED}:{port}",
        f"http://{ALLOWED}:{port}/",
        settings(f"http://{address}:{port}", address),
    )


def _bridge_address(api: APIClient) -> str:
    """The host's own, on the engine's default bridge."""
    with contextlib.suppress(NotFound):
        for one in api.inspect_network("bridge")["IPAM"]["Config"] or ():
            network = ip_network(one["Subnet"])
            if network.version == 4:
                # Engines of 20.10 don't tell it where nobody chose it; it is the first one then.
                return str(one.get("Gateway") or network[1])
    raise SetupError(
        "The engine has no default bridge network, on whose address the stand-in for the Claude API would be.",
        "Set ANTHROPIC_API_KEY, and none is needed; or take `bridge: none` out of the engine's daemon.json.",
    )


def no_stand_in(api: APIClient, cluster: str) -> None:
    """Remove it, where there is one."""
    with contextlib.suppress(NotFound):
        api.remove_container(f"claude-sandbox-demo-provider-{cluster[:8]}", force=True)


def _runs(api: APIClient, name: str, image: str, command: list[str]) -> bool:
    try:
        found = api.inspect_container(name)
    except NotFound:
        return False
    config = found["Config"]
    return bool(found["State"]["Running"] and config["Image"] == image and config["Entrypoint"] == command)


def _start(api: APIClient, name: str, cluster: str, image: str, command: list[str]) -> None:
    host = api.create_host_config(
        network_mode="host",
        cap_drop=["ALL"],
        read_only=True,
        security_opt=["no-new-privileges:true"],
        mem_limit=_MEMORY,
        pids_limit=_PIDS,
    )
    # By these it goes with the rest of the demo; it is no sandbox's.
    labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, LABEL_CLUSTER: cluster}
    made = api.create_container(image, name=name, entrypoint=command, command=[], labels=labels, host_config=host)
    try:
        api.start(made["Id"])
    except APIError as error:
        api.remove_container(made["Id"], force=True)
        raise SetupError(
            f"The stand-in for the Claude API can't be started: {error.explanation}",
            "Set ANTHROPIC_API_KEY, and none is needed.",
        ) from None
