"""`claude-sandbox check`: the controls of any container or pod, and an exit code to gate a pipeline with."""

import asyncio
import codecs
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from importlib.metadata import version
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import click

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.kubernetes.client import Api
from claude_sandbox.backends.kubernetes.credentials import CredentialsError, load
from claude_sandbox.backends.kubernetes.errors import ApiError
from claude_sandbox.backends.kubernetes.survey import Standard, Survey, SurveyError, survey_pod, survey_sandbox
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.cli.check_reports import Report, as_json, as_sarif, as_table
from claude_sandbox.compliance import report as kubernetes
from claude_sandbox.compliance.any_pod import Meant
from claude_sandbox.compliance.docker import documents
from claude_sandbox.compliance.docker import report as docker
from claude_sandbox.compliance.docker.documents import DocumentError
from claude_sandbox.compliance.docker.evidence import Declared, DockerEvidence
from claude_sandbox.compliance.evidence import Object, Reading


class Exit(IntEnum):
    """What the command says by its exit code. 2 is click's, for a command line that is wrong."""

    COMPLIANT = 0
    FAILING = 1
    UNDECIDED = 3
    UNREADABLE = 4


class UnreadableError(Exception):
    """The target could not be read: why, and what may help."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    profile: Profile | None
    workspace: str | None
    mounts: tuple[str, ...]
    peers: tuple[str, ...]
    secrets: tuple[str, ...]
    registries: tuple[str, ...]
    sandbox_image: str | None
    opened: tuple[IPv4Network | IPv6Network, ...]


def _networks(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write a network such as 10.1.0.0/16") from None


@click.command()
@click.argument("kind", required=False, type=click.Choice(["pod", "sandbox"]))
@click.argument("names", nargs=-1, metavar="[NAMESPACE/NAME]...")
@click.option("--inspect", "file", metavar="FILE", help="Judge what `docker inspect` printed; - for standard input.")
@click.option(
    "--output", "-o", type=click.Choice(["table", "json", "sarif"]), default="table", show_default=True, help="How."
)
@click.option("--only-failures", is_flag=True, help="Show only what fails; the counts stay those of all.")
@click.option(
    "--profile",
    type=click.Choice([profile.value for profile in Profile], case_sensitive=False),
    help="Which controls are required. [default: what the ClaudeSandbox says, and Development where there is none]",
)
@click.option("--allow-unknown", is_flag=True, help="Exit 0 although a required control can't be verified.")
@click.option("--workspace", metavar="PATH", help="The one place that may be written to and keeps its files.")
@click.option(
    "--mount",
    "mounts",
    multiple=True,
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
    "--open-private-network",
    "opened",
    multiple=True,
    callback=_networks,
    metavar="CIDR",
    help="As of the operator: a private network that sandboxes may be let into; may be repeated.",
)
@click.option("--kubeconfig", metavar="FILE", help="[default: as kubectl]")
@click.option("--context", metavar="NAME", help="[default: the current one]")
@click.pass_context
def check(
    ctx: click.Context,
    *,
    kind: str | None,
    names: tuple[str, ...],
    file: str | None,
    output: str,
    only_failures: bool,
    profile: str | None,
    allow_unknown: bool,
    workspace: str | None,
    mounts: tuple[str, ...],
    peers: tuple[str, ...],
    secrets: tuple[str, ...],
    registries: tuple[str, ...],
    sandbox_image: str | None,
    opened: tuple[IPv4Network | IPv6Network, ...],
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Measure a container or pod, whoever made it, and say for each control whether it holds, on what evidence, and
    what to do where it does not. Nothing is changed.

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
    _check_usage(ctx, kind, names, file, container_only=bool(mounts or peers), pod_only=bool(secrets))
    options = Options(
        profile=Profile(profile) if profile else None,
        workspace=workspace.rstrip("/") or "/" if workspace else None,
        mounts=tuple(path.rstrip("/") or "/" for path in mounts),
        peers=peers,
        secrets=secrets,
        registries=registries,
        sandbox_image=sandbox_image,
        opened=opened,
    )
    try:
        if file is not None:
            reports = _of_documents(file, options)
        else:
            reports = asyncio.run(_of_pods(kind == "sandbox", names, options, kubeconfig, context))
    except UnreadableError as error:
        click.echo(f"Error: {error}" + (f"\nRemedy: {error.remedy}" if error.remedy else ""), err=True)
        sys.exit(Exit.UNREADABLE)
    if output == "table":
        click.echo(as_table(reports, only_failures=only_failures))
    elif output == "json":
        click.echo(as_json(reports, only_failures=only_failures))
    else:
        click.echo(as_sarif(reports, version("claude-sandbox-operator")))
    sys.exit(_exit_code(reports, allow_unknown=allow_unknown))


def _check_usage(
    ctx: click.Context,
    kind: str | None,
    names: Sequence[str],
    file: str | None,
    *,
    container_only: bool,
    pod_only: bool,
) -> None:
    if (file is None) == (kind is None):
        raise click.UsageError(
            "say what to measure: --inspect FILE, or pod NAMESPACE/NAME, or sandbox NAMESPACE/NAME", ctx
        )
    if kind is not None and not names:
        raise click.UsageError(f"say which: {kind} NAMESPACE/NAME", ctx)
    for name in names:
        if name.count("/") != 1 or not all(name.split("/")):
            raise click.UsageError(f"{name!r} is not NAMESPACE/NAME", ctx)
    if kind is not None and container_only:
        raise click.UsageError("--mount and --peer are for containers (--inspect); a pod declares --secret", ctx)
    if file is not None and pod_only:
        raise click.UsageError(
            "--secret is for pods; of a container, --mount PATH declares where a secret is meant to be", ctx
        )


def _exit_code(reports: Sequence[Report], *, allow_unknown: bool) -> Exit:
    if any(report.failing for report in reports):
        return Exit.FAILING
    if any(report.undecided for report in reports) and not allow_unknown:
        return Exit.UNDECIDED
    return Exit.COMPLIANT


def _of_documents(file: str, options: Options) -> list[Report]:
    text, observed_at = _read(file)
    try:
        found = documents.parse(text)
    except DocumentError as error:
        raise UnreadableError(f"{_called(file)}: {error}.") from None
    declared = Declared(
        profile=options.profile or Profile.DEVELOPMENT,
        workspace=options.workspace,
        mounts=frozenset(options.mounts),
        peers=frozenset(options.peers),
        allowed_registries=options.registries,
    )
    now = datetime.now(UTC)
    return [
        Report(
            target=_container(container),
            findings=docker.findings(
                DockerEvidence(
                    declared=declared,
                    container=Reading(container, EvidenceSource.INSPECT, observed_at),
                    now=now,
                    networks=found.networks,
                    volumes=found.volumes,
                )
            ),
            evaluated_at=now,
            file="" if file == "-" else file,
        )
        for container in found.containers
    ]


def _read(file: str) -> tuple[str, datetime]:
    """The text, and when what it says was so at the latest: a saved document is as old as its file."""
    if file == "-":
        if sys.stdin.isatty():
            raise click.UsageError("nothing is piped in: docker inspect NAME | claude-sandbox check --inspect -")
        content, seen = sys.stdin.buffer.read(), datetime.now(UTC)
    else:
        try:
            content, seen = Path(file).read_bytes(), datetime.fromtimestamp(Path(file).stat().st_mtime, UTC)
        except OSError as error:
            raise UnreadableError(
                f"{file} can't be read: {error.strerror}.", "Write it with: docker inspect NAME > FILE"
            ) from None
    # PowerShell writes what is redirected to a file so.
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8"), seen
    except UnicodeDecodeError:
        raise UnreadableError(f"{_called(file)} is not text.", "Write it with: docker inspect NAME > FILE") from None


def _called(file: str) -> str:
    return "standard input" if file == "-" else file


def _container(document: Object) -> dict[str, str]:
    identifier, name = document.get("Id"), document.get("Name")
    target = {"kind": "Container", "name": str(name).lstrip("/") if name else str(identifier)[:12]}
    return target | ({"id": str(identifier)} if identifier else {})


async def _of_pods(
    sandboxes: bool, names: Sequence[str], options: Options, kubeconfig: str | None, context: str | None
) -> list[Report]:
    standard = Standard(
        profile=options.profile,
        allowed_registries=options.registries,
        image=parse_image(options.sandbox_image, "IfNotPresent") if options.sandbox_image else None,
        opened=options.opened,
        meant=Meant(options.workspace, frozenset(options.secrets)),
    )
    survey = survey_sandbox if sandboxes else survey_pod
    reports = []
    try:
        async with Api(await asyncio.to_thread(load, kubeconfig, context)) as api:
            for full_name in names:
                namespace, _, name = full_name.partition("/")
                try:
                    reports.append(_surveyed(await survey(api, namespace, name, standard)))
                except ApiError as error:
                    raise UnreadableError(f"{full_name} could not be read: {error}.", _remedy(error)) from None
    except CredentialsError as error:
        raise UnreadableError(f"{error}.") from None
    except SurveyError as error:
        raise UnreadableError(f"{error}.") from None
    return reports


def _surveyed(survey: Survey) -> Report:
    declaring = survey.sandbox or survey.pod
    metadata = declaring["metadata"]
    return Report(
        target={
            "kind": "ClaudeSandbox" if survey.sandbox else "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        findings=kubernetes.findings(survey.evidence, survey.controls),
        evaluated_at=survey.evidence.now,
        note=survey.note,
    )


def _remedy(error: ApiError) -> str:
    if error.is_not_found:
        return "Look for it with: kubectl get pods,claudesandboxes --all-namespaces"
    if error.is_forbidden:
        return "Ask for the right to get it, and to list what else is in its namespace."
    return "Check that the API server answers: kubectl cluster-info"
