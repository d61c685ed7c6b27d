"""`claude-sandbox check --policy`: the file, and what it makes of reports."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from claude_sandbox.cli.check.reports import Report, name_of
from claude_sandbox.compliance.catalogue import CONTROLS
from claude_sandbox.compliance.docker_hosts import controls as docker_hosts
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.policy import Policy, PolicyError, applied, parse
from claude_sandbox.manifests.documents import Text, documents

KNOWN = tuple(control.id for control in (*CONTROLS, *docker_hosts.CONTROLS))


def read_policy(_ctx: click.Context, _param: click.Parameter, path: str | None) -> Policy | None:
    """The policy of the command line's file. Raises click.BadParameter."""
    if path is None:
        return None
    try:
        found, problems = documents(Text(path, Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise click.BadParameter(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{path} is not text") from None
    if problems:
        raise click.BadParameter(str(problems[0]))
    if len(found) != 1:
        raise click.BadParameter(f"{path} must hold one document")
    try:
        return parse(found[0].value, KNOWN)
    except PolicyError as error:
        raise click.BadParameter(f"{path}: {error}") from None


def by_policy(reports: Sequence[Report], policy: Policy | None) -> tuple[list[Report], list[str]]:
    """The reports as the policy has them, and which exceptions nothing needs any more."""
    if policy is None:
        return list(reports), []
    found: list[Report] = []
    used: set[Exemption] = set()
    for report in reports:
        findings, needed = applied(policy, name_of(report), report.findings, report.evaluated_at.date())
        found.append(replace(report, findings=findings))
        used |= needed
    return found, [
        f"the exception of {one.control} by {one.owner} is not needed: nothing that was measured fails it"
        for one in policy.exceptions
        if one not in used
    ]
