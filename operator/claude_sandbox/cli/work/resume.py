"""`claude-sandbox resume`."""

from collections.abc import Mapping
from typing import Any

import click

from claude_sandbox.api import meta
from claude_sandbox.cli.completion import sandbox_names
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.activity import sign
from claude_sandbox.cli.work.connection import connected
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.cli.work.options import sandbox_named, work
from claude_sandbox.cli.work.target import not_in_quarantine
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES

_FIELDS = {"TTL": "ttl", "ShutdownTime": "shutdownTime"}


@click.command()
@click.argument("sandbox", metavar="SANDBOX", shell_complete=sandbox_names)
@where_options
def resume(sandbox: str, where: Where) -> None:
    """Have a suspended sandbox run again, with the workspace that it had.

    SANDBOX is NAME or NAMESPACE/NAME. One that was suspended for being idle (spec.lifecycle.idleTimeout) has its whole
    time again; so has one that runs. One that was suspended by spec.operatingMode is set to Running. One whose ttl or
    shutdownTime has passed needs another: what to do is said.

    It takes the right to patch the ClaudeSandbox.

    \b
      claude-sandbox resume agents/alice
    """
    found = sandbox_named(sandbox, where)
    work(lambda: _run(found, where))


async def _run(sandbox: tuple[str, str], where: Where) -> int:
    async with connected(where) as (api, default):
        namespace, name = sandbox[0] or default, sandbox[1]
        what = f"ClaudeSandbox {namespace}/{name}"
        try:
            live = await api.get(SANDBOXES, name, namespace)
        except ApiError as error:
            raise refused(error, what, f"get {meta.PLURAL}", namespace) from None
        not_in_quarantine(live)
        _not_over(live, what)
        # With its UID: one that was made anew under the name is not meant.
        patch = sign(str(live["metadata"].get("uid")))
        if (live.get("spec") or {}).get("operatingMode") == "Suspended":
            patch |= {"spec": {"operatingMode": "Running"}}
        try:
            await api.patch(SANDBOXES, name, namespace, patch)
        except ApiError as error:
            if error.is_forbidden:
                raise WorkError(
                    f"{what} may not be resumed by you: {error}.",
                    f"Ask for the right to patch {meta.PLURAL} in namespace {namespace}. The ClusterRole"
                    " claudesandbox-editor has it.",
                ) from None
            raise refused(error, what, f"patch {meta.PLURAL}", namespace) from None
    click.echo(f"{what} is to run. See: kubectl get {meta.SINGULAR} {name} -n {namespace}")
    return 0


def _not_over(live: Mapping[str, Any], what: str) -> None:
    """Raises WorkError where its time is over by what only its spec can change."""
    ended = ((live.get("status") or {}).get("lifecycle") or {}).get("ended") or {}
    field = _FIELDS.get(str(ended.get("by")))
    if field is None:
        return
    metadata = live["metadata"]
    raise WorkError(
        f"The time of {what} is over, by spec.lifecycle.{field}.",
        f"Give it more, or remove that: kubectl patch {meta.SINGULAR} {metadata['name']} -n {metadata['namespace']}"
        f' --type=merge -p \'{{"spec":{{"lifecycle":{{"{field}":…}}}}}}\'',
    )
