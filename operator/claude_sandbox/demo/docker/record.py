"""What the demo made on Docker, kept until it is removed: with a file of its own, since each part may go by itself."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from claude_sandbox.localcluster.layout import clusters_dir, write_private


@dataclass(frozen=True)
class Made:
    """Where the demo's containers are, and how they are told from all others."""

    endpoint: str
    """The engine's: `unix:///…`."""
    cluster: str
    """The control plane's identifier, which everything of its sandboxes is labelled with."""
    port: int
    """The operator's, on 127.0.0.1."""
    images: tuple[str, ...] = ()
    """Identifiers of the images that the engine has by the demo."""
    keyed: bool = False
    """Whether the Secret was ever given a real key: then its requests go to the Claude API and to nothing else."""
    stand_in: int = 0
    """The port of the stand-in for the Claude API, on the engine's host."""
    git: int = 0
    """The port of the git server there."""


def file() -> Path:
    """Where the record is."""
    return clusters_dir().parent / "docker-demo.json"


def load() -> Made | None:
    """The record, or None where there is none that can be read."""
    try:
        document = json.loads(file().read_text())
        return Made(**{**document, "images": tuple(document["images"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def save(made: Made) -> None:
    """Replace the record, where it says something else."""
    if load() != made:
        file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file(), json.dumps(asdict(made), indent=2))


def remove() -> bool:
    """Whether there was one."""
    try:
        file().unlink()
    except FileNotFoundError:
        return False
    return True
