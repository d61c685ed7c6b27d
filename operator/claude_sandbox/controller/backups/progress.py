"""How far helpers say that they are, and when they are asked."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from claude_sandbox.api.status_fields.progress import Progress
from claude_sandbox.backends.backups import Helpers, Wanted

EVERY = timedelta(seconds=10)
"""Between two writes of it."""


async def progress_of(
    helpers: Helpers, wanted: Wanted, before: Mapping[str, Any] | None, now: datetime
) -> Progress | None:
    """As it was `before`, until it is time to ask again and something else is said; None where nothing ever was."""
    known = Progress.model_validate(before) if before else None
    if known is not None and timedelta() <= now - known.at < EVERY:
        return known
    said = _read(await helpers.progress(wanted) or {}, now)
    if said is None or (known is not None and said == known.model_copy(update={"at": now})):
        return known
    return said


def _read(said: Mapping[str, Any], now: datetime) -> Progress | None:
    """Of what a helper said; None where it is none of this version's."""
    try:
        (files, size), (files_whole, size_whole) = (
            (max(0, int(said[which]["files"])), max(0, int(said[which]["bytes"]))) for which in ("done", "whole")
        )
        # Where all files are empty, by these.
        done, whole = (size, size_whole) if size_whole else (files, files_whole)
        return Progress.model_validate({
            "phase": said["phase"], "percent": min(100, 100 * done // whole) if whole else 100, "files": files,
            "totalFiles": files_whole, "sizeBytes": size, "totalBytes": size_whole, "at": now,
        })  # fmt: skip
    except (KeyError, TypeError, ValueError, ValidationError):
        return None
