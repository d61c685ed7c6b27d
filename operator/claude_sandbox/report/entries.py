"""What a report says of controls, from the catalogue: titles, levels, the same demand elsewhere."""

from collections.abc import Mapping
from functools import cache

from claude_sandbox.api.spec import BackendType, Level, Profile
from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.catalogue import CONTROLS
from claude_sandbox.compliance.control import ContainerCheck, Control, PodCheck, Unmeasured
from claude_sandbox.compliance.docker_hosts import controls as docker_hosts
from claude_sandbox.compliance.pages import ALL, family_of
from claude_sandbox.report.model import ControlEntry, Reference

ORDER = {control.id: place for place, control in enumerate((*CONTROLS, *docker_hosts.CONTROLS))}


def entry(identifier: str, title: str, severity: Severity) -> ControlEntry:
    """Of a control by this identifier; title and severity are a status', for one that the catalogue does not have."""
    return _entries().get(identifier) or ControlEntry(identifier, title or identifier, severity, "Others", known=False)


def asked_of(backend: BackendType, profile: Profile, level: Level = Level.SANDBOX) -> Mapping[str, bool]:
    """The controls of a sandbox on this backend, in the catalogue's order, and whether each is required."""
    checks = ((control, _check(control, backend)) for control in CONTROLS)
    return {control.id: profile in control.required_by(check, level) for control, check in checks if check is not None}


def asked_of_host() -> Mapping[str, bool]:
    """The controls of a Docker host, and whether each is required."""
    return {control.id: bool(control.required) for control in docker_hosts.CONTROLS}


def host_entries() -> Mapping[str, ControlEntry]:
    """What is said of each of these once."""
    return {control.id: _entries()[control.id] for control in docker_hosts.CONTROLS}


def _check(control: Control, backend: BackendType) -> PodCheck | ContainerCheck | Unmeasured | None:
    return control.container if backend is BackendType.DOCKER else control.pod


@cache
def _entries() -> Mapping[str, ControlEntry]:
    return {control.id: _entry(control) for control in ALL}


def _entry(control: Control) -> ControlEntry:
    family = family_of(control)
    risks = (
        ("OWASP Agentic", "2026", family.owasp_agentic),
        ("OWASP Kubernetes", "2025", family.owasp_kubernetes),
    )
    own = tuple(Reference(one.framework, one.version, one.id) for one in control.mappings)
    return ControlEntry(
        id=control.id,
        title=control.title,
        severity=control.severity,
        family=family.title,
        level=control.level.value,
        meaning=control.meaning,
        why=control.why,
        references=own + tuple(Reference(*risk) for risk in risks if risk[2]),
    )
