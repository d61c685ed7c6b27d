"""How a control of a Docker host is described."""

from collections.abc import Callable
from dataclasses import dataclass

from claude_sandbox.api.spec import BackendType, Profile
from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.control import ALWAYS, Control, Level, Mapping, Verdict, maps
from claude_sandbox.compliance.docker_hosts.evidence import Host

Judge = Callable[[Host], Verdict]


@dataclass(frozen=True)
class HostMeasure:
    """One control of a host, and how it is decided."""

    control: Control
    judge: Judge

    @property
    def required(self) -> bool:
        """Whether a host is compliant only if it passes. A host has no profile."""
        return bool(self.control.required)


def of_host(
    id: str,
    title: str,
    severity: Severity,
    judge: Judge,
    remedy: str,
    *,
    level: Level = Level.SANDBOX,
    required: frozenset[Profile] = ALWAYS,
    cis_docker: tuple[str, ...] = (),
) -> HostMeasure:
    """A control of a Docker host."""
    mappings: tuple[Mapping, ...] = maps(cis_docker=cis_docker)
    control = Control(
        id,
        title,
        severity,
        level,
        remedy,
        needs=(),
        required=required,
        mappings=mappings,
        backends=(BackendType.DOCKER,),
        unproven="what the engine says of itself",
        decided_by=EvidenceSource.INSPECT,
    )
    return HostMeasure(control, judge)
