"""What an organization asks for: which controls are required, and which may fail for a reason, until a day.

An exception never makes a control pass: it is reported as what it is, with who answers for it. It ends by itself.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from claude_sandbox.api.spec import ComplianceSpec, Level
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.reports.findings import Finding, excepted

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIELDS = ("level", "required", "optional", "exceptions")
_OF_EXCEPTIONS = ("control", "targets", "reason", "owner", "expires")
_TEXT = 1000
"""Characters of a reason or an owner."""


class PolicyError(Exception):
    """The policy can't be used; the message names the field, and what to write instead."""


@dataclass(frozen=True)
class Policy:
    """`level`: None for what the command line or the sandbox says. `required` and `optional` change what that asks."""

    level: Level | None = None
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    exceptions: tuple[Exemption, ...] = ()


def applied(
    policy: Policy, target: str, findings: Sequence[Finding], today: date
) -> tuple[tuple[Finding, ...], frozenset[Exemption]]:
    """What the policy makes of the findings of one target, and which of its exceptions there was a reason for."""
    ours = tuple(one for one in policy.exceptions if one.is_of(target))
    found = tuple(excepted(_required(one, policy), ours, today) for one in findings)
    needed = {one.control.id for one in found if one.result in (Result.FAIL, Result.UNKNOWN)}
    return found, frozenset(one for one in ours if one.control in needed)


def _required(finding: Finding, policy: Policy) -> Finding:
    control = finding.control.id
    if control in policy.required:
        return replace(finding, required=True)
    return replace(finding, required=False) if control in policy.optional else finding


def parse(value: Any, known: Iterable[str]) -> Policy:
    """The policy, as YAML or JSON has it. `known`: the controls' identifiers. Raises PolicyError."""
    identifiers = tuple(known)
    fields = _fields(value, "the policy", _FIELDS)
    level = fields.get("level")
    if level is not None and level not in list(Level):
        raise PolicyError(f"level must be one of {', '.join(Level)}")
    required = _controls(fields.get("required"), "required", identifiers)
    optional = _controls(fields.get("optional"), "optional", identifiers)
    if both := sorted(required & optional):
        raise PolicyError(f"{both[0]} is in required and in optional: remove it from one")
    those = _or_none(fields.get("exceptions"))
    if not isinstance(those, list):
        raise PolicyError("exceptions must be a list")
    return Policy(
        Level(level) if level is not None else None,
        required,
        optional,
        tuple(_exemption(one, f"exceptions[{number}]", identifiers) for number, one in enumerate(those)),
    )


def _exemption(value: Any, where: str, known: Sequence[str]) -> Exemption:
    fields = _fields(value, where, _OF_EXCEPTIONS)
    control = _text(fields, "control", where)
    _check_known(control, f"{where}.control", known)
    targets = _or_none(fields.get("targets"))
    if not isinstance(targets, list) or not all(isinstance(one, str) for one in targets):
        raise PolicyError(f'{where}.targets must be a list of names as reports have them, such as "Pod shop/web-*"')
    expires = _text(fields, "expires", where)
    try:
        day = date.fromisoformat(expires) if _DATE.fullmatch(expires) else None
    except ValueError:
        day = None
    if day is None:
        raise PolicyError(f"{where}.expires must be a day, such as 2026-12-31")
    return Exemption(control, _text(fields, "reason", where), _text(fields, "owner", where), day, tuple(targets))


def refused_exceptions(asked: ComplianceSpec, known: Sequence[str]) -> Iterable[tuple[int, str]]:
    """The exceptions of a sandbox that would have no effect, by their place in the list, and why. `known`: every
    control."""
    for number, one in enumerate(asked.exceptions):
        if one.control not in known:
            yield number, f"is {one.control}, and there is no such control{_nearest(one.control, known)}"


def _fields(value: Any, where: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"{where} must be an object with {', '.join(known)}")
    for key in value:
        if key not in known:
            raise PolicyError(f"{where} has the unknown field {key}{_nearest(str(key), known)}")
    return value


def _text(fields: Mapping[str, Any], key: str, where: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > _TEXT:
        raise PolicyError(f"{where}.{key} is required: a text of at most {_TEXT} characters")
    return value.strip()


def _controls(value: Any, where: str, known: Sequence[str]) -> frozenset[str]:
    those = _or_none(value)
    if not isinstance(those, list) or not all(isinstance(one, str) for one in those):
        raise PolicyError(f"{where} must be a list of controls, such as [PRIV-01]")
    for number, one in enumerate(those):
        _check_known(one, f"{where}[{number}]", known)
    return frozenset(those)


def _or_none(value: Any) -> Any:
    """What is left out, or null, is an empty list."""
    return [] if value is None else value


def _check_known(control: str, where: str, known: Sequence[str]) -> None:
    if control not in known:
        raise PolicyError(f"{where}: there is no control {control}{_nearest(control, known)}")


def _nearest(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name.upper() if name.upper() != name else name, known, 1, 0.5)
    found = found or difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {found[0]}?" if found else ""
