"""`python -m claude_sandbox.localcluster.images [--base IMAGE] [sandbox] [operator]`: what `make images` runs."""

import sys

import click

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images import NAMES, build_image
from claude_sandbox.localcluster.images.recipes import CLAUDE_CODE
from claude_sandbox.localcluster.images.sbom import written


@click.command()
@click.option("--base", help="An image to begin with, rather than the default or a bootstrapped one.")
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
def main(base: str | None, names: tuple[str, ...]) -> None:
    """Build the images (all of them by default); print each one's name by digest, archive, and what it is made of."""
    try:
        for name in names or NAMES:
            image = build_image(name, lambda line: click.echo(line, err=True), base)
            click.echo(f"{image.pinned}  {image.path}  {written(image, CLAUDE_CODE)}")
    except LocalClusterError as error:
        click.echo(f"Error: {error.message}\n{error.remedy}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
