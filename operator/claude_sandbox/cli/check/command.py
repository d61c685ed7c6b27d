"""`claude-sandbox check`: the controls of any container or pod, and an exit code to gate a pipeline with."""

import asyncio
import posixpath
import re
import sys
from collections.abc import Sequence
from enum import IntEnum
from importlib.metadata import version
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import click

from claude_sandbox.api.spec import Profile
from claude_sandbox.cli.check.documents import of_documents
from claude_sandbox.cli.check.engines import of_containers, of_host
from claude_sandbox.cli.check.options import Options, UnreadableError
from claude_sandbox.cli.check.pods import of_pods
from claude_sandbox.cli.check.reports import Report, as_json, as_sarif, as_table
from claude_sandbox.cli.engine_address import AddressError, EngineAddress, Tls, engine_address
from claude_sandbox.cli.images import by_digest

_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class Exit(IntEnum):
    """What the command says by its exit code. 2 is click's, for a command line that is wrong."""

    COMPLIANT = 0
    FAILING = 1
    UNDECIDED = 3
    UNREADABLE = 4


def _networks(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write a network such as 10.1.0.0/16") from None


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
A pod, or a ClaudeSandbox's, as it lives in the cluster:
  claude-sandbox check pod agents/some-pod --secret anthropic-api-key
  claude-sandbox check sandbox agents/alice

\b
To gate a pipeline, and to show what fails as alerts in code scanning:
  docker inspect NAME | claude-sandbox check --inspect - --profile Production || exit 1
  claude-sandbox check --inspect container.json -o sarif > check.sarif

\b
Which required controls fail, from JSON:
  … -o json | jq -r '.[].controls[] | select(.required and .result == "Fail") | .id'

What can't be told is Unknown and never taken for a pass. So is what only a declaration would justify, such as a
mount of a project of the host's, until --workspace, --mount, --peer or --secret declares it.

\b
Exit codes:
  0  every required control passes or does not apply
  1  at least one required control fails
  2  the command line is wrong
  3  none fails, but at least one required control can't be verified (--allow-unknown makes that 0)
  4  the target could not be read
"""


@click.command(help=_HELP)
@click.argument("kind", required=False, type=click.Choice(["container", "host", "pod", "sandbox"]))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every container of the engine, running or not.")
@click.option("--inspect", "file", metavar="FILE", help="Judge what `docker inspect` printed; - for standard input.")
@click.option(
    "--output", "-o", type=click.Choice(["table", "json", "sarif"]), default="table", show_default=True, help="How."
)
@click.option("--only-failures", is_flag=True, help="Show only what fails; the counts stay those of all.")
@click.option(
    "--profile",
    type=click.Choice([profile.value for profile in Profile], case_sensitive=False),
    callback=lambda _ctx, _param, value: Profile(value) if value else None,
    help="Which controls are required. [default: what the ClaudeSandbox says, and Development where there is none]",
)
@click.option("--allow-unknown", is_flag=True, help="Exit 0 although a required control can't be verified.")
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
    callback=_networks,
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
    allow_unknown: bool,
    host: str | None,
    tlsverify: bool,
    tlscacert: str | None,
    tlscert: str | None,
    tlskey: str | None,
    **declared: Any,
) -> None:
    """Measure, say what was found, and exit. `declared` has the fields of `Options`."""
    _check_usage(kind, names, file, everything=everything)
    _check_options(ctx, "--inspect" if file is not None else str(kind))
    options = Options(**declared)
    tls = Tls(tlsverify, tlscacert, tlscert, tlskey)
    try:
        reports = _measured(kind, names, file, options, host, tls)
    except UnreadableError as error:
        click.echo(f"Error: {error}" + (f"\nRemedy: {error.remedy}" if error.remedy else ""), err=True)
        sys.exit(Exit.UNREADABLE)
    click.echo(_shown(reports, output, only_failures=only_failures))
    sys.exit(_exit_code(reports, allow_unknown=allow_unknown))


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


def _shown(reports: Sequence[Report], output: str, *, only_failures: bool) -> str:
    if output == "table":
        return as_table(reports, only_failures=only_failures) or "The engine has no container."
    if output == "json":
        return as_json(reports, only_failures=only_failures)
    return as_sarif(reports, version("claude-sandbox-operator"))


# What the options are good for; those that are not here are for everything.
_MEANT_FOR = {
    ("host", "tlsverify", "tlscacert", "tlscert", "tlskey"): ("container", "host"),
    ("profile", "registries"): ("--inspect", "container", "pod", "sandbox"),
    ("workspaces",): ("--inspect", "container", "pod", "sandbox"),
    ("mounts", "peers"): ("--inspect", "container"),
    ("secrets", "plain_images", "gateway_image"): ("pod", "sandbox"),
    ("everything",): ("container",),
}
_INSTEAD = {
    "secrets": "; of a container, --mount PATH declares where a secret is meant to be",
    "mounts": "; a pod declares --secret",
}


def _check_usage(kind: str | None, names: Sequence[str], file: str | None, *, everything: bool) -> None:
    if (file is None) == (kind is None):
        raise click.UsageError(
            "say what to measure: --inspect FILE, or container NAME, or host, or pod NAMESPACE/NAME, or sandbox "
            "NAMESPACE/NAME"
        )
    match kind:
        case "container":
            if everything == bool(names):
                raise click.UsageError("say which: container NAME, or --all")
            if wrong := [name for name in names if not _CONTAINER_NAME.fullmatch(name)]:
                raise click.UsageError(f"{wrong[0]!r} is neither the name nor the ID of a container")
        case "host":
            if names:
                raise click.UsageError("name the engine with --host ENDPOINT")
        case "pod" | "sandbox":
            if not names:
                raise click.UsageError(f"say which: {kind} NAMESPACE/NAME")
            if wrong := [name for name in names if name.count("/") != 1 or not all(name.split("/"))]:
                raise click.UsageError(f"{wrong[0]!r} is not NAMESPACE/NAME")


def _check_options(ctx: click.Context, kind: str) -> None:
    """Refuse what would be left unheard: a declaration that counts for nothing looks as if it did."""
    for options, kinds in _MEANT_FOR.items():
        for name in options:
            if kind not in kinds and ctx.params[name]:
                (option,) = (one for one in ctx.command.params if one.name == name)
                good_for = " and ".join(kinds)
                raise click.UsageError(f"{option.opts[0]} is for {good_for}, not for {kind}{_INSTEAD.get(name, '')}")


def _address(host: str | None, tls: Tls) -> EngineAddress:
    try:
        return engine_address(host, tls)
    except AddressError as error:
        raise click.UsageError(f"{error}") from None


def _exit_code(reports: Sequence[Report], *, allow_unknown: bool) -> Exit:
    if any(report.failing for report in reports):
        return Exit.FAILING
    if any(report.undecided for report in reports) and not allow_unknown:
        return Exit.UNDECIDED
    return Exit.COMPLIANT
