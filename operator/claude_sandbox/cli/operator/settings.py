"""What the options of `claude-sandbox run` say together: the operator's settings."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.model import Site
from claude_sandbox.controller.sandboxes.incidents.revocation import Hook
from claude_sandbox.controller.settings import Settings
from claude_sandbox.kubernetes_api.operator_sessions import is_address
from claude_sandbox.trail.settings import TrailSettings


def settings_of(
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
