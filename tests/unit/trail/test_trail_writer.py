"""Nobody waits for the disk, and what could not be written is said."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from trails import ALICE, START, healed

from claude_sandbox.trail import limits
from claude_sandbox.trail.exports import Export
from claude_sandbox.trail.keys import signer
from claude_sandbox.trail.limits import Limits
from claude_sandbox.trail.records import MAX_LINE, Kind, Line, Record, read
from claude_sandbox.trail.segments import lines, present
from claude_sandbox.trail.store import Keeping, Store
from claude_sandbox.trail.verification import verify
from claude_sandbox.trail.writer import Writer


def until(condition: Callable[[], object], what: str) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"never came: {what}")


def written(directory: Path) -> list[Line]:
    return [read(line) for _, path in present(directory) for line in lines(path.read_bytes())]


def of(directory: Path, kind: str) -> list[Line]:
    return [one for one in written(directory) if one.kind == kind]


class Faulty(Store):
    """A disk that is full while it is said to be."""

    full = False

    def commit(self, records):  # type: ignore[no-untyped-def]
        if self.full:
            self.close()
            raise OSError(28, "No space left on device")
        return super().commit(records)

    def open(self):  # type: ignore[no-untyped-def]
        if self.full:
            raise OSError(28, "No space left on device")
        return super().open()


def _store(directory: Path, kind: type[Store] = Store) -> Store:
    return kind(directory / "trail", lambda: signer(directory / "key.pem"))


def test_what_is_put_is_written_in_order_and_signed(tmp_path: Path) -> None:
    store = _store(tmp_path)
    writer = Writer(store)
    writer.start()
    for number in range(50):
        assert writer.put(healed(number), limited=False)
    assert writer.settled(30)
    assert writer.close()
    messages = [one.data["message"] for one in of(tmp_path / "trail", "Healed")]
    assert messages == [f"heal {number}" for number in range(50)]
    verdict = verify(tmp_path / "trail", [store.public_key])
    assert verdict.ok
    assert verdict.unfinished == 0
    assert writer.told.records["Healed"] == 50


def test_what_comes_together_is_committed_together(tmp_path: Path) -> None:
    writer = Writer(_store(tmp_path))
    for number in range(200):
        writer.put(healed(number), limited=False)
    writer.start()
    writer.close(30)
    assert len(of(tmp_path / "trail", "Checkpoint")) <= 3


def test_a_full_disk_delays_records_and_is_said(tmp_path: Path) -> None:
    store = _store(tmp_path, Faulty)
    writer = Writer(store, capacity=5)
    writer.start()
    writer.put(healed(0))
    assert writer.settled(30)
    store.full = True  # type: ignore[attr-defined]
    writer.put(healed(1))
    until(lambda: writer.told.problem, "the problem")
    assert writer.told.problem == "No space left on device"
    assert not writer.settled(30)
    put = [writer.put(healed(number)) for number in range(2, 12)]
    assert put.count(False) >= 4
    store.full = False  # type: ignore[attr-defined]
    until(lambda: not writer.told.problem, "that it is over")
    assert writer.close(30)
    [gap] = of(tmp_path / "trail", "Gap")
    assert gap.data["why"] == "No space left on device"
    assert gap.data["leftOut"] == {"Healed": put.count(False)}
    kept = [one.data["message"] for one in of(tmp_path / "trail", "Healed")]
    assert kept[:2] == ["heal 0", "heal 1"]
    assert len(kept) == 12 - put.count(False)
    assert verify(tmp_path / "trail", [store.public_key]).ok


FULL = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2].split(":")
from trails import begun
from claude_sandbox.trail.store import Keeping
disk = Path(sys.argv[1])
trail = begun(disk, Keeping(segment_bytes=20_000, keep=None))
filler, failed = disk / "filler", 0
for number in range(300):
    if number == 100:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1000))
            except OSError:
                pass
    try:
        if not trail.store.is_open:
            trail.copied += trail.store.open()
        trail.heal(number)
    except OSError as error:
        assert error.errno == 28, error
        failed += 1
        if failed == 20:
            filler.unlink()
verdict = trail.verdict()
assert verdict.ok, verdict.findings
assert failed == 20, failed
assert sum(b'"kind":"Healed"' in line for line in trail.copied) == 280
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="a file system of its own needs unshare")
def test_a_file_system_that_is_really_full_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    paths = ":".join(path for path in sys.path if path)
    mount = 'mount -t tmpfs -o size=400k none "$1" && exec "$3" -c "$4" "$1" "$2"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(disk), paths,
               sys.executable, FULL]  # fmt: skip
    if subprocess.run([*command[:5], "true"], check=False, capture_output=True).returncode:
        command = ["unshare", *command[3:]]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_of_one_object_there_are_only_so_many_and_it_is_said_how_many_more(tmp_path: Path) -> None:
    writer = Writer(_store(tmp_path))
    writer.start()
    taken = sum(writer.put(healed(number)) for number in range(1000))
    bob = replace(ALICE, name="bob")
    assert writer.put(Record(Kind.HEALED, START, bob))
    assert writer.put(Record(Kind.STARTED, START))
    assert writer.close(30)
    assert limits.OBJECT_BURST <= taken < 200
    [left] = of(tmp_path / "trail", "LeftOut")
    assert left.data["leftOut"] == {"Healed": 1000 - taken}
    assert left.about == ALICE
    assert writer.told.left_out["rate"] == 1000 - taken


def test_a_new_object_of_the_same_name_has_no_new_burst_and_a_namespace_has_a_bound() -> None:
    found = Limits()
    taken = sum(found.takes("Healed", replace(ALICE, uid=str(n)), 0.0, START) for n in range(500))
    assert taken == limits.OBJECT_BURST
    many = sum(found.takes("Healed", replace(ALICE, name=f"s{n}"), 0.0, START) for n in range(5000))
    assert many == limits.NAMESPACE_BURST - limits.OBJECT_BURST
    assert found.takes("Healed", replace(ALICE, namespace="other"), 0.0, START)
    assert found.takes("Healed", ALICE, 60.0, START)
    # What an agent can cause keeps nothing else out.
    assert found.takes("Incident", ALICE, 0.0, START)
    told = found.due(limits.TOLD_EVERY)
    assert len(told) <= limits.REMEMBERED + 1
    assert sum(one.kinds.total() for one in told) == 500 - taken + 5000 - many
    assert found.due(limits.TOLD_EVERY) == []


def test_a_record_that_is_too_long_says_so_and_the_trail_goes_on(tmp_path: Path) -> None:
    writer = Writer(_store(tmp_path))
    writer.start()
    writer.put(Record(Kind.HEALED, START, ALICE, {"message": "x" * MAX_LINE}))
    writer.close(30)
    [line] = of(tmp_path / "trail", "Healed")
    assert line.data["tooLong"] > MAX_LINE


@pytest.mark.parametrize("data", [{"a": float("nan")}, {"a": {1, 2}}, {("a", "b"): 1}], ids=str)
def test_a_record_that_is_no_json_says_so_and_the_trail_goes_on(tmp_path: Path, data: dict[Any, Any]) -> None:
    writer = Writer(_store(tmp_path))
    writer.start()
    writer.put(Record(Kind.HEALED, START, ALICE, data))
    writer.put(healed(2))
    assert writer.settled(30)
    writer.close(30)
    assert [one.data for one in of(tmp_path / "trail", "Healed")] == [{"unwritable": True}, {"message": "heal 2"}]


def test_a_key_of_another_kind_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    writer = Writer(_store(tmp_path))
    writer.start()
    writer.put(healed(1))
    until(lambda: writer.told.problem, "the problem")
    assert "no private key" in writer.told.problem
    (tmp_path / "key.pem").unlink()
    until(lambda: writer.told.records["Healed"], "that it is written")
    assert writer.close(30)


class Hangs:
    """An export whose other end takes nothing."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.goes = threading.Event()

    def send(self, lines: list[bytes]) -> None:
        self.goes.wait(60)
        self.sent += lines

    def close(self) -> None:
        pass


def test_a_copy_that_hangs_keeps_nobody_and_gets_what_the_disk_has(tmp_path: Path) -> None:
    store, sink, missing = _store(tmp_path), Hangs(), []
    writer = Writer(store, [Export("hangs", sink, missing.append)])
    writer.start()
    for number in range(20):
        writer.put(healed(number))
        assert writer.settled(30)
    sink.goes.set()
    assert writer.close(30)
    assert missing == []
    data = b"".join(path.read_bytes() for _, path in present(tmp_path / "trail"))
    assert sink.sent == data.splitlines()


def test_a_second_writer_waits_until_the_first_has_let_go(tmp_path: Path) -> None:
    first, second = Writer(_store(tmp_path)), Writer(_store(tmp_path))
    first.start()
    first.put(healed(1))
    assert first.settled(30)
    second.start()
    second.put(healed(2))
    until(lambda: "another process" in second.told.problem, "that it waits")
    assert first.close(30)
    until(lambda: second.told.records["Healed"], "its turn")
    assert second.close(30)
    assert [one.data["message"] for one in of(tmp_path / "trail", "Healed")] == ["heal 1", "heal 2"]
    assert of(tmp_path / "trail", "Gap") == []


def test_the_time_of_a_record_is_when_it_happened(tmp_path: Path) -> None:
    store = Store(tmp_path / "trail", lambda: signer(tmp_path / "key.pem"), Keeping(segment_age=timedelta(days=3650)))
    writer = Writer(store)
    writer.start()
    writer.put(healed(1))
    writer.close(30)
    assert datetime.fromisoformat(of(tmp_path / "trail", "Healed")[0].time) == START
