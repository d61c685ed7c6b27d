"""What the options of `claude-sandbox run` take: each function reads the text of one, or raises click.BadParameter."""

from ipaddress import ip_address

import click

from claude_sandbox.api import references
from claude_sandbox.api.fields.work.claude_code import is_release
from claude_sandbox.backends.docker.containment.recipient import problem_with
from claude_sandbox.backends.probing.wanted import NO_PORT, Named
from claude_sandbox.kubernetes_api.operator_sessions import is_place
from claude_sandbox.trail.exports import target


def address(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    host, separator, port = value.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter("write HOST:PORT, for example 0.0.0.0:8080")
    return host.strip("[]"), int(port)


def pinned(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if any(character.isspace() for character in value) or not value:
        raise click.BadParameter("write REPOSITORY:TAG or REPOSITORY@sha256:DIGEST")
    return value


def releases(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        release, _, image = value.partition("=")
        if not is_release(release) or references.parse(image) is None:
            raise click.BadParameter(f"{value}: write RELEASE=IMAGE, for example 2.1.331=example.org/claude@sha256:…")
        if release in found:
            raise click.BadParameter(f"{release} is there twice")
        found[release] = image
    return found


def seccomp_profile(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """What an API server takes for a pod's localhostProfile (k8s.io/kubernetes, pkg/apis/core/validation)."""
    if value and (value.startswith("/") or ".." in value.split("/")):
        raise click.BadParameter("write a path below the kubelet's directory of seccomp profiles, without a /.. in it")
    return value or None


def app_armor(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value.lower() == "unconfined":
            raise click.BadParameter("unconfined is no profile: it turns AppArmor off")
    return values


def recipient(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value and (problem := problem_with(value)):
        raise click.BadParameter(problem)
    return value or None


def place(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value and not is_place(value):
        raise click.BadParameter("write NAMESPACE/NAME:PORT of a Service, or https://HOST:PORT")
    return value or None


def probe_targets(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Named, ...]:
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
    host, port = address(ctx, param, at)
    if not port:
        raise ValueError("0 is no port")
    return Named(str(ip_address(host)), port, protocol or "tcp")


def exports(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for value in values:
            target(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}") from None
    return values
