"""What on the command line of `claude-sandbox check` goes with what."""

import re
from collections.abc import Sequence

import click

_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")

# What the options are good for; those that are not here are for everything.
_MEANT_FOR = {
    ("host", "tlsverify", "tlscacert", "tlscert", "tlskey"): ("container", "host"),
    ("profile", "level", "registries", "workspaces"): ("--inspect", "container", "files", "pod", "sandbox"),
    ("mounts", "peers"): ("--inspect", "container", "files"),
    ("secrets", "plain_images"): ("files", "pod", "sandbox"),
    ("gateway_image",): ("pod", "sandbox"),
    ("fix", "whole", "allow_empty"): ("files",),
    ("everything",): ("container",),
}
_INSTEAD = {
    "secrets": "; of a container, --mount PATH declares where a secret is meant to be",
    "mounts": "; a pod declares --secret",
}


def check_usage(kind: str | None, names: Sequence[str], file: str | None, *, everything: bool, fix: bool) -> None:
    if (file is None) == (kind is None):
        raise click.UsageError(
            "say what to measure: --inspect FILE, or files PATH, or container NAME, or host, or pod NAMESPACE/NAME, or "
            "sandbox NAMESPACE/NAME"
        )
    match kind:
        case "container":
            if everything == bool(names):
                raise click.UsageError("say which: container NAME, or --all")
            if wrong := [name for name in names if not _CONTAINER_NAME.fullmatch(name)]:
                raise click.UsageError(f"{wrong[0]!r} is neither the name nor the ID of a container")
        case "files":
            _check_paths(names, fix=fix)
        case "host":
            if names:
                raise click.UsageError("name the engine with --host ENDPOINT")
        case "pod" | "sandbox":
            if not names:
                raise click.UsageError(f"say which: {kind} NAMESPACE/NAME")
            if wrong := [name for name in names if name.count("/") != 1 or not all(name.split("/"))]:
                raise click.UsageError(f"{wrong[0]!r} is not NAMESPACE/NAME")


def _check_paths(paths: Sequence[str], *, fix: bool) -> None:
    if not paths:
        raise click.UsageError("say which: files PATH, or - for standard input")
    if fix and len(paths) > 1:
        raise click.UsageError("--fix mends one file at a time, or standard input")
    if paths.count("-") > 1:
        raise click.UsageError("standard input can be read once only")


def check_options(ctx: click.Context, kind: str) -> None:
    """Refuse what would be left unheard: a declaration that counts for nothing looks as if it did."""
    for options, kinds in _MEANT_FOR.items():
        for name in options:
            if kind not in kinds and ctx.params[name]:
                (option,) = (one for one in ctx.command.params if one.name == name)
                good_for = " and ".join(part for part in (", ".join(kinds[:-1]), kinds[-1]) if part)
                raise click.UsageError(f"{option.opts[0]} is for {good_for}, not for {kind}{_INSTEAD.get(name, '')}")
