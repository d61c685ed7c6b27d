"""Names of images, taken apart as container runtimes do: by the grammar of github.com/distribution/reference. Pure.

Docker, containerd and CRI-O all read a name so, and by it decide which registry an image is fetched from.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

DEFAULT_REGISTRY = "docker.io"
_LEGACY_REGISTRY = "index.docker.io"
_OFFICIAL = "library/"
_LONGEST_PATH = 255
_LONGEST = 1024
"""Characters of a whole reference: more than any runtime's registry takes, and little to look at."""

_PART = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
REGISTRY = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
"""A registry's host and port, as a pattern."""
PATH = f"{_PART}(?:/{_PART})*"
"""A repository's path in its registry, as a pattern."""
_REFERENCE = re.compile(
    rf"(?P<registry>{REGISTRY})/(?P<path>{PATH})"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}))?",
    re.ASCII,
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}|sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")


@dataclass(frozen=True)
class Reference:
    """An image's name with its registry, and its tag and digest where it has them."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Registry and path."""
        return f"{self.registry}/{self.path}"

    def __str__(self) -> str:
        return joined(self.repository, self.tag, self.digest)


def parse(reference: str) -> Reference | None:
    """The reference as a runtime completes it: `python:3` is `docker.io/library/python:3`.

    None: it is none, or an image's identifier, which tells nothing of where the image is from.
    """
    if len(reference) > _LONGEST or _IDENTIFIER.fullmatch(reference):
        return None
    registry, rest = _split(reference)
    found = _REFERENCE.fullmatch(f"{registry}/{rest}")
    # The first part may look like a registry to the pattern and not to the rule above, never the other way round.
    if found is None or found["registry"] != registry or len(found["path"]) > _LONGEST_PATH:
        return None
    return Reference(registry, found["path"], found["tag"] or "", found["digest"] or "")


def joined(repository: str, tag: str | None, digest: str | None) -> str:
    """As a person would write it; `parse` completes it."""
    return f"{repository}{f':{tag}' if tag else ''}{f'@{digest}' if digest else ''}"


def is_among(repository: str, allowed: Iterable[str]) -> bool:
    """Whether a completed repository is one of these, or below one: `ghcr.io/acme` allows `ghcr.io/acme/tools`."""
    return any(f"{repository}/".startswith(f"{one.rstrip('/')}/") for one in allowed)


def _split(reference: str) -> tuple[str, str]:
    """The registry, and the rest. A first part is a registry where it can't be part of a path, or is `localhost`."""
    first, slash, rest = reference.partition("/")
    if not slash:
        return DEFAULT_REGISTRY, f"{_OFFICIAL}{reference}"
    if first == _LEGACY_REGISTRY:
        first = DEFAULT_REGISTRY
    elif not (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        first, rest = DEFAULT_REGISTRY, reference
    if first == DEFAULT_REGISTRY and "/" not in rest:
        rest = f"{_OFFICIAL}{rest}"
    return first, rest
