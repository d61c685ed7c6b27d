"""IMG on Docker: which program runs."""

import re

from claude_sandbox.api import references
from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.control import Verdict, failed, judged, not_applicable, passed, unknown
from claude_sandbox.compliance.docker.measure import shared

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def pinned(container: Container) -> Verdict:
    """The image is named by its digest: the engine checks it, and never changes what a container was made of.

    `Image` is compared only with an identifier: in most engines it is another digest than the registry's.
    """
    reference = container.text("Config.Image")
    if reference is None:
        return unknown(untold("Config.Image"))
    digest = reference.rpartition("@")[2]
    if not _DIGEST.fullmatch(digest):
        return failed("it names its image without a digest")
    if wanted := container.declared.image_digest:
        return passed(digest) if digest == wanted else failed("it does not name the digest that is declared", digest)
    if reference != digest:
        return passed(digest)
    # The identifier itself: then both have to be the same.
    image = container.text("Image")
    if image is None:
        return unknown(untold("Image"))
    return passed(digest) if image == digest else failed("another image runs than is named", image)


def from_allowed_registry(container: Container) -> Verdict:
    """Only images from where they are allowed to come from."""
    if refused := container.declared.image_refused:
        return failed(refused)
    allowed = container.declared.allowed_registries
    if not allowed:
        return not_applicable("it is not said that only some registries are allowed (--allowed-registry)")
    reference = container.text("Config.Image")
    if reference is None:
        return unknown(untold("Config.Image"))
    image = references.parse(reference)
    if image is None:
        return unknown("it names its image by an identifier, or by no name, which does not tell where it is from")
    problems = [] if references.is_among(image.repository, allowed) else [f"its image is from {image.registry}"]
    return judged(problems, image.repository)


MEASURES = (
    shared("IMG-01", pinned, "Run the image by its digest: NAME@sha256:… ."),
    shared("IMG-02", from_allowed_registry, "Use an image from an allowed registry."),
)
