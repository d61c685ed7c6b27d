"""What an administrator says of the trail, and what writes it then."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from claude_sandbox.trail.exports import Export, sink, target
from claude_sandbox.trail.keys import signer
from claude_sandbox.trail.store import SEGMENT_BYTES, Keeping, Store
from claude_sandbox.trail.writer import Writer

KEY = "signing-key.pem"


@dataclass(frozen=True)
class TrailSettings:
    """`key`: the file that signs, made where there is none; None: one in the directory. `keep_days` 0: for ever."""

    directory: Path
    key: Path | None = None
    exports: tuple[str, ...] = ()
    keep_days: int = 400
    segment_bytes: int = SEGMENT_BYTES


def writer_of(settings: TrailSettings) -> Writer:
    """What writes it, not started yet. Raises ValueError where an export is none."""
    key = settings.key or settings.directory / KEY
    keep = timedelta(days=settings.keep_days) if settings.keep_days else None
    store = Store(settings.directory, lambda: signer(key), Keeping(settings.segment_bytes, keep=keep))
    left_out: Counter[str] = Counter()
    exports = [Export(name, sink(target(name)), _counts(left_out, name)) for name in dict.fromkeys(settings.exports)]
    writer = Writer(store, exports)
    writer.told.not_copied = left_out
    return writer


def _counts(left_out: Counter[str], name: str) -> Callable[[int], None]:
    def count(lines: int) -> None:
        left_out[name] += lines

    return count
