"""An engine's documents, looked at."""

import re
from collections.abc import Iterator
from functools import cached_property

from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.evidence.docker_hosts import EngineDocuments, HostEvidence

Numbers = tuple[int, ...]
_NUMBERS = re.compile(r"v?(\d+(?:\.\d+)*)")


class Host:
    """The engine's documents, looked at."""

    def __init__(self, evidence: HostEvidence, documents: EngineDocuments) -> None:
        self.scheme = evidence.scheme
        self.mutual_tls = evidence.mutual_tls
        self.info = Document(documents.info)
        self.version = Document(documents.version)
        self.bridge = None if documents.bridge is None else Document(documents.bridge)

    @cached_property
    def security(self) -> dict[str, dict[str, str]] | None:
        """The engine's security options by name, each with what it says beside: `name=seccomp,profile=builtin`."""
        options = self.info.strings("SecurityOptions")
        return None if options is None else dict(map(_security_option, options))

    @property
    def release(self) -> str | None:
        """The engine's version, as it writes it."""
        return self.version.text("Version")

    def component(self, name: str) -> str | None:
        """The version of a part, for example of runc; None where the engine does not tell of it."""
        for part in self.version.objects("Components", omissible=True) or ():
            found = part.get("Version")
            if part.get("Name") == name and isinstance(found, str):
                return found
        return None


def numbers(version: str) -> Numbers | None:
    """The leading numbers of a version, to compare by; None where there are none."""
    found = _NUMBERS.match(version)
    return tuple(map(int, found[1].split("."))) if found else None


def _security_option(option: str) -> tuple[str, dict[str, str]]:
    pairs = dict(_pairs(option))
    return pairs.pop("name", option), pairs


def _pairs(option: str) -> Iterator[tuple[str, str]]:
    for part in option.split(","):
        key, _, value = part.partition("=")
        yield key, value
