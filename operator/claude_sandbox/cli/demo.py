"""`claude-sandbox demo`: everything at work, from nothing, and gone again."""

import sys

import click

from claude_sandbox.demo import flow
from claude_sandbox.demo.errors import DemoError
from claude_sandbox.demo.narrator import Narrator


@click.command()
@click.option("--down", is_flag=True, help="Remove what the demo made.")
@click.option("--kubeconfig", metavar="FILE", help="Use this cluster. [default: $KUBECONFIG, if that is set]")
@click.option("--context", metavar="NAME", help="Which of the kubeconfig's contexts. [default: the current one]")
@click.option("--operator-image", metavar="IMAGE", help="Rather than one that is built here.")
@click.option("--sandbox-image", metavar="IMAGE", help="Rather than one that is built here.")
def demo(
    *,
    down: bool,
    kubeconfig: str | None,
    context: str | None,
    operator_image: str | None,
    sandbox_image: str | None,
) -> None:
    """Bring up the operator and a sandbox, and show that it is Ready and Compliant.

    \b
    The cluster is the first of these:
      the one of --kubeconfig or of KUBECONFIG (~/.kube/config alone is not taken as a wish),
      one by kind, where kind and a Docker Engine are there,
      a local one that is made from source, as root (the first time that takes a while).

    With ANTHROPIC_API_KEY set, its key goes into the sandbox's Secret; without, a placeholder does. Run again, it is
    quick and changes nothing.
    """
    narrator = Narrator()
    options = flow.Options(kubeconfig, context, operator_image, sandbox_image)
    try:
        (flow.down if down else flow.run)(options, narrator)
    except DemoError as error:
        tell(error)
        sys.exit(1)


def tell(error: DemoError) -> None:
    """What failed, what to do about it, and where to read more."""
    click.echo(f"\nError: {error.message}\nRemedy: {error.remedy}", err=True)
    for log in error.logs:
        click.echo(f"More: {log}", err=True)
