"""Verifies a trail as it lies there, with the public key alone, and against what was remembered of it elsewhere."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_sandbox.trail.chain import vouched
from claude_sandbox.trail.checker import Checker, Finding, Retired, checkpoint_line
from claude_sandbox.trail.keys import is_signed
from claude_sandbox.trail.records import Kind, Line, LineError, read
from claude_sandbox.trail.segments import present

REMEMBERED = "remembered"
"""What findings about that are said to be in."""
_MAX_LINE = 64 * 1024


@dataclass
class Remembered:
    """Lines of the trail that were kept elsewhere: exported lines, or one checkpoint."""

    lines: dict[int, set[bytes]] = field(default_factory=dict)
    logs: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def take(self, raw: bytes, number: int, keys: Collection[str]) -> None:
        """A line of a file, which may be anything; also one that a log's pipeline put something before."""
        # Collectors of logs put a time or a name before each line.
        start = raw.find(b'{"trail":')
        if start < 0:
            return
        raw = raw[start:].rstrip(b"\r\n")
        try:
            line = read(raw)
        except LineError as error:
            self.findings.append(Finding(REMEMBERED, number, str(error)))
            return
        # A set: two copies that differ can't both be what was written, and neither is left out.
        self.lines.setdefault(line.seq, set()).add(raw)
        if line.kind == Kind.CHECKPOINT:
            if _is_genuine(line, raw, keys):
                self.logs.add(str(line.data["log"]))
            else:
                self.findings.append(Finding(REMEMBERED, number, f"checkpoint {line.seq} is not signed by the key"))


@dataclass
class Verdict:
    """What was found. `ok`: nothing is wrong with what is vouched for."""

    log: str
    segments: int
    lines: int
    checkpoints: int
    last: int
    """The number of the last line that is vouched for."""
    last_hash: str
    unfinished: int
    """Bytes after it: being written at this moment, or left by a crash. Nothing vouches for them."""
    retired: Retired | None
    remembered: int
    """Remembered lines that are there."""
    remembered_retired: int
    """Remembered lines that retention has removed since."""
    findings: list[Finding]
    more_findings: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings

    def document(self) -> dict[str, Any]:
        """As JSON."""
        retired = self.retired
        return {
            "ok": self.ok,
            "log": self.log,
            "segments": self.segments,
            "lines": self.lines,
            "checkpoints": self.checkpoints,
            "lastSeq": self.last,
            "lastHash": self.last_hash,
            "unfinishedBytes": self.unfinished,
            "retiredThroughSeq": retired.seq if retired is not None else 0,
            "remembered": self.remembered,
            "rememberedRetired": self.remembered_retired,
            "findings": [{"segment": one.segment, "line": one.line, "what": one.what} for one in self.findings],
            "moreFindings": self.more_findings,
        }


def verify(directory: Path, keys: Collection[str], remembered: Remembered | None = None) -> Verdict:
    """Read all of it. Raises OSError."""
    wanted = remembered or Remembered()
    checker, segments, there, tail = Checker(keys), present(directory), set[int](), 0
    logs = set[str]()
    differ: list[Finding] = []
    for number, path in segments:
        checker.segment(path.name, number)
        tail = 0
        for raw, whole in _lines(path):
            if not whole:
                tail = len(raw)
                break
            line = checker.take(raw)
            if line is not None and line.seq in wanted.lines:
                there.add(line.seq)
                if wanted.lines[line.seq] != {raw}:
                    differ.append(Finding(path.name, checker.seen_lines, f"seq {line.seq} is not what was remembered"))
        logs.add(checker.end.log)
        # Only the last one can be in the midst of a write.
        if tail and path != segments[-1][1]:
            checker.findings.append(Finding(path.name, 0, f"{tail} bytes after its last line"))
    findings = [*checker.findings, *wanted.findings, *differ, *_beginning(checker, bool(segments))]
    gone, lost = 0, []
    for seq in sorted(wanted.lines.keys() - there):
        if checker.retired is not None and seq <= checker.retired.seq:
            gone += 1
        else:
            lost.append(seq)
    if lost:
        findings.append(Finding(REMEMBERED, 0, _rolled_back(lost, checker.sound.seq)))
    if wanted.logs - logs:
        findings.append(Finding(REMEMBERED, 0, "what was remembered is of another trail: this one took its place"))
    return Verdict(
        log=checker.end.log,
        segments=len(segments),
        lines=checker.lines,
        checkpoints=checker.checkpoints,
        last=checker.sound.seq,
        last_hash=checker.sound.hash,
        unfinished=checker.unvouched_bytes + tail,
        retired=checker.retired,
        remembered=len(there),
        remembered_retired=gone,
        findings=findings,
        more_findings=checker.more_findings,
    )


def _rolled_back(lost: list[int], last: int) -> str:
    some = ", ".join(map(str, lost[:5])) + (", …" if len(lost) > 5 else "")
    if lost[0] > last:
        return f"it ends at seq {last}, but seq {some} were remembered: it was cut off or rolled back"
    return f"seq {some} were remembered and are not there"


def _beginning(checker: Checker, any_segment: bool) -> Iterable[Finding]:
    """That what is missing before the first segment was removed by retention."""
    if not any_segment:
        yield Finding("", 0, "there is no segment of a trail")
    first, retired = checker.first, checker.retired
    if first is None:
        return
    if retired is None or retired.segment < first.segment or (retired.segment == first.segment and retired != first):
        yield Finding("", 0, f"{first.seq} lines before the first segment are missing, and no statement covers them")


def _is_genuine(line: Line, raw: bytes, keys: Collection[str]) -> bool:
    log, segment, key, signature = (line.data.get(name) for name in ("log", "segment", "key", "signature"))
    data = {"log": log, "segment": segment, "key": key, "signature": signature}
    if raw != checkpoint_line(line, data) or not isinstance(segment, int):
        return False
    return is_signed(str(key), str(signature), vouched(str(log), segment, line.seq, line.time, line.prev), keys)


def _lines(path: Path) -> Iterable[tuple[bytes, bool]]:
    """Lines without their ends; the last may have none."""
    with path.open("rb") as file:
        # In pieces of a line at most: what lies there may be anybody's, and without an end.
        while raw := file.readline(_MAX_LINE):
            if raw.endswith(b"\n"):
                yield raw[:-1], True
            elif len(raw) < _MAX_LINE:
                yield raw, False
            else:
                yield raw, True
