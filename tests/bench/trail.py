"""What a record of the audit trail costs: who records it, the thread that writes, the disk, and who verifies."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claude_sandbox.controller.trail.recorder import Recorder
from claude_sandbox.trail.keys import PUBLIC, public_key
from claude_sandbox.trail.records import Kind
from claude_sandbox.trail.settings import TrailSettings, writer_of
from claude_sandbox.trail.verification import verify

RECORDS, ALONE = 9000, 100
_SANDBOX = {
    "kind": "ClaudeSandbox",
    "metadata": {"namespace": "agents", "name": "alice", "uid": "6f9619ff-8b86-d011-b42d-00cf4fc964ff"},
}
_CHANGE = {
    "control": "NET-01", "before": "Pass", "after": "Fail", "required": True, "source": "LiveObject",
    "message": "policies let out to every address", "value": "egress: 0.0.0.0/0",
}  # fmt: skip


def measure(directory: Path, records: int = RECORDS, alone: int = ALONE) -> dict[str, Any]:
    """Figures: microseconds of CPU for a record, bytes, milliseconds until it is on the disk."""
    trail = directory / "trail"
    writer = writer_of(TrailSettings(trail))
    recorder = Recorder(writer)
    recorder.begin({"version": "bench"})
    writer.settled(60)

    def record() -> None:
        recorder.append(Kind.RESULTS_CHANGED, _SANDBOX, {"changes": [_CHANGE]}, limited=False)

    whole, own, began = time.process_time(), time.thread_time(), time.perf_counter()
    for _ in range(records):
        record()
    own = time.thread_time() - own
    writer.settled(600)
    whole, lasted = time.process_time() - whole, time.perf_counter() - began
    each = sorted(_timed(record, writer.settled) for _ in range(alone))
    writer.close(60)
    spent = time.process_time()
    verdict = verify(trail, [public_key((trail / PUBLIC).read_text())])
    spent = time.process_time() - spent
    assert verdict.ok
    size = sum(path.stat().st_size for path in trail.glob("segment-*"))
    return {
        "recordingMicroseconds": 1e6 * own / records,
        "writingMicroseconds": 1e6 * (whole - own) / records,
        "recordsPerSecond": records / lasted,
        "aloneMilliseconds": {"p50": 1e3 * statistics.median(each), "p99": 1e3 * each[int(0.99 * len(each))]},
        "bytes": size / verdict.lines,
        "verifyingMicroseconds": 1e6 * spent / verdict.lines,
    }


def page(found: dict[str, Any], machine: str) -> str:
    """For people."""
    alone = found["aloneMilliseconds"]
    return "\n".join(
        [
            machine,
            "",
            f"recording one (the event loop's CPU)     {found['recordingMicroseconds']:8.0f} us",
            f"writing one (the thread's CPU)           {found['writingMicroseconds']:8.0f} us",
            f"many at once                             {found['recordsPerSecond']:8.0f} /s on the disk",
            f"one alone, until the disk has it         {alone['p50']:8.1f} ms (p99 {alone['p99']:.1f} ms)",
            f"a line                                   {found['bytes']:8.0f} bytes",
            f"verifying one (CPU)                      {found['verifyingMicroseconds']:8.0f} us",
        ]
    )


def _timed(record: Callable[[], None], settled: Callable[[float], bool]) -> float:
    began = time.perf_counter()
    record()
    settled(60)
    return time.perf_counter() - began


def measured() -> dict[str, Any]:
    """On the disk of the working directory."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-trail-") as directory:
        return measure(Path(directory))
