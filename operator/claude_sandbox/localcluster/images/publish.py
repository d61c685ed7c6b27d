"""Publishes this project's images: each as it was built, signed, and with what it is made of attested.

What pushes, signs and attests are skopeo and cosign, from PATH. The registry has the very manifest that the archive
has, so that the digest which is signed is the one that was built. With a key of one's own nothing is told to a public
log; without one, who runs it proves to Sigstore who he is, and the log has it.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images import NAMES, build_image
from claude_sandbox.localcluster.images.archive import ImageArchive
from claude_sandbox.localcluster.images.recipes import CLAUDE_CODE
from claude_sandbox.localcluster.images.sbom import written

_PLAIN_HTTP = ("--allow-http-registry",)
_NO_LOG = ("--use-signing-config=false", "--tlog-upload=false")


@dataclass(frozen=True)
class Publisher:
    """Where to, and by whom. `key`: a private key of cosign's; None: without a key.

    `environment`: what the programs get, by which they are found, too.
    """

    to: str
    key: Path | None
    report: Callable[[str], None]
    plain_http: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def publish(self, image: ImageArchive) -> str:
        """The image by the digest under which it can be had now. Raises LocalClusterError."""
        repository, _, tag = image.reference.rpartition(":")
        name = f"{self.to.rstrip('/')}/{repository.rpartition('/')[2]}"
        self.report(f"Pushing {name}:{tag}.")
        insecure = ("--dest-tls-verify=false",) if self.plain_http else ()
        # Of an archive of one's own no policy of the machine has to say anything.
        self._run("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", *insecure,
                  f"oci-archive:{image.path}", f"docker://{name}:{tag}")  # fmt: skip
        pinned = f"{name}@{image.digest}"
        self.report(f"Signing {pinned}.")
        self._cosign("sign", pinned)
        self.report("Attesting what it is made of.")
        self._cosign("attest", pinned, "--type", "cyclonedx", "--predicate", str(written(image, CLAUDE_CODE)))
        return pinned

    def _cosign(self, verb: str, pinned: str, *more: str) -> None:
        by = ("--key", str(self.key), *_NO_LOG) if self.key is not None else ()
        self._run("cosign", verb, "--yes", *by, *(_PLAIN_HTTP if self.plain_http else ()), *more, pinned)

    def _run(self, *command: str) -> None:
        try:
            # What cosign asks (a key's password) is asked of who runs this.
            subprocess.run(command, env=dict(self.environment), check=True)
        except FileNotFoundError:
            raise LocalClusterError(
                f"{command[0]} is not there, which publishing takes.", "Install skopeo and cosign (3 or newer)."
            ) from None
        except subprocess.CalledProcessError as error:
            raise LocalClusterError(
                f"{command[0]} ended with exit code {error.returncode}.", "What it wrote says why."
            ) from None


@click.command()
@click.option("--to", required=True, help="Where: a registry and a path, for example registry.example.com/claude.")
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="cosign's private key.")
@click.option("--plain-http", is_flag=True, help="A registry without TLS.")
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
def main(to: str, key: Path | None, names: tuple[str, ...], *, plain_http: bool) -> None:
    """Build the images (all of them by default), push and sign them, and attest what they are made of."""

    def report(line: str) -> None:
        click.echo(line, err=True)

    try:
        for name in names or NAMES:
            click.echo(Publisher(to, key, report, plain_http).publish(build_image(name, report)))
    except LocalClusterError as error:
        click.echo(f"Error: {error.message}\n{error.remedy}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
