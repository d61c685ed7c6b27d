"""The options of commands about one sandbox: where its API server is, and on Docker its engine."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from claude_sandbox.cli.local.engine_address import Tls


@dataclass(frozen=True)
class Where:
    """How the API server and an engine are reached; what is None is as kubectl, and as the DockerHost says."""

    namespace: str | None
    kubeconfig: str | None
    context: str | None
    host: str | None
    tls: Tls


_OPTIONS = (
    click.option("--namespace", "-n", metavar="NAME", help="The sandbox's. [default: the context's]"),
    click.option("--kubeconfig", metavar="FILE", help="[default: as kubectl]"),
    click.option("--context", metavar="NAME", help="[default: the current one]"),
    click.option("--host", "-H", metavar="ENDPOINT", help="On Docker: ask this engine. [default: as needed]"),
    click.option("--tlsverify", is_flag=True, help="Mutual TLS, for tcp://. [default: as docker: DOCKER_TLS_VERIFY]"),
    click.option("--tlscacert", metavar="FILE", help="Who signed the engine's certificate. [default: as docker]"),
    click.option("--tlscert", metavar="FILE", help="The certificate to show to the engine. [default: as docker]"),
    click.option("--tlskey", metavar="FILE", help="Its key. [default: as docker]"),
)


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with these options, which it gets as `where`."""

    @functools.wraps(command)
    def wrapped(*args: Any, **given: Any) -> Any:
        tls = Tls(*(given.pop(name) for name in ("tlsverify", "tlscacert", "tlscert", "tlskey")))
        where = Where(tls=tls, **{name: given.pop(name) for name in ("namespace", "kubeconfig", "context", "host")})
        return command(*args, where=where, **given)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
