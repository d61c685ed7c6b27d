"""Links to a registry's own host in what it lists, led to where the sandbox reaches it. Pure.

Registries write whole URLs into what they list (npm's `dist.tarball`, cargo's `dl`, GitLab's links for pip). A client
would go there by itself, without the credential. So `https://HOST` becomes `http://NAME.services`, in the documents
that clients read lists from, and in nothing else: packages are passed on as they are, and their digests stay true.
"""

import re

from claude_sandbox.gateway.services.declared import Service

_LISTS = frozenset(
    ("text/html", "application/json", "application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+json",
     "application/vnd.npm.install-v1+json")
)  # fmt: skip
_LONGEST_END = 1
"""Characters behind what is replaced that tell that it ends there."""


def is_list(service: Service, path: str, content_type: str) -> bool:
    """Whether this is a document of which clients follow the links."""
    if service.registry == "Cargo":
        return path.endswith("/config.json")
    return service.registry in ("PyPI", "NPM") and content_type in _LISTS


class Links:
    """Takes the parts of a document, and gives them with the links led here."""

    def __init__(self, service: Service) -> None:
        here, there = service.url, f"https://{service.authority}"
        # In JSON some write a slash as `\/`.
        instead = {there: here, there.replace("/", "\\/"): here.replace("/", "\\/")}
        self._instead = {one.encode(): other.encode() for one, other in instead.items()}
        # Not a longer name or another port that begins so.
        self._pattern = re.compile(b"(" + b"|".join(map(re.escape, self._instead)) + rb")(?![A-Za-z0-9.:@_-])")
        self._longest = max(map(len, self._instead)) + _LONGEST_END
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take further bytes; what can be passed on."""
        data = self._rest + data
        end = max(0, len(data) - self._longest)
        # What begins before the end and goes beyond it waits.
        for found in self._pattern.finditer(data, max(0, end - self._longest)):
            if found.start() < end < found.end():
                end = found.start()
        self._rest = data[end:]
        return self._replaced(data, end)

    def end(self) -> bytes:
        """What is left."""
        rest, self._rest = self._rest, b""
        return self._replaced(rest, len(rest))

    def _replaced(self, data: bytes, end: int) -> bytes:
        """The first `end` bytes, with what is behind them in sight."""
        parts, at = [], 0
        for found in self._pattern.finditer(data):
            if found.end() > end:
                break
            parts += [data[at : found.start()], self._instead[found[1]]]
            at = found.end()
        return b"".join((*parts, data[at:end]))
