"""IMG: which program runs."""

from claude_sandbox.api import references
from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import (
    PRODUCTION,
    Control,
    Level,
    Verdict,
    judged,
    maps,
    not_applicable,
    unknown,
)
from claude_sandbox.compliance.pods.view import View


def pinned(view: View) -> Verdict:
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


def from_allowed_registry(view: View) -> Verdict:
    """Only images from where the administrator allows them."""
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


def _digest(reference: str) -> str:
    return reference.partition("@")[2]


CONTROLS = (
    Control(
        "IMG-01",
        "Image pinned by digest, and running",
        Severity.MEDIUM,
        Level.SANDBOX,
        "Set spec.image.digest.",
        pinned,
        required=PRODUCTION,
        mappings=maps(cis_docker=("5.28",), kubescape=("C-0304",), trivy=("KSV-0013",)),
    ),
    Control(
        "IMG-02",
        "Image from an allowed registry",
        Severity.MEDIUM,
        Level.SANDBOX,
        "Use an image from an allowed registry, or have the operator's administrator allow this one.",
        from_allowed_registry,
        mappings=maps(cis_docker=("4.2",), kubescape=("C-0078", "C-0304"), trivy=("KSV-0125",)),
    ),
)
