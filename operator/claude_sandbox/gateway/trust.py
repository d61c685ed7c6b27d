"""Whom the gateway believes of servers that are not the model's provider: git's, and services."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.gateway.config.config import Config


@dataclass(frozen=True)
class Trust:
    """Certificates that are believed beside the system's: each in a file, or in PEM."""

    files: tuple[Path, ...] = ()
    bundles: tuple[str, ...] = ()

    def context(self) -> ssl.SSLContext:
        """For one who connects. Raises OSError where a file can't be read."""
        found = ssl.create_default_context()
        for file in self.files:
            found.load_verify_locations(cafile=file)
        for bundle in self.bundles:
            found.load_verify_locations(cadata=bundle)
        return found


def trust_of(config: Config) -> Trust:
    """What the administrator named for the provider, and for everything else."""
    sections = (config.provider, config.egress)
    return Trust(
        tuple(one.ca for one in sections if one.ca is not None),
        tuple(one.bundle for one in sections if one.bundle is not None),
    )
