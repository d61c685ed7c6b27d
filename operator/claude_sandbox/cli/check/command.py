"""`claude-sandbox check`: the controls of any container or pod, and an exit code to gate a pipeline with."""

import asyncio
import os
import posixpath
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import click

from claude_sandbox.api.spec import Level, Profile
from claude_sandbox.cli.check.documents import of_documents
from claude_sandbox.cli.check.engines import of_containers, of_host
from claude_sandbox.cli.check.files import mended, of_files
from claude_sandbox.cli.check.junit import as_junit
from claude_sandbox.cli.check.options import Options
from claude_sandbox.cli.check.pods import of_pods
from claude_sandbox.cli.check.policy import by_policy, read_policy
from claude_sandbox.cli.check.reports import Report, as_json, as_sarif, as_table
from claude_sandbox.cli.check.usage import check_options, check_usage
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.local.engine_address import AddressError, EngineAddress, Tls, engine_address
from claude_sandbox.cli.local.images import by_digest
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.cli.values import networks
from claude_sandbox.compliance.policy import Policy


class _Kind(click.Choice[str]):
    """What is measured. Who gives a file at once is told the word that is missing."""

    def __init__(self) -> None:
        super().__init__(["container", "files", "host", "pod", "sandbox"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "-" or (value not in self.choices and os.path.exists(value)):  # noqa: PTH110 - any string at all
            self.fail(f"files are checked by `claude-sandbox check files {shlex.quote(value)}`", param, ctx)
        return str(super().convert(value, param, ctx))


def _paths(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(posixpath.normpath, values))


_HELP = """Measure a container or pod, whoever made it, and say for each control whether it holds, on what evidence, and
what to do where it does not. Nothing is changed.

\b
Docker containers, as their engine tells of them, and the engine itself:
  claude-sandbox check container my-agent
  claude-sandbox check container --all --host ssh://me@build-1.example
  claude-sandbox check host

\b
A Docker container, from its document:
  docker inspect NAME | claude-sandbox check --inspect -
  docker inspect NAME NETWORK | claude-sandbox check --inspect -       with its network, for NET-08
  claude-sandbox check --inspect container.json --workspace /workspace

\b
Before anything runs: Compose files, Kubernetes manifests, ClaudeSandboxes; files, directories or standard input:
  claude-sandbox check files deploy/ compose.yaml
  docker compose config | claude-sandbox check files -
  helm template ./chart | claude-sandbox check files - --allow-unknown
  claude-sandbox check files compose.yaml --fix > compose.hardened.yaml

\b
A pod, or a ClaudeSandbox's, as it lives in the cluster:
  claude-sandbox check pod agents/some-pod --secret anthropic-api-key
  claude-sandbox check sandbox agents/alice

\b
To gate a pipeline, and to show what fails as alerts in code scanning:
  docker inspect NAME | claude-sandbox check --inspect - --profile Production || exit 1
  claude-sandbox check --inspect container.json -o sarif > check.sarif

\b
By your own rules, with exceptions that have an owner and end (docs/check.md):
  claude-sandbox check files deploy/ --policy policy.yaml

\b
Which required controls fail, from JSON:
  … -o json | jq -r '.[].controls[] | select(.required and .result == "Fail") | .id'

What can't be told is Unknown and never taken for a pass. So is what only a declaration would justify, such as a
mount of a project of the host's, until --workspace, --mount, --peer or --secret declares it.
"""


@click.command(help=_HELP)
@click.argument("kind", required=False, type=_Kind())
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every container of the engine, running or not.")
@click.option("--inspect", "file", metavar="FILE", help="Judge what `docker inspect` printed; - for standard input.")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json", "sarif", "junit"]),
    default="table",
    show_default=True,
    help="How.",
)
@click.option("--only-failures", is_flag=True, help="Show only what fails; the counts stay those of all.")
@click.option(
    "--profile",
    type=click.Choice([profile.value for profile in Profile], case_sensitive=False),
    callback=lambda _ctx, _param, value: Profile(value) if value else None,
    help="Which controls are required. [default: what the ClaudeSandbox says, and Development where there is none]",
)
@click.option(
    "--level",
    type=click.Choice([level.value for level in Level], case_sensitive=False),
    callback=lambda _ctx, _param, value: Level(value) if value else None,
    help="Up to which level controls are required. [default: what the ClaudeSandbox says, and Sandbox]",
)
@click.option(
    "--policy",
    metavar="FILE",
    callback=read_policy,
    help="Which controls are required, and which may fail for a reason until a day.",
)
@click.option("--allow-unknown", is_flag=True, help="Exit 0 although a required control can't be verified.")
@click.option("--fix", is_flag=True, help="Print the one file with what fails in it mended, and judge that.")
@click.option("--whole", is_flag=True, help="The files hold every NetworkPolicy and Service of their namespaces.")
@click.option("--allow-empty", is_flag=True, help="Exit 0 although nothing that runs is in the files.")
@click.option(
    "--workspace",
    "workspaces",
    multiple=True,
    callback=_paths,
    metavar="PATH",
    help="Where may be written to and files are kept; may be repeated.",
)
@click.option(
    "--mount",
    "mounts",
    multiple=True,
    callback=_paths,
    metavar="PATH",
    help="Where in the container something of the host or a secret is meant to be, to be read; may be repeated.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME",
    help="A container that is meant to be on the same network, for example a proxy; may be repeated.",
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="A Secret that the pod is meant to mount; may be repeated.",
)
@click.option(
    "--allowed-registry",
    "registries",
    multiple=True,
    metavar="PREFIX",
    help="Where images may come from, for control IMG-02; may be repeated. [default: anywhere]",
)
@click.option("--sandbox-image", metavar="IMAGE", help="As of the operator: what sandboxes run that name no image.")
@click.option(
    "--gateway-image",
    metavar="IMAGE",
    help="As of the operator: what gateways run, for control NET-12 of a sandbox in a cluster.",
)
@click.option(
    "--image-without-volumes",
    "plain_images",
    multiple=True,
    callback=by_digest,
    metavar="REPOSITORY@sha256:…",
    help="An image whose configuration declares no VOLUME; may be repeated. What an image declares a pod's "
    "runtime makes writable, and no API object tells of it: FS-08 is Unknown for other images.",
)
@click.option(
    "--open-private-network",
    "opened",
    multiple=True,
    callback=networks,
    metavar="CIDR",
    help="As of the operator: a private network that sandboxes may be let into; may be repeated.",
)
@click.option(
    "--host",
    "-H",
    metavar="ENDPOINT",
    help="The engine: unix://, tcp:// or ssh://. [default: as docker: DOCKER_HOST, its context, the local socket]",
)
@click.option("--tlsverify", is_flag=True, help="Mutual TLS, for tcp://. [default: as docker: DOCKER_TLS_VERIFY]")
@click.option("--tlscacert", metavar="FILE", help="Who signed the engine's certificate. [default: as docker]")
@click.option("--tlscert", metavar="FILE", help="The certificate to show to the engine. [default: as docker]")
@click.option("--tlskey", metavar="FILE", help="Its key. [default: as docker]")
@click.option("--kubeconfig", metavar="FILE", help="[default: as kubectl]")
@click.option("--context", metavar="NAME", help="[default: the current one]")
@click.pass_context
def check(
    ctx: click.Context,
    /,
    *,
    kind: str | None,
    names: tuple[str, ...],
    everything: bool,
    file: str | None,
    output: str,
    only_failures: bool,
    policy: Policy | None,
    allow_unknown: bool,
    fix: bool,
    whole: bool,
    allow_empty: bool,
    host: str | None,
    tlsverify: bool,
    tlscacert: str | None,
    tlscert: str | None,
    tlskey: str | None,
    **declared: Any,
) -> None:
    """Measure, say what was found, and exit. `declared` has the fields of `Options`."""
    check_usage(kind, names, file, everything=everything, fix=fix)
    check_options(ctx, "--inspect" if file is not None else str(kind))
    options = Options(**declared)
    if policy is not None and policy.level is not None:
        options = replace(options, level=policy.level)
    tls = Tls(tlsverify, tlscacert, tlscert, tlskey)
    reports: Sequence[Report]
    problems: Sequence[str] = ()
    try:
        if kind == "files":
            read = mended(names[0], options, whole=whole) if fix else of_files(names, options, whole=whole)
            reports, problems = read
        else:
            reports = _measured(kind, names, file, options, host, tls)
    except UnreadableError as error:
        click.echo(error.told(), err=True)
        sys.exit(Exit.UNREADABLE)
    reports, unneeded = by_policy(reports, policy)
    for note in unneeded:
        click.echo(f"Note: {note}.", err=True)
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    if not reports and kind == "files":
        if not problems:
            message = "Nothing that runs is in the files: no Compose service, no workload and no ClaudeSandbox."
            click.echo(message, err=True)
        sys.exit(Exit.DONE if allow_empty and not problems else Exit.UNREADABLE)
    if not fix:
        click.echo(_shown(reports, output, only_failures=only_failures, allow_unknown=allow_unknown))
    sys.exit(_exit_code(reports, allow_unknown=allow_unknown, incomplete=bool(problems)))


def _measured(
    kind: str | None, names: tuple[str, ...], file: str | None, options: Options, host: str | None, tls: Tls
) -> Sequence[Report]:
    """One report for each target. Raises UnreadableError."""
    if file is not None:
        return of_documents(file, options)
    if kind == "host":
        return [asyncio.run(of_host(_address(host, tls)))]
    if kind == "container":
        return asyncio.run(of_containers(names, options, _address(host, tls)))
    return asyncio.run(of_pods(names, options, sandboxes=kind == "sandbox"))


def _shown(reports: Sequence[Report], output: str, *, only_failures: bool, allow_unknown: bool) -> str:
    if output == "table":
        return as_table(reports, only_failures=only_failures) or "The engine has no container."
    if output == "json":
        return as_json(reports, only_failures=only_failures)
    if output == "junit":
        return as_junit(reports, only_failures=only_failures, allow_unknown=allow_unknown)
    return as_sarif(reports, version("claude-sandbox-operator"))


def _address(host: str | None, tls: Tls) -> EngineAddress:
    try:
        return engine_address(host, tls)
    except AddressError as error:
        raise click.UsageError(f"{error}") from None


def _exit_code(reports: Sequence[Report], *, allow_unknown: bool, incomplete: bool) -> Exit:
    if any(report.failing for report in reports):
        return Exit.FAILED
    if incomplete:
        return Exit.UNREADABLE
    if any(report.undecided for report in reports) and not allow_unknown:
        return Exit.UNDECIDED
    return Exit.DONE
