"""What the demo has the operator tell the gateways of sandboxes. Pure."""

from typing import Any

from claude_sandbox.demo.provider import ALLOWED, Provider
from claude_sandbox.demo.work.repository import HOST, GitServer


def settings(provider: Provider, server: GitServer | None) -> dict[str, Any]:
    """Where the stand-in is, if there is one, and the git server: both have private addresses, and names that only the
    gateways know. An authority of the demo's own is believed of the git server, and not of the Claude API.
    """
    hosts = {HOST: [server.address]} if server is not None else {}
    if provider.stand_in is not None:
        hosts[ALLOWED] = [provider.stand_in.address]
    if not hosts:
        return {}
    networks = sorted({f"{address}/32" for addresses in hosts.values() for address in addresses})
    trust = {"caBundle": server.certificate} if server is not None else {}
    egress = {"privateNetworks": networks, "hosts": hosts, **trust}
    return {**({"provider": {"baseURL": provider.stand_in.base_url}} if provider.stand_in else {}), "egress": egress}
