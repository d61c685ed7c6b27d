"""What a person sees while something is going on."""

import time

import click


class Narrator:
    """Steps with headings, and lines below them, on standard output."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def step(self, title: str) -> None:
        """A new step begins."""
        click.echo(f"\n== {title} ({time.monotonic() - self._began:.0f} s)")

    def say(self, line: str) -> None:
        """Something about the step."""
        click.echo(f"   {line}")

    def show(self, text: str) -> None:
        """What a command printed, as it did."""
        click.echo(text.rstrip("\n"))
