"""What was tried from a sandbox's own place in the network, and what came of it."""

from dataclasses import dataclass
from enum import StrEnum

from claude_sandbox.compliance.evidence.readings import Unread

NOT_PROBED = Unread("it is the operator that probes, and only its sandboxes")


class Expected(StrEnum):
    """What is to come of an attempt."""

    ALLOWED = "Allowed"
    """A connection: it shows that from there connections can be made at all."""
    PERMITTED = "Permitted"
    """A connection is allowed, and need not come about: nobody may be there. One of all that are allowed has to."""
    DENIED = "Denied"
    """No connection. That it fails proves a denial only where the target is seen to answer elsewhere at that time, or
    the kernel knows no way to it."""
    DENIED_IF_THERE = "DeniedIfThere"
    """The same, of what need not be there at all: where it answers nobody elsewhere, nothing is proven by it, and
    nothing is in doubt."""
    SILENT = "Silent"
    """Nobody has the address, which is of the sandbox's own network: any answer is one too many."""


class Subject(StrEnum):
    """What a target is, where a control of its own asks for it."""

    METADATA = "Metadata"
    """Where a cloud tells a machine its credentials."""
    CLUSTER = "Cluster"
    """The API server, or the kubelet of the node."""
    OTHER = "Other"


ALLOWING = frozenset({Expected.ALLOWED, Expected.PERMITTED})


@dataclass(frozen=True)
class Tried:
    """One target. `outcome` and `error` in the words of the program that tried; `name` as a user would call it.

    `answers`: whether it took a connection from where nothing is denied, at the same time; None: that was not tried.
    """

    name: str
    expected: Expected
    outcome: str
    error: str = ""
    answers: bool | None = None
    subject: Subject = Subject.OTHER


@dataclass(frozen=True)
class KernelCall:
    """One dangerous call, made once by a process that is confined as the sandbox is. `outcome` and `error` in the words
    of the program that tried."""

    name: str
    outcome: str
    error: str = ""


@dataclass(frozen=True)
class ProbeReport:
    """One probe. `able`: whether connections could be made there at all, by what the program tried with itself.

    `ways`: networks outside its own to which there are routes that lead somewhere, where these decide; None where they
    could not be told.
    """

    able: bool
    tried: tuple[Tried, ...]
    ways: tuple[str, ...] | None = ()
    dead_end: bool = False
    """Whether there are others beside `ways`, which all lead by an address that nobody has: nothing gets further."""
    open_seconds: int = 0
    """For how many seconds after its start something could be reached that is denied, rounded up."""
    kernel: tuple[KernelCall, ...] | str = "it was not tried"
    """What the kernel lets a process do that is confined as the sandbox is; or why nothing is known of that."""
    strict: tuple[KernelCall, ...] | str = "it was not tried"
    """The same of calls that the Strict filter alone refuses."""


def is_nobody(one: Tried) -> bool:
    """Whether it is an address of the sandbox's own network of which the kernel found that nobody has it."""
    return one.expected is Expected.SILENT and one.outcome == "unreachable"
