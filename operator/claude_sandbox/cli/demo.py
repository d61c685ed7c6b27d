"""`claude-sandbox demo`: everything at work, from nothing, and gone again."""

import sys

import click

from claude_sandbox.cli.exits import Exit
from claude_sandbox.demo import clusters, flow
from claude_sandbox.demo.docker import flow as docker
from claude_sandbox.demo.narrator import Narrator
from claude_sandbox.install.errors import SetupError

KUBERNETES, DOCKER = "kubernetes", "docker"


@click.command()
@click.option("--down", is_flag=True, help="Remove what the demo made, on both backends unless --backend names one.")
@click.option(
    "--backend",
    type=click.Choice([KUBERNETES, DOCKER], case_sensitive=False),
    help=f"What sandboxes run on. [default: {KUBERNETES}]",
)
@click.option("--kubeconfig", metavar="FILE", help="Use this cluster. [default: $KUBECONFIG, if that is set]")
@click.option("--context", metavar="NAME", help="Which of the kubeconfig's contexts. [default: the current one]")
@click.option("--operator-image", metavar="IMAGE", help="Rather than one that is built here.")
@click.option("--sandbox-image", metavar="IMAGE", help="Rather than one that is built here.")
def demo(
    *,
    down: bool,
    backend: str | None,
    kubeconfig: str | None,
    context: str | None,
    operator_image: str | None,
    sandbox_image: str | None,
) -> None:
    """Bring up the operator and a sandbox, and show that it is Ready and Compliant, and at work by its gateway.

    It clones a private repository of a git server that the demo starts, works on it, and pushes to a branch.

    \b
      claude-sandbox demo
      claude-sandbox demo --backend docker
      claude-sandbox demo --down             remove what it made

    \b
    The cluster is the first of these:
      the one of --kubeconfig or of KUBECONFIG (~/.kube/config alone is not taken as a wish),
      one by kind, where kind and a Docker Engine are there,
      a local one that is made from source, as root (the first time that takes a while).

    \b
    With --backend docker there are a control plane and the operator on this machine, and the sandbox is a container.
    The engine is the first of these:
      the one of DOCKER_HOST, or of /var/run/docker.sock,
      one of the demo's own that is made from source, as root, and goes with the demo.

    With ANTHROPIC_API_KEY set, its key goes into the sandbox's Secret, and answers are the Claude API's (for a
    dollar at most); without, a placeholder does, and a stand-in answers, which has Claude Code do the same work by a
    script. Run again, it is quick and changes nothing.
    """
    if backend == DOCKER and (kubeconfig or context or operator_image):
        raise click.UsageError("--kubeconfig, --context and --operator-image are for --backend kubernetes.")
    narrator = Narrator()
    options = flow.Options(kubeconfig, context, operator_image, sandbox_image)
    try:
        if down:
            _down(backend, options, narrator)
        elif backend == DOCKER:
            docker.run(sandbox_image, narrator)
        else:
            flow.run(options, narrator)
    except SetupError as error:
        tell(error)
        sys.exit(Exit.FAILED)


def _down(backend: str | None, options: flow.Options, narrator: Narrator) -> None:
    found = backend != KUBERNETES and docker.down(narrator.say)
    # Who looked around in the demo on Docker still has its kubeconfig in the environment.
    if backend != DOCKER and not docker.is_demos(clusters.named(options.kubeconfig)):
        found = flow.down(options, narrator) or found
    narrator.say("Done." if found else "There is nothing of the demo's.")


def tell(error: SetupError) -> None:
    """What failed, what to do about it, and where to read more."""
    click.echo(f"\nError: {error.message}\nRemedy: {error.remedy}", err=True)
    for log in error.logs:
        click.echo(f"More: {log}", err=True)
