"""What is tried from a sandbox's place in the network. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from claude_sandbox.compliance.evidence.probes import Expected, KernelCall, Subject
from claude_sandbox.probe import kernel, strict
from claude_sandbox.probe.trying import May

ASKED_OF_RESOLVERS = "example.org"
"""What a resolver is asked for that administrators name. Whether it has it is no matter."""
NO_PORT = 1
"""Of what has no ports: a packet by ICMP has none."""
METADATA = (
    *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200"),
    *("fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254"),
)
"""Where clouds tell a machine its credentials (IMDS; AWS' for containers, Azure's wire server, Alibaba's; AWS' and
Google's by IPv6), and the first for who forgets that an IPv4 address can be written as one of IPv6."""
METADATA_NAMES = ("metadata.google.internal", "instance-data.ec2.internal")
"""By which names resolvers of clouds know them."""


class Named(NamedTuple):
    """What administrators say that no sandbox may reach, and the operator can. `protocol` as `claude_sandbox.probe`
    knows it."""

    host: str
    port: int
    protocol: str = "tcp"

    def wanted(self) -> "Wanted":
        """The target."""
        at = f"{self.host}, port {self.port}" if self.port != NO_PORT or self.protocol != "icmp" else self.host
        by = "" if self.protocol == "tcp" else f" ({self.protocol})"
        query = ASKED_OF_RESOLVERS if self.protocol.startswith("dns-") else ""
        return Wanted(at + by, self.host, self.port, Expected.DENIED, self.protocol, True, query, by_node=True)


Told = Sequence[tuple[Any, Any, Any]]


class MisunderstoodError(Exception):
    """The answer is none of this probe's."""


@dataclass(frozen=True)
class Wanted:
    """A target; `protocol` as `claude_sandbox.probe` knows it, `query` the name that a resolver is asked for."""

    name: str
    host: str
    port: int
    expected: Expected
    protocol: str = "tcp"
    elsewhere: bool = False
    """Whether the operator tries it as well, at the same time."""
    query: str = ""
    by_node: bool = False
    """Whether a pod on the sandbox's node where nothing is denied may try it, too. Never of what a tenant chooses."""
    answers: bool | None = None
    """Whether it is known to answer, by whom its owner has asked (of a pod, its kubelet)."""
    subject: Subject = Subject.OTHER


def dangerous_calls(told: Told) -> tuple[KernelCall, ...]:
    """The dangerous calls as a probe tells them: name, outcome and error of each. Raises ValueError where they are not
    all of them, or in other words."""
    return _calls(told, kernel.ATTEMPTS)


def strict_calls(told: Told, *, asked: bool) -> tuple[KernelCall, ...] | str:
    """Those that the Strict filter alone refuses, in the same way. `asked`: whether the probe was to try them."""
    found = _calls(told, strict.ATTEMPTS if asked else {})
    return found if asked else "it was not tried"


def _calls(told: Told, wanted: Mapping[str, object]) -> tuple[KernelCall, ...]:
    found = tuple(KernelCall(str(name), str(May(may)), str(error)[:32]) for name, may, error in told)
    if [one.name for one in found] != list(wanted):
        raise ValueError("other calls than were to be tried")
    return found
