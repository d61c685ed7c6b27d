"""The cluster's long-running programs: started once, found again, ended for certain.

Two things tell that a process belongs to a cluster: a record (its id and start time, and what it was
started with), and a variable in its environment, which its descendants inherit. The record is quick to
look up; the variable finds what a crash left without a record.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import Layout, write_private
from claude_sandbox.localcluster.processes import Process, spawn

MARK = "CLAUDE_SANDBOX_CLUSTER"
# Seconds that a program is given to end by itself.
GRACE = 10.0
# Bytes of a log beyond which it is put aside when its component starts.
_LOG_LIMIT = 32 * 2**20


@dataclass(frozen=True)
class Record:
    """A started component: its process, and a digest of its arguments, environment and input files."""

    process: Process
    fingerprint: str


def start(
    layout: Layout,
    name: str,
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    inputs: Sequence[Path] = (),
) -> Process:
    """Make the component run as said: leave it alone, start it, or, where it was said otherwise before, restart it.

    `argv[0]` is an absolute path. `environment` comes on top of PATH and HOME; `inputs` are files that the
    program reads at its start only. Its output is appended to `layout.logs/NAME.log`.
    Raises LocalClusterError where the program can't be executed.
    """
    own = {**_base_environment(), **(environment or {}), MARK: str(layout.root)}
    fingerprint = _fingerprint(argv, own, inputs)
    record = load(layout, name)
    if record is not None and record.process.alive():
        if record.fingerprint == fingerprint:
            return record.process
        stop(layout, name)
    # While nothing has it open: what runs would go on writing to the file that was put aside.
    _limit(log_file(layout, name))
    process = spawn(tuple(argv), log_file(layout, name), own)
    document = {"process": vars(process), "fingerprint": fingerprint}
    # A crash before this leaves a process without a record, which `sweep` finds by its mark.
    write_private(record_file(layout, name), json.dumps(document))
    return process


def stop(layout: Layout, name: str, grace: float = GRACE) -> None:
    """End the component, politely first; nothing happens where it doesn't run."""
    record = load(layout, name)
    if record is not None:
        record.process.stop(grace)
    record_file(layout, name).unlink(missing_ok=True)


def kill(layout: Layout, name: str) -> None:
    """End the component as a crash would. Raises LocalClusterError where it doesn't run."""
    process = running(layout, name)
    if process is None:
        raise LocalClusterError(f"{name} does not run.", "See `claude-sandbox cluster status`.")
    process.kill()


def running(layout: Layout, name: str) -> Process | None:
    """The component's process, or None where it doesn't run."""
    record = load(layout, name)
    return record.process if record is not None and record.process.alive() else None


def load(layout: Layout, name: str) -> Record | None:
    """What was recorded when the component was started, or None."""
    try:
        document = json.loads(record_file(layout, name).read_text())
        return Record(Process(**document["process"]), str(document["fingerprint"]))
    # Also one of another version of this program: what it started carries the mark all the same.
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def recorded(layout: Layout) -> tuple[str, ...]:
    """The names of the components that were started and not stopped since."""
    return tuple(sorted(file.stem for file in layout.run.glob("[!.]*.json")))


def sweep(layout: Layout, grace: float = GRACE) -> int:
    """End every process that carries the cluster's mark; returns how many there were.

    Needs no record, so it finds what was started in the instant before a crash, and descendants.
    """
    ended: set[Process] = set()
    deadline = time.monotonic() + grace
    # Again and again, because a process may start another while it is being looked for.
    while found := set(marked(layout)):
        late = time.monotonic() > deadline
        for process in found if late else found - ended:
            process.send(signal.SIGKILL if late else signal.SIGTERM)
        ended |= found
        for process in found:
            process.wait(max(0.1, min(0.5, deadline - time.monotonic())))
        if time.monotonic() > deadline + 2 * GRACE:
            pids = ", ".join(str(process.pid) for process in sorted(found, key=lambda one: one.pid))
            raise LocalClusterError(
                f"Processes of the cluster don't end after SIGKILL: {pids}.",
                "They hang in the kernel (see /proc/PID/stack); try again, or restart the machine.",
            )
    return len(ended)


def marked(layout: Layout) -> Iterator[Process]:
    """The running processes that carry the cluster's mark."""
    wanted = f"{MARK}={layout.root}".encode()
    ourselves = {os.getpid(), os.getppid()}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in ourselves:
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            # Ended meanwhile, or another user's.
            continue
        if wanted in variables and (process := Process.of(int(entry.name))) is not None:
            yield process


def log_file(layout: Layout, name: str) -> Path:
    """Where the component's output goes."""
    return layout.logs / f"{name}.log"


def record_file(layout: Layout, name: str) -> Path:
    """Where the component's record is."""
    return layout.run / f"{name}.json"


def _limit(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


def _base_environment() -> dict[str, str]:
    # Not the caller's whole environment: what is in it (keys, proxies) is no business of the components.
    fallback = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": os.environ.get("PATH", fallback), "HOME": str(Path.home())}


def _fingerprint(argv: Sequence[str], environment: Mapping[str, str], inputs: Sequence[Path]) -> str:
    # PATH may differ from one shell to the next without any meaning for what runs.
    meant = {name: value for name, value in environment.items() if name not in ("PATH", "HOME")}
    digest = hashlib.sha256(json.dumps([list(argv), meant], sort_keys=True).encode())
    for path in inputs:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
