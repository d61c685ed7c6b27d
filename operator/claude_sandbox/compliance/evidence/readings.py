"""Something that was read or could not be, whichever backend it is of."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from claude_sandbox.api.status import EvidenceSource

T_co = TypeVar("T_co", covariant=True)
Object = Mapping[str, Any]
"""A Kubernetes object as the API server answers it, decoded from JSON and otherwise untouched."""


@dataclass(frozen=True)
class Reading(Generic[T_co]):
    """Something that was read. Made only from an answer, never from what was written or is assumed."""

    value: T_co
    source: EvidenceSource
    observed_at: datetime


@dataclass(frozen=True)
class Unread:
    """Something that could not be read, and why. It makes results Unknown, never Pass.

    `reason` completes the sentence "it could not be read: …" and must be the same while the cause is the same.
    """

    reason: str


@dataclass(frozen=True)
class ClaudeCode:
    """Where Claude Code is to be from: the operator's image, by its reference, of which `directory` has it.

    `brought`: whether it is mounted there into another image, and started by `entry`; else it is in the image itself.
    `filled_by`: on Kubernetes what an init container runs that copies it, on Docker the name of the volume.
    """

    image: str
    directory: str
    brought: bool = False
    entry: tuple[str, ...] = ()
    filled_by: tuple[str, ...] = ()
    certain: bool = True
    """False: nobody said which image is the operator's, and it is the one that is there."""


@dataclass(frozen=True)
class ManagedSettings:
    """Claude Code's managed settings as they are to be: `file` in `directory`, and beside it just `files`, by path."""

    directory: str
    file: str
    content: str
    files: tuple[tuple[str, str], ...] = ()
