"""`claude-sandbox run`: the operator itself."""

import asyncio
import resource
import sys
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from claude_sandbox.api import references
from claude_sandbox.api.fields.work.claude_code import is_release
from claude_sandbox.backends.docker.containment.recipient import problem_with
from claude_sandbox.backends.probing.wanted import NO_PORT, Named
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.model import Site
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.gateways import gateway_settings_file
from claude_sandbox.cli.local.images import by_digest
from claude_sandbox.cli.values import networks
from claude_sandbox.controller.machinery import logs
from claude_sandbox.controller.main import OperatorError, run_operator
from claude_sandbox.controller.policy_reports.operator import KINDS
from claude_sandbox.controller.sandboxes.incidents.revocation import Hook
from claude_sandbox.controller.settings import Settings
from claude_sandbox.kubernetes_api.operator_sessions import is_address, is_place
from claude_sandbox.trail.exports import target
from claude_sandbox.trail.settings import TrailSettings


def _address(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    host, separator, port = value.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter("write HOST:PORT, for example 0.0.0.0:8080")
    return host.strip("[]"), int(port)


def _pinned(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if any(character.isspace() for character in value) or not value:
        raise click.BadParameter("write REPOSITORY:TAG or REPOSITORY@sha256:DIGEST")
    return value


def _releases(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        release, _, image = value.partition("=")
        if not is_release(release) or references.parse(image) is None:
            raise click.BadParameter(f"{value}: write RELEASE=IMAGE, for example 2.1.331=example.org/claude@sha256:…")
        if release in found:
            raise click.BadParameter(f"{release} is there twice")
        found[release] = image
    return found


def _profile(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """What an API server takes for a pod's localhostProfile (k8s.io/kubernetes, pkg/apis/core/validation)."""
    if value and (value.startswith("/") or ".." in value.split("/")):
        raise click.BadParameter("write a path below the kubelet's directory of seccomp profiles, without a /.. in it")
    return value or None


def _app_armor(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value.lower() == "unconfined":
            raise click.BadParameter("unconfined is no profile: it turns AppArmor off")
    return values


def _recipient(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value and (problem := problem_with(value)):
        raise click.BadParameter(problem)
    return value or None


def _place(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value and not is_place(value):
        raise click.BadParameter("write NAMESPACE/NAME:PORT of a Service, or https://HOST:PORT")
    return value or None


def _trail(directory: Path | None, key: Path | None, exports: tuple[str, ...], days: int) -> TrailSettings | None:
    """How the audit trail is written; None: none is. Raises click.UsageError."""
    if directory is not None:
        return TrailSettings(directory, key, exports, days)
    if key is not None or exports:
        raise click.UsageError("--trail-key and --trail-export are for a trail: add --trail-directory")
    return None


def _hook(url: str | None, token: Path | None, authority: Path | None) -> Hook | None:
    """What is told of compromised keys; None: nothing is. Raises click.UsageError."""
    if url is None:
        if token is not None or authority is not None:
            raise click.UsageError("--revocation-token and --revocation-ca are for a hook: add --revocation-hook")
        return None
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
        raise click.UsageError("--revocation-hook takes an address https://HOST/PATH, without a login in it")
    return Hook(url, token, authority)


def _pair(at: str | None, certificate: str | None, key: str | None) -> tuple[str, str] | None:
    """The files of a certificate and its key. Raises click.UsageError where one is missing, or of no use."""
    if bool(certificate) != bool(key):
        raise click.UsageError("--sessions-certificate and --sessions-key belong together")
    if at and is_address(at) and not (certificate and key):
        raise click.UsageError("--sessions-at https://… takes a certificate that users trust: --sessions-certificate")
    return (certificate, key) if certificate and key else None


def _probe_targets(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Named, ...]:
    try:
        return tuple(dict.fromkeys(_named(ctx, param, value) for value in values))
    except ValueError as error:
        raise click.BadParameter(
            f"{error}; write ADDRESS:PORT, for example 10.0.0.5:443 or [fd00::5]:443, or that and how:"
            f" 10.0.0.5:53/dns-udp, 10.0.0.5:53/dns-tcp, 10.0.0.5:443/quic, 10.0.0.5/icmp"
        ) from None


def _named(ctx: click.Context, param: click.Parameter, value: str) -> Named:
    """Raises ValueError."""
    at, _, protocol = value.partition("/")
    if protocol == "icmp":
        return Named(str(ip_address(at.strip("[]"))), NO_PORT, protocol)
    if protocol not in ("", "tcp", "dns-udp", "dns-tcp", "quic"):
        raise ValueError(f"{protocol} is not tried")
    host, port = _address(ctx, param, at)
    if not port:
        raise ValueError("0 is no port")
    return Named(str(ip_address(host)), port, protocol or "tcp")


def _exports(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for value in values:
            target(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}") from None
    return values


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
    "allowed_registries",
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
    "makes writable, and no API object tells of it: FS-08 is Unknown for other images. Of --sandbox-image and "
    "--claude-code it is taken for certain.",
)
@click.option(
    "--open-private-network",
    "opened",
    multiple=True,
    callback=networks,
    metavar="CIDR",
    help="A private network that sandboxes may name in spec.network.egress.allowedCIDRs; may be repeated. "
    "Default: none, so that nobody reaches into the cluster's network through a sandbox.",
)
@click.option(
    "--backup-network",
    "backup_networks",
    multiple=True,
    callback=networks,
    metavar="CIDR",
    help="A network that is not public, and to whose servers backups of sandboxes may be sent by S3 or SFTP; may be "
    "repeated. Default: none.",
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
    "--strict-seccomp-profile",
    "strict_profile",
    callback=_profile,
    metavar="PATH",
    help="Where the cluster's nodes have the Strict filter of system calls (manifests/seccomp/strict.json), below the "
    "kubelet's directory of seccomp profiles, for example claude-sandbox/strict.json: sandboxes may then ask for "
    "spec.security.seccompProfile.type Strict. Default: nowhere, since nothing that the operator may make brings a "
    "file to a node.",
)
@click.option(
    "--apparmor-profile",
    "app_armor_profiles",
    multiple=True,
    callback=_app_armor,
    metavar="NAME",
    help="A profile of AppArmor that sandboxes may ask for in spec.security.appArmorProfile.localhostProfile, and that "
    "the cluster's nodes and the Docker hosts have loaded; may be repeated. Default: none, since nothing tells whether "
    "a profile keeps anybody from anything.",
)
@click.option(
    "--claude-code",
    "releases",
    multiple=True,
    callback=_releases,
    metavar="RELEASE=IMAGE",
    help="An image as --sandbox-image is, with another release of Claude Code, for which sandboxes may ask by "
    "spec.claudeCode.version; may be repeated. Default: none; who asks for nothing has --sandbox-image.",
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
    "--renew-lease",
    is_flag=True,
    help="With --no-leader-election: renew the Lease all the same, every 10 s, so that reports can tell that the "
    "operator runs.",
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
    "--sessions-at",
    callback=_place,
    metavar="SERVICE|URL",
    help="Where users find --sessions-bind, to work in sandboxes on Docker hosts without access to an engine "
    "(claude-sandbox shell, cp, logs, diff): NAMESPACE/NAME:PORT of a Service, to which the API server's proxy leads "
    "them, or https://HOST:PORT. Default: nowhere, and that takes an engine. See docs/working.md.",
)
@click.option(
    "--sessions-certificate",
    metavar="FILE",
    help="Of the authority that signed the API server's, with --sessions-at https://…. Default: one is made, which the "
    "proxy takes.",
)
@click.option("--sessions-key", metavar="FILE", help="The certificate's key.")
@click.option(
    "--sessions-bind",
    default="0.0.0.0:8443",
    show_default=True,
    callback=_address,
    metavar="HOST:PORT",
    help="Where these sessions are served; nothing is bound without --sessions-at.",
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
    "--policy-reports",
    type=click.Choice(list(KINDS), case_sensitive=False),
    help="Write a report of each sandbox as an object that viewers of policies show: a Report of "
    "openreports.io/v1alpha1 or a PolicyReport of wgpolicyk8s.io/v1alpha2; with Auto the first that the cluster "
    "serves. Default: none. It takes rights on that kind (install --policy-reports). See docs/report.md.",
)
@click.option(
    "--plugin-policies/--no-plugin-policies",
    default=False,
    show_default=True,
    help="Look at policies that network plugins have beside NetworkPolicies (Cilium, Calico, Antrea, the Network "
    "Policy API), where the cluster serves them: controls that one could change are Unknown. It takes the right to "
    "list them (install --plugin-policies). See docs/check.md.",
)
@click.option(
    "--node-agent/--no-node-agent",
    default=False,
    show_default=True,
    help="Ask the agents on the nodes (install --node-agent) what the nodes' kernels say of sandboxes' processes. "
    "Where that is something else than the pods' objects say, the control fails.",
)
@click.option(
    "--node-agent-interval",
    type=click.FloatRange(min=1, max=200),
    default=100.0,
    show_default=True,
    metavar="SECONDS",
    help="How often they are asked about each sandbox, with --node-agent.",
)
@click.option(
    "--image-check-interval",
    type=click.FloatRange(min=1),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="How often a registry is asked what a tag stands for that sandboxes follow (spec.updatePolicy).",
)
@click.option(
    "--probe-interval",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How often it is tried what can be reached from each sandbox on a Docker host, beside each change of its "
    "network. 0: never, and IsolationVerified is never True.",
)
@click.option(
    "--pod-probe-interval",
    type=click.FloatRange(min=0),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="The same of each sandbox on Kubernetes, where each try is a pod of some seconds (of --gateway-image). 0: "
    "never, and IsolationVerified is never True.",
)
@click.option(
    "--probe-target",
    "probe_targets",
    multiple=True,
    callback=_probe_targets,
    metavar="ADDRESS:PORT[/HOW]",
    help="What no sandbox may reach, beside what is tried anyway, and the operator can: an IP address and a TCP "
    "port, for example 10.0.0.5:443 or [fd00::5]:443 (so too DNS over TLS or HTTPS), or 10.0.0.5:53/dns-udp, "
    "10.0.0.5:53/dns-tcp, 10.0.0.5:443/quic, 10.0.0.5/icmp. Can be repeated.",
)
@click.option(
    "--probe-control-namespace",
    metavar="NAME",
    help="A namespace for pods of the operator's, from which every connection is allowed and in which nothing else is: "
    "from there it is seen whether what a sandbox could not reach answers at all. Default: only what answers the "
    "operator itself is proven to be denied. See manifests/operator/probes.yaml.",
)
@click.option(
    "--trail-directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the audit trail here: what happened to sandboxes, so that a change of it afterwards is found. Of one "
    "directory there is one writer at a time. Default: none is written. See docs/audit.md.",
)
@click.option(
    "--trail-key",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What signs the trail: a private key for Ed25519 as PEM, which is made where there is none. Default: "
    "signing-key.pem in that directory; elsewhere is better.",
)
@click.option(
    "--trail-export",
    "trail_exports",
    multiple=True,
    callback=_exports,
    metavar="TARGET",
    help="Copy the trail's lines to stdout, syslog+tcp://HOST:PORT, syslog+tls://HOST:PORT or syslog+udp://HOST:PORT; "
    "may be repeated. By a copy a rollback of the trail is found.",
)
@click.option(
    "--trail-keep-days",
    type=click.IntRange(min=0),
    default=400,
    show_default=True,
    help="For how many days what is in the trail is kept. 0: for ever.",
)
@click.option(
    "--bind",
    default="0.0.0.0:8080",
    show_default=True,
    callback=_address,
    metavar="HOST:PORT",
    help="Where /healthz, /readyz and /metrics are served.",
)
@click.option(
    "--revocation-hook",
    metavar="URL",
    help="What is told of keys that are declared compromised, so that it revokes them at the provider: https://… "
    "See docs/incidents.md. Default: nothing is.",
)
@click.option(
    "--revocation-token",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What it is sent as a bearer token.",
)
@click.option(
    "--revocation-ca",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Authorities that may have signed its certificate. Default: the public ones.",
)
@click.option(
    "--checkpoint-recipient",
    metavar="PUBLIC-KEY",
    callback=_recipient,
    help="Keep the memory of quarantined sandboxes on Docker, where their engine can, encrypted to this public key of "
    "age (age1…). See docs/incidents.md. Default: it is not kept.",
)
@click.option("--log-format", type=click.Choice(["json", "text"]), default="text" if sys.stderr.isatty() else "json")
@click.option(
    "--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), default="INFO", show_default=True
)
def run(log_format: logs.Format, log_level: str, **given: Any) -> None:
    """Run the operator until it is told to stop (SIGTERM or SIGINT).

    In a cluster the manifests start it. On your own machine, against the cluster of a kubeconfig:

    \b
      claude-sandbox run --kubeconfig FILE --sandbox-image REPOSITORY@sha256:…

    Every option can be given as an environment variable, for example CLAUDE_SANDBOX_LOG_LEVEL=DEBUG.
    """
    settings = _settings(**given)
    # A dump of this process's memory would put the keys that it delivers on the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logs.configure(log_format, log_level)
    try:
        asyncio.run(run_operator(settings))
    except OperatorError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(Exit.FAILED)


def _settings(
    *,
    namespaces: tuple[str, ...],
    sandbox_image: str,
    sandbox_pull_policy: str,
    plain_images: tuple[str, ...],
    opened: tuple[IPv4Network | IPv6Network, ...],
    runtime_classes: tuple[str, ...],
    strict_profile: str | None,
    app_armor_profiles: tuple[str, ...],
    releases: dict[str, str],
    groups: str,
    without_secrets: bool,
    sessions_certificate: str | None,
    sessions_key: str | None,
    relay_image: str | None,
    gateway_image: str | None,
    gateway_settings: dict[str, Any] | None,
    bind: tuple[str, int],
    trail_directory: Path | None,
    trail_key: Path | None,
    trail_exports: tuple[str, ...],
    trail_keep_days: int,
    revocation_hook: str | None,
    revocation_token: Path | None,
    revocation_ca: Path | None,
    **chosen: Any,
) -> Settings:
    """What the command line says; `chosen` has fields of `Settings` as they are. Raises click.UsageError."""
    pair = _pair(chosen["sessions_at"], sessions_certificate, sessions_key)
    if chosen["sessions_at"] and not chosen["docker"]:
        raise click.UsageError("--sessions-at is for sandboxes on Docker hosts: add --docker, or leave it out")
    if chosen["renew_lease"] and chosen["leader_election"]:
        raise click.UsageError("--renew-lease is for --no-leader-election: who is elected renews the Lease anyway")
    image, classes = parse_image(sandbox_image, sandbox_pull_policy), frozenset(runtime_classes)
    return Settings(
        site=Site(
            image,
            opened,
            strict_groups=groups == "Strict",
            runtime_classes=classes,
            strict_profile=strict_profile,
            app_armor_profiles=frozenset(app_armor_profiles),
            releases={name: parse_image(one, sandbox_pull_policy) for name, one in releases.items()},
        ),
        namespaces=tuple(dict.fromkeys(namespaces)),
        secrets=not without_secrets,
        plain_images=frozenset({sandbox_image, *releases.values(), *plain_images}),
        sessions_certificate=pair,
        relay_image=parse_image(relay_image, "IfNotPresent") if relay_image else None,
        gateway_image=parse_image(gateway_image, sandbox_pull_policy) if gateway_image else None,
        gateways=gateway_settings or {},
        revocation_hook=_hook(revocation_hook, revocation_token, revocation_ca),
        trail=_trail(trail_directory, trail_key, trail_exports, trail_keep_days),
        bind_host=bind[0],
        bind_port=bind[1],
        **chosen,
    )
