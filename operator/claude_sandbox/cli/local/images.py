"""Images as they are named on the command line."""

import click

from claude_sandbox.api import references


def by_digest(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """The values, each of which has to name an image by its digest: what a tag names may be another image tomorrow."""
    for value in values:
        image = references.parse(value)
        if image is None or not image.digest:
            raise click.BadParameter(f"{value}: write REPOSITORY@sha256:DIGEST, as sandboxes name the image")
    return values
