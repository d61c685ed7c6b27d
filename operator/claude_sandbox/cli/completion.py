"""`claude-sandbox completion`: what a shell reads to complete command lines, the names of sandboxes among them."""

import asyncio

import click
from click.shell_completion import CompletionItem, get_completion_class

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import CredentialsError, load
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES

_SECONDS = 2.0
"""Who waits at a prompt longer than that types the name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete claude-sandbox's commands, options and sandboxes.

    \b
      source <(claude-sandbox completion bash)            # in ~/.bashrc
      source <(claude-sandbox completion zsh)             # in ~/.zshrc
      claude-sandbox completion fish | source             # in ~/.config/fish/config.fish

    As a plugin, kubectl's own completion does it: kubectl completion --help.
    """
    from claude_sandbox.cli.main import cli

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click has these three
    click.echo(found(cli, {}, "claude-sandbox", "_CLAUDE_SANDBOX_COMPLETE").source())


def sandbox_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those of the namespace, or NAMESPACE/NAME behind `NAMESPACE/`; none where the API server does not tell."""
    namespace, slash, _ = incomplete.rpartition("/")
    options = ctx.params
    try:
        names = asyncio.run(
            asyncio.wait_for(
                _names(options.get("kubeconfig"), options.get("context"), namespace or options.get("namespace")),
                _SECONDS,
            )
        )
    except (CredentialsError, ApiError, TimeoutError):
        return []
    return [
        CompletionItem(f"{namespace}{slash}{name}")
        for name in names
        if f"{namespace}{slash}{name}".startswith(incomplete)
    ]


async def _names(kubeconfig: str | None, context: str | None, namespace: str | None) -> list[str]:
    credentials = await asyncio.to_thread(load, kubeconfig, context)
    async with Api(credentials, attempts=1, user_agent=meta.FIELD_MANAGER) as api:
        found = await api.list(SANDBOXES, namespace or credentials.namespace, metadata_only=True)
        return sorted(str(one["metadata"]["name"]) for one in found.items)
