"""`claude-sandbox run`: the operator itself."""

import asyncio
import resource
import sys
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import click

from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.model import Site
from claude_sandbox.cli.gateways import gateway_settings_file
from claude_sandbox.cli.images import by_digest
from claude_sandbox.controller.machinery import logs
from claude_sandbox.controller.main import OperatorError, run_operator
from claude_sandbox.controller.settings import Settings


def _address(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    host, separator, port = value.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter("write HOST:PORT, for example 0.0.0.0:8080")
    return host.strip("[]"), int(port)


def _pinned(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if any(character.isspace() for character in value) or not value:
        raise click.BadParameter("write REPOSITORY:TAG or REPOSITORY@sha256:DIGEST")
    return value


def _networks(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write a network such as 10.1.0.0/16") from None


@click.command(context_settings={"auto_envvar_prefix": "CLAUDE_SANDBOX"})
@click.option(
    "--kubeconfig", metavar="FILE", help="Default: the pod's own account, else $KUBECONFIG, else ~/.kube/config."
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Look after this namespace only; may be repeated. Default: the whole cluster.",
)
@click.option(
    "--sandbox-image",
    required=True,
    callback=_pinned,
    metavar="IMAGE",
    help="What sandboxes without spec.image run; pin it by digest: REPOSITORY@sha256:….",
)
@click.option(
    "--sandbox-pull-policy",
    type=click.Choice(["IfNotPresent", "Always", "Never"]),
    default="IfNotPresent",
    show_default=True,
    help="How that image is pulled.",
)
@click.option(
    "--allowed-registry",
    "registries",
    multiple=True,
    metavar="PREFIX",
    help="Where images may come from, for control IMG-02; may be repeated. Default: anywhere.",
)
@click.option(
    "--image-without-volumes",
    "plain_images",
    multiple=True,
    callback=by_digest,
    metavar="REPOSITORY@sha256:…",
    help="An image whose configuration declares no VOLUME; may be repeated. What an image declares a pod's runtime "
    "makes writable, and no API object tells of it: FS-08 is Unknown for other images. Of --sandbox-image it is taken "
    "for certain.",
)
@click.option(
    "--open-private-network",
    "opened",
    multiple=True,
    callback=_networks,
    metavar="CIDR",
    help="A private network that sandboxes may name in spec.network.egress.allowedCIDRs; may be repeated. "
    "Default: none, so that nobody reaches into the cluster's network through a sandbox.",
)
@click.option(
    "--runtime-class",
    "runtime_classes",
    multiple=True,
    metavar="NAME",
    help="A RuntimeClass that sandboxes may ask for in spec.security.runtimeClassName; may be repeated. Default: none, "
    "since a RuntimeClass may be made for what is trusted, or keep dear nodes for itself.",
)
@click.option(
    "--supplemental-groups-policy",
    "groups",
    type=click.Choice(["Strict", "Merge"]),
    default="Strict",
    show_default=True,
    help="With Strict, pods are in the groups that they name and no others, and nodes whose runtime can't do that "
    "(containerd before 2.0, CRI-O before 1.31) refuse them. With Merge they get the groups of /etc/group in their "
    "image as well, for control PRIV-05 to judge where the node tells them.",
)
@click.option(
    "--without-secrets",
    is_flag=True,
    help="Never look at Secrets, not even at their metadata. Namespaces then name in their annotation "
    "claudesandbox.dev/api-key-secrets those that sandboxes may use, and a new key arrives at the kubelet's pace.",
)
@click.option(
    "--leader-election/--no-leader-election",
    default=True,
    show_default=True,
    help="Of several replicas only the holder of the Lease acts.",
)
@click.option(
    "--lease-namespace",
    metavar="NAME",
    help="Where the Lease and the credentials of Docker hosts are. Default: the operator's own namespace.",
)
@click.option(
    "--docker/--no-docker",
    default=False,
    show_default=True,
    help="Look after DockerHosts too. Who operates on Kubernetes only need not grant the rights that this takes.",
)
@click.option(
    "--relay-image",
    callback=lambda _ctx, _param, value: value or None,
    metavar="IMAGE",
    help="What brings keys to sandboxes on Docker hosts and publishes their declared ports: the operator's own image, "
    "pinned by digest, where the hosts can get it. Default: none, and no sandbox starts on a Docker host.",
)
@click.option(
    "--gateway-image",
    callback=lambda _ctx, _param, value: value or None,
    metavar="IMAGE",
    help="What the gateways of sandboxes on Kubernetes run: the operator's own image, pinned by digest. Default: none, "
    "and no sandbox there starts but with spec.credentials.delivery Mounted.",
)
@click.option(
    "--gateway-settings",
    callback=gateway_settings_file,
    metavar="FILE",
    help="What holds for the gateways of all sandboxes, a JSON object: provider (another address of "
    "the Claude API, such as a company's own gateway), egress (names that are always denied, private networks that "
    "may be reached, an upstream proxy), limits. See docs/gateway.md.",
)
@click.option(
    "--workers", type=click.IntRange(1, 256), default=24, show_default=True, help="Sandboxes worked on at a time."
)
@click.option(
    "--resync",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How often everything is looked at again although no event asked for it.",
)
@click.option(
    "--bind",
    default="0.0.0.0:8080",
    show_default=True,
    callback=_address,
    metavar="HOST:PORT",
    help="Where /healthz, /readyz and /metrics are served.",
)
@click.option("--log-format", type=click.Choice(["json", "text"]), default="text" if sys.stderr.isatty() else "json")
@click.option(
    "--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), default="INFO", show_default=True
)
def run(
    kubeconfig: str | None,
    namespaces: tuple[str, ...],
    sandbox_image: str,
    sandbox_pull_policy: str,
    registries: tuple[str, ...],
    plain_images: tuple[str, ...],
    opened: tuple[IPv4Network | IPv6Network, ...],
    runtime_classes: tuple[str, ...],
    groups: str,
    without_secrets: bool,
    leader_election: bool,
    lease_namespace: str | None,
    docker: bool,
    relay_image: str | None,
    gateway_image: str | None,
    gateway_settings: dict[str, Any] | None,
    workers: int,
    resync: float,
    bind: tuple[str, int],
    log_format: logs.Format,
    log_level: str,
) -> None:
    """Run the operator until it is told to stop (SIGTERM or SIGINT).

    In a cluster the manifests start it. On your own machine, against the cluster of a kubeconfig:

    \b
      claude-sandbox run --kubeconfig FILE --sandbox-image REPOSITORY@sha256:…

    Every option can be given as an environment variable, for example CLAUDE_SANDBOX_LOG_LEVEL=DEBUG.
    """
    # A dump of this process's memory would put the keys that it delivers on the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logs.configure(log_format, log_level)
    settings = Settings(
        site=Site(
            parse_image(sandbox_image, sandbox_pull_policy),
            opened,
            strict_groups=groups == "Strict",
            runtime_classes=frozenset(runtime_classes),
        ),
        namespaces=tuple(dict.fromkeys(namespaces)),
        secrets=not without_secrets,
        allowed_registries=registries,
        plain_images=frozenset({sandbox_image, *plain_images}),
        leader_election=leader_election,
        lease_namespace=lease_namespace,
        docker=docker,
        relay_image=parse_image(relay_image, "IfNotPresent") if relay_image else None,
        gateway_image=parse_image(gateway_image, sandbox_pull_policy) if gateway_image else None,
        gateways=gateway_settings or {},
        workers=workers,
        resync=resync,
        bind_host=bind[0],
        bind_port=bind[1],
        kubeconfig=kubeconfig,
    )
    try:
        asyncio.run(run_operator(settings))
    except OperatorError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
