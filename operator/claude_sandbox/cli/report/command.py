"""`claude-sandbox report`: reads, writes in the format that is asked for, and says by its exit code what came out."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
from click.core import ParameterSource

from claude_sandbox.api.clip import plain
from claude_sandbox.cli.check.policy import read_policy
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.report.sources import Read, earlier, from_cluster, from_file, trail_of
from claude_sandbox.cli.sources import Wanted, check_usage, file_among
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.compliance.policy import Policy
from claude_sandbox.install.manifests import NAMESPACE
from claude_sandbox.report.changes import NotAReportError, changes
from claude_sandbox.report.formats import documents, junit, markdown, oscal, policy_reports, sarif, terminal
from claude_sandbox.report.formats.html import page
from claude_sandbox.report.given import NotASandboxError
from claude_sandbox.report.model import Report, Verdict, sentence
from claude_sandbox.report.policies import by_policy
from claude_sandbox.report.reading import report as report_of
from claude_sandbox.report.trend import MOST_DAYS
from claude_sandbox.report.trend import trend as trend_of

_FORMATS: Mapping[str, Callable[[Report], str]] = {
    "table": terminal.written,
    "json": documents.written,
    "markdown": markdown.written,
    "sarif": sarif.written,
    "junit": junit.written,
    "oscal": oscal.written,
    "html": page.written,
    "openreports": policy_reports.openreports,
    "policyreport": policy_reports.policy_reports,
}
_EXITS = {
    Verdict.COMPLIANT: Exit.DONE,
    Verdict.NOT_COMPLIANT: Exit.FAILED,
    Verdict.NOT_VERIFIED: Exit.UNDECIDED,
}

_HELP = """What the operator measured of ClaudeSandboxes, as their statuses say it. Nothing is measured anew: for that
there is `claude-sandbox check sandbox`.

SANDBOX is NAME or NAMESPACE/NAME; without any, all of the namespace. FILE is what kubectl wrote, as JSON or YAML, or -
for standard input; what is a file here is read as one.

\b
One sandbox, a namespace, everything:
  claude-sandbox report agents/alice
  claude-sandbox report -n agents
  claude-sandbox report -A

\b
From a file, without a cluster; DockerHosts may be in it as well:
  kubectl get claudesandboxes,dockerhosts -A -o json > sandboxes.json
  claude-sandbox report sandboxes.json
  kubectl get claudesandboxes -A -o yaml | claude-sandbox report -

\b
For others:
  claude-sandbox report -A -o markdown >> "$GITHUB_STEP_SUMMARY"
  claude-sandbox report -A -o html --to report.html
  claude-sandbox report -A -o openreports | kubectl apply --server-side -f -
  claude-sandbox report -A -o json | jq -r '.sandboxes[] | select(.verdict != "Compliant") | .name'

\b
By rules of your own, with exceptions that end (the file is that of `claude-sandbox check --policy`):
  claude-sandbox report -A --policy policy.yaml

\b
What changed since an earlier report:
  claude-sandbox report -A -o json --to monday.json
  claude-sandbox report -A --compare monday.json

\b
How it went, by the operator's audit trail:
  claude-sandbox report -A --trail /var/lib/claude-sandbox/trail --days 90 -o html --to report.html

\b
Formats:
  table      for people
  json       for programs; its schema is docs/reference/report.schema.json
  markdown   for code hosts
  sarif      for code scanning: SARIF 2.1.0, with what fails
  junit      for CI systems: a case for each control, an error where a required one is not known
  oscal      for auditors' tools: assessment results of OSCAL 1.1.2, as JSON
  html       for auditors: one page, whole in one file, that loads nothing
  openreports, policyreport
             for clusters with viewers of policies: objects of openreports.io/v1alpha1 or wgpolicyk8s.io/v1alpha2

A status that is about another generation of its resource, or whose evaluation is overdue, proves nothing, nor does any
while no operator renews its Lease: what passed is Unknown. So is every control of which a status says nothing.
"""


@click.command(help=_HELP)
@click.argument("sources", nargs=-1, metavar="[SANDBOX|FILE]...")
@click.option("--namespace", "-n", metavar="NAME", help="[default: the context's; of a file, all]")
@click.option("--all-namespaces", "-A", "everything", is_flag=True, help="Every sandbox of the cluster.")
@click.option("--output", "-o", type=click.Choice(list(_FORMATS)), default="table", show_default=True, help="How.")
@click.option("--to", "target", metavar="FILE", help="Write there, and say in a line what came out.")
@click.option("--compare", "before", metavar="FILE", help="Show what changed since an earlier report, which is JSON.")
@click.option("--trail", metavar="DIR|FILE", help="Show how it went, by the operator's audit trail, or a copy of it.")
@click.option(
    "--days", type=click.IntRange(1, MOST_DAYS), default=30, show_default=True, help="With --trail, how many days."
)
@click.option(
    "--policy",
    metavar="FILE",
    callback=read_policy,
    help="What is required, and exceptions with owner and end. See check.",
)
@click.option("--allow-unknown", is_flag=True, help="Exit 0 although a required control can't be verified.")
@click.option(
    "--operator-namespace", metavar="NAME", default=NAMESPACE, show_default=True, help="Where its Lease is looked for."
)
@click.option("--kubeconfig", metavar="FILE", help="[default: as kubectl]")
@click.option("--context", metavar="NAME", help="[default: the current one]")
@click.pass_context
def report(
    ctx: click.Context,
    /,
    *,
    sources: tuple[str, ...],
    namespace: str | None,
    everything: bool,
    output: str,
    target: str | None,
    before: str | None,
    trail: str | None,
    days: int,
    policy: Policy | None,
    allow_unknown: bool,
    kubeconfig: str | None,
    context: str | None,
    operator_namespace: str,
) -> None:
    """Read, write, and exit by what came out."""
    file = file_among(sources)
    if file == "-" and trail == "-":
        raise click.UsageError("standard input can be read once only: give the sandboxes or the trail as a file")
    check_usage("report", sources, file, namespace, everything=everything)
    _check_effects(ctx, in_file=file is not None, with_trail=trail is not None)
    try:
        if file is not None:
            read = from_file(file, namespace)
        else:
            wanted = Wanted(sources, namespace, everything, kubeconfig, context)
            read = asyncio.run(from_cluster(wanted, operator_namespace))
        found = _compared(_by_policy(_report(read), policy), before)
        if trail is not None:
            found = _with_trend(found, trail, days, everything=everything or (file is not None and namespace is None))
    except UnreadableError as error:
        click.echo(error.told(), err=True)
        sys.exit(Exit.UNREADABLE)
    _write(_FORMATS[output](found), target, found)
    exit_code = _EXITS[found.verdict]
    sys.exit(Exit.DONE if allow_unknown and found.verdict is Verdict.NOT_VERIFIED else exit_code)


def _report(read: Read) -> Report:
    try:
        return report_of(
            read.documents,
            generated_at=datetime.now(UTC),
            version=version("claude-sandbox-operator"),
            origin=read.origin,
            scope=read.scope,
            silence=read.silence,
            note=read.note,
            hosts=read.hosts,
        )
    except NotASandboxError as error:
        raise UnreadableError(f"{read.origin}: {error}.", "Give what kubectl wrote, unchanged.") from None


def _by_policy(found: Report, policy: Policy | None) -> Report:
    if policy is None:
        return found
    found, unneeded = by_policy(found, policy, found.generated_at.date())
    for one in unneeded:
        click.echo(
            f"The exception of {one.control} by {one.owner} is not needed: nothing in this report fails it.", err=True
        )
    return found


def _compared(found: Report, before: str | None) -> Report:
    if before is None:
        return found
    try:
        return replace(found, changes=changes(earlier(before), found))
    except NotAReportError as error:
        remedy = "Give what an earlier claude-sandbox report --output json wrote with --compare."
        raise UnreadableError(f"{before} can't be compared with: {error}.", remedy) from None


def _check_effects(ctx: click.Context, *, in_file: bool, with_trail: bool) -> None:
    """Refuse options that nothing would come of. Raises UsageError."""

    def given(name: str) -> bool:
        return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT

    if given("days") and not with_trail:
        raise click.UsageError("--days is for the audit trail: name it by --trail")
    if in_file and any(map(given, ("kubeconfig", "context", "operator_namespace"))):
        raise click.UsageError("--kubeconfig, --context and --operator-namespace are for a cluster, not for a file")


def _with_trend(found: Report, source: str, days: int, *, everything: bool) -> Report:
    """With how it went, of the sandboxes of the report, or of all that there have been."""
    names, spaces = {one.full_name for one in found.sandboxes}, {one.namespace for one in found.sandboxes}
    whole = found.scope in {f"namespace {one}" for one in spaces}

    def takes(namespace: str, name: str) -> bool:
        return everything or f"{namespace}/{name}" in names or (whole and namespace in spaces)

    told = trend_of(trail_of(source, takes), found.generated_at.date(), days)
    if told is None:
        remedy = "Name the directory of the operator's --trail-directory, or a file with copied lines."
        raise UnreadableError(f"{source} tells nothing of these sandboxes.", remedy)
    return replace(found, trend=replace(told, source=plain("standard input" if source == "-" else source)))


def _write(text: str, target: str | None, found: Report) -> None:
    if target is None:
        click.echo(text)
        return
    try:
        # Without the table's colours: those are for a terminal.
        Path(target).write_text(click.unstyle(text) + "\n", encoding="utf-8")
    except OSError as error:
        _fail(f"{target} can't be written: {error.strerror}.", "Name a file in a directory that is yours with --to.")
    click.echo(f"{sentence(found)} Written to {target}.", err=True)


def _fail(message: str, remedy: str) -> None:
    click.echo(f"Error: {message}\nRemedy: {remedy}", err=True)
    sys.exit(Exit.UNREADABLE)
