"""IMG: which program runs."""

import re

from claude_sandbox.api import references
from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.control import (
    AS_FOR_A_SANDBOX,
    PRODUCTION,
    ContainerCheck,
    Control,
    Level,
    PodCheck,
    Undeclared,
    maps,
)
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, failed, judged, not_applicable, passed, unknown

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def pod_pinned(view: View) -> Verdict:
    """Each image is named by its digest, and the digest that runs is the one that is named."""
    problems, unsure = [], []
    for container in view.containers:
        wanted = _digest(str(container.spec.get("image", "")))
        running = str(container.status.get("imageID", ""))
        if not wanted:
            problems.append(f"container {container.name} names its image without a digest")
        elif not running:
            unsure.append(f"the node has not yet told which image runs in container {container.name}")
        elif "@" in running and _digest(running) != wanted:
            problems.append(f"another image runs in container {container.name} than is named")
        elif "@" not in running and not running.endswith(wanted):
            unsure.append(f"the node tells only its own identifier of the image in container {container.name}")
    expected = view.expected.image_digest
    named = [_digest(str(one.spec.get("image", ""))) for one in view.containers if one.name == view.expected.container]
    if expected and expected not in named:
        problems.append("the pod does not name the digest that the sandbox declares")
    return judged(problems) if problems or not unsure else unknown("; ".join(unsure))


def container_pinned(container: Container) -> Verdict:
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


def pod_from_allowed_registry(view: View) -> Verdict:
    """Only images from where the administrator allows them."""
    if refused := view.expected.image_refused:
        return failed(refused)
    allowed = view.expected.allowed_registries
    if not allowed:
        return not_applicable("the operator is not told to allow only some registries")
    named = {container.name: references.parse(str(container.spec.get("image", ""))) for container in view.containers}
    problems = [
        f"container {name} has an image from {image.registry}"
        for name, image in named.items()
        if image is not None and not references.is_among(image.repository, allowed)
    ]
    if problems or None not in named.values():
        return judged(problems)
    unsure = ", ".join(name for name, image in named.items() if image is None)
    return unknown(f"no registry is named by the image of container {unsure}")


def container_from_allowed_registry(container: Container) -> Verdict:
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


def _digest(reference: str) -> str:
    return reference.partition("@")[2]


CONTROLS: tuple[Control, ...] = (
    Control(
        "IMG-01",
        "Image pinned by digest, and running",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="Each image is named by its digest, and what runs has that digest.",
        why=(
            "A tag is a name that somebody can point elsewhere. What was tested is then not what runs, and "
            "nobody can tell what did."
        ),
        pod=PodCheck(
            pod_pinned,
            "Set spec.image.digest.",
            undeclared=Undeclared(remedy="Name the image by its digest: NAME@sha256:… ."),
        ),
        container=ContainerCheck(
            container_pinned,
            "Run the image by its digest: NAME@sha256:… .",
        ),
        required=PRODUCTION,
        mappings=maps(
            cis_docker=("5.28",),
            kubescape=("C-0304",),
            trivy=("KSV-0013",),
            nsa=("Building secure container images",),
            nist=("4.1.5",),
        ),
    ),
    Control(
        "IMG-02",
        "Image from an allowed registry",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="Images come from where the administrator allows them.",
        why=(
            "Who may create sandboxes would otherwise choose what runs with the key: an image that sends it "
            "away looks like any other."
        ),
        pod=PodCheck(
            pod_from_allowed_registry,
            "Use an image from an allowed registry, or have the operator's administrator allow this one.",
            undeclared=AS_FOR_A_SANDBOX,
        ),
        container=ContainerCheck(
            container_from_allowed_registry,
            "Use an image from an allowed registry.",
        ),
        mappings=maps(
            cis_docker=("4.2",),
            kubescape=("C-0078", "C-0304"),
            trivy=("KSV-0125",),
            nsa=("Building secure container images",),
            nist=("4.1.5",),
        ),
    ),
)
