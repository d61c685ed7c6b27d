"""Who may connect to whom."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import domains, names, networks
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.rules import Rule, UniqueBy


class Egress(Strict):
    """Where the agent may connect to. All else is denied."""

    allowed_cidrs: (
        Annotated[
            list[
                Annotated[
                    str, Field(min_length=1, max_length=43), networks.CANONICAL, networks.NARROW, networks.PERMITTED
                ]
            ],
            Field(max_length=64),
            networks.DISTINCT,
        ]
        | None
    ) = Field(default=None, alias="allowedCIDRs")
    """Networks that may be connected to directly, on the allowed ports. Default: none, since all goes by the gateway;
    with spec.credentials.delivery Mounted Anthropic's published ranges of its API.
    """
    allowed_ports: Annotated[
        list[Annotated[int, Field(ge=1, le=65535)]], Field(min_length=1, max_length=32), networks.DISTINCT_PORTS
    ] = [443]
    """TCP ports of those networks. To allow no connection, leave allowedCIDRs empty."""
    dns: bool | None = None
    """Whether the cluster's resolver may be asked. Default: false, since the gateway resolves names; true with
    spec.credentials.delivery Mounted.
    """
    allowed_domains: Annotated[
        list[Annotated[str, Field(min_length=3, max_length=259), domains.DOMAIN, domains.NOT_LOCAL]],
        Field(max_length=64),
        domains.DISTINCT,
    ] = []
    """Names that may be connected to through the gateway, on port 443 (plain HTTP: 80) or on the port that is written.

    For example github.com, *.githubusercontent.com (every name below it, not itself), registry.example.org:8443. The
    Claude API needs no entry. Only with spec.credentials.delivery Brokered.
    """


HOST_ADDRESS = "127.0.0.1"
"""Where a port is published on a Docker host that names no address."""


class Port(Strict):
    """A TCP port of the agent's that others may connect to.

    On Kubernetes pods of the same namespace may; on Docker it is published on an address of the host.
    """

    name: Annotated[str, Field(min_length=1, max_length=15), names.PORT_NAME, names.PORT_NAME_HAS_LETTER]
    """A name for the port, for example http."""
    container_port: Annotated[int, Field(ge=1024, le=65535)]
    """The port's number. Ports below 1024 would need a privilege that a sandbox never has."""
    host_port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """The Docker host's port that leads to it. Without it the engine chooses a free one: see status.endpoints.

    It has to be one that the DockerHost's spec.publishPorts allows, by default 30000 to 32767.
    """
    host_ip: Annotated[str, Field(min_length=1, max_length=39), networks.ADDRESS] | None = Field(
        default=None, alias="hostIP"
    )
    """The Docker host's address that it is published on. Default: 127.0.0.1, so that only the host itself can connect.

    127.0.0.1 and ::1 are always allowed; any other has to be in the DockerHost's spec.publishAddresses.
    """

    @property
    def effective_host_ip(self) -> str:
        """Where it is published: only for the host itself where the user did not say."""
        return self.host_ip or HOST_ADDRESS


_DISTINCT_PORTS = Rule(
    "self.all(a, self.exists_one(b, a.containerPort == b.containerPort))",
    lambda ports: len({port.container_port for port in ports}) == len(ports),
    "lists a containerPort twice: write each once",
)
_DISTINCT_HOST_PORTS = Rule(
    "self.all(a, !has(a.hostPort) || self.exists_one(b, has(b.hostPort) && a.hostPort == b.hostPort))",
    lambda ports: len(asked := [port.host_port for port in ports if port.host_port is not None]) == len(set(asked)),
    "lists a hostPort twice: a port of the host can lead to one port only",
)


class Network(Strict):
    """Default deny in both directions; these are the exceptions."""

    egress: Egress = Egress()
    """Where the agent may connect to."""
    ports: Annotated[list[Port], Field(max_length=32), UniqueBy("name"), _DISTINCT_PORTS, _DISTINCT_HOST_PORTS] = []
    """The agent's own ports that others may connect to: pods of the same namespace, or on Docker who reaches the host.
    """
