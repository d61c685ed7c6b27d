"""The repository, by restic's own program, with the reasons that it gives.

Theory of operation. A `Repository` is used by one process at a time: `claimed` holds a lock of the kernel's on a file
beside it (flock), which ends with the process however that ends. So what has the lock knows that any lock of restic's
that a helper left behind is of one that is gone, and takes it away; locks of others, who use the repository by hand,
are theirs. That file also has which repository it was beside, by the digest of what the repository says of itself: as
long as that is the same, restic is not asked which it is, which would take a third of a second of CPU. It is no more
than a memory: what is in it counts for that very `config`, which nobody without the password can make another of.

The password is handed over by a pipe, which restic reads before anything else, and is in no file, argument or variable:
a file or link of the agent's could lead restic to those, and into the backup.
"""

import fcntl
import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from claude_sandbox.backup.bounds import Lengths, TooLongError, Watch
from claude_sandbox.backup.gate import Beside, OverdueError
from claude_sandbox.backup.progress import EVERY

NAME = "claude-sandbox-backups"
"""Of the directory with the repository, in what is mounted for it."""
HOST = "claude-sandbox-backup"
"""How the hosts that snapshots of ours are of begin, and the names of helpers, which their locks have."""
_UNFINISHED = "-tmp-"
"""In the name of a file that restic has not written whole."""
_PARTIAL = 3
"""restic's exit code where it could not read everything."""
_LONGEST = 600
"""Characters of the end of what restic said."""
_LOOK = 0.2
"""Seconds between two looks at what a program takes."""
_WAIT = 0.5
"""Seconds until it is tried again to have the repository."""
_LARGEST_CONFIG = 64 << 10
"""Bytes; restic's has some 155."""
_SAVING = {"GOMAXPROCS": "2", "RESTIC_PROGRESS_FPS": str(1 / EVERY)}
"""The processors that a helper may have: by itself restic counts the machine's, and is throttled. And how often it says
how far it is."""
_ROOM = 1 << 20
"""Bytes of what restic says that nobody has read yet: for as long as the list is made beside it, nobody does."""
_HEARD = 64 << 10
"""Bytes of the end of what it said so far, in which its last word of how far it is has to be."""
Heard = Callable[[str], None]
"""Is given the end of what a program has said so far, now and then."""

_REASONS = (
    ("wrong password or no key found", "WrongPassword"),
    ("host key verification failed", "TargetUnreachable"),
    ("permission denied (", "CredentialsRefused"),
    ("access denied", "CredentialsRefused"),
    ("accessdenied", "CredentialsRefused"),
    ("does not exist in our records", "CredentialsRefused"),
    ("signature we calculated does not match", "CredentialsRefused"),
    ("the specified bucket does not exist", "TargetNotWritable"),
    ("no space left on device", "TargetFull"),
    ("quota exceeded", "TargetFull"),
    ("quotaexceeded", "TargetFull"),
    ("insufficient storage", "TargetFull"),
    ("insufficientstorage", "TargetFull"),
    ("minimum free drive threshold", "TargetFull"),
    ("reduce your request rate", "RepositoryBusy"),
    ("slowdown", "RepositoryBusy"),
    ("repository is already locked", "RepositoryBusy"),
    ("permission denied", "TargetNotWritable"),
    ("read-only file system", "TargetNotWritable"),
    ("ciphertext verification failed", "RepositoryDamaged"),
    ("hash does not match", "RepositoryDamaged"),
    ("connection refused", "TargetUnreachable"),
    ("connection reset", "TargetUnreachable"),
    ("connection timed out", "TargetUnreachable"),
    ("connection closed by", "TargetUnreachable"),
    ("connection lost", "TargetUnreachable"),
    ("i/o timeout", "TargetUnreachable"),
    ("service unavailable", "TargetUnreachable"),
    ("bad gateway", "TargetUnreachable"),
    ("gateway timeout", "TargetUnreachable"),
    ("no route to host", "TargetUnreachable"),
    ("x509:", "TargetUnreachable"),
    ("unable to start the sftp session", "TargetUnreachable"),
    ("does not exist", "RepositoryDamaged"),
)


class RepositoryError(Exception):
    """What was asked of the repository was not done. `reason` is one word; the message is restic's own, shortened."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Repository:
    """In a directory. `cache`: where restic keeps what it need not read twice."""

    def __init__(self, directory: str, password: bytes, cache: str, program: str = "restic") -> None:
        self._password = password
        self._cache = cache
        self._program = program
        self.path = Path(directory, NAME)
        self.location = str(self.path)
        """As restic takes it."""
        self._options: tuple[str, ...] = ()
        self._environment: dict[str, str] = {}
        self._beside: int | None = None
        """The file beside it, while it is claimed."""

    @contextmanager
    def claimed(self, patience: float) -> Iterator[None]:
        """Alone with it. Raises RepositoryError where somebody else has it for `patience` seconds."""
        try:
            # Beside the repository, which need not be there yet.
            handle = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RepositoryError(reason_of(os.strerror(error.errno or 0)),
                                  f"the target can't be written to: {error.strerror}") from None  # fmt: skip
        try:
            until = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise RepositoryError(
                            "RepositoryBusy", f"another backup or restore has had the repository for {patience:.0f} s"
                        ) from None
                    time.sleep(_WAIT)
            self._beside = handle
            yield
        finally:
            self._beside = None
            # The lock goes with it; the file stays, since who waits for the lock has it open.
            os.close(handle)

    def identity(self) -> str | None:
        """restic's own identifier of it, which no other repository has; None where there is none.

        Raises RepositoryError where it is damaged, and where the password does not open one that is not known yet.
        """
        return self._remembered(self._digest()) or self._asked() if self.is_there() else None

    def _asked(self) -> str:
        digest, found = self._digest(), identity_in(self.run("cat", "--no-lock", "config"))
        if self._beside is not None:
            # Where there is no room for it, it is asked again.
            with suppress(OSError):
                os.ftruncate(self._beside, 0)
                os.pwrite(self._beside, json.dumps({"config": digest, "repository": found}).encode(), 0)
        return found

    def _digest(self) -> str:
        """Of what the repository says of itself: it is written once, encrypted, and no two are the same."""
        try:
            with (self.path / "config").open("rb") as file:
                return hashlib.sha256(file.read(_LARGEST_CONFIG)).hexdigest()
        except OSError:
            return ""  # restic says why.

    def _remembered(self, digest: str) -> str:
        """Which repository this is of; empty where nobody knows."""
        if self._beside is None:
            return ""
        try:
            told = json.loads(os.pread(self._beside, _LARGEST_CONFIG, 0))
            return str(told["repository"]) if digest and told["config"] == digest else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def is_there(self) -> bool:
        """Whether there is one. Raises RepositoryError where it is damaged."""
        if not (self.path / "config").exists():
            keys = self.path / "keys"
            if keys.is_dir() and any(keys.iterdir()):
                raise RepositoryError("RepositoryDamaged", "the repository has keys and no file `config` any more")
            return False
        return True

    def prepare(self, expected: str = "") -> str:
        """Have a repository, and no lock of a helper that is gone: its identity. Raises RepositoryError.

        `expected`: which one was there before. Another is left alone, and no new one is made in its place: where it
        was may be empty for a moment only, since a file system is not mounted, and then hide it, or it would be lost
        without a word.
        """
        found = self.identity()
        if expected and found is None:
            raise RepositoryError("RepositoryGone", f"the repository {expected} is not there any more")
        if expected and found != expected:
            raise RepositoryError("AnotherRepository", f"the repository there is {found}, and not {expected}")
        if found is None:
            found = self.make()
        self.unlock()
        return found

    def make(self) -> str:
        """A new one, where there is none: its identity. Raises RepositoryError."""
        self.run("init")
        return self._asked()

    def unlock(self) -> None:
        """Take away what helpers left that are gone. To be called while it is claimed."""
        for file in list((self.path / "locks").iterdir()):
            if _UNFINISHED in file.name:
                continue  # restic takes it for no lock, and somebody else may be about to give it its name
            try:
                lock = json.loads(self.run("cat", "--no-lock", "lock", file.name))
            except (RepositoryError, ValueError) as error:
                if isinstance(error, RepositoryError) and error.reason == "WrongPassword":
                    raise
                # One that was half written when its writer ended. Nobody else's is unreadable for long.
                lock = {"hostname": HOST}
            # Who has claimed the repository knows that no other helper is at work in it; a lock of a person's has
            # another host.
            if str(lock.get("hostname")).startswith(HOST):
                file.unlink(missing_ok=True)

    def snapshots(self, *tags: str) -> list[dict[str, Any]]:
        """Those with all of these tags, the oldest first."""
        listed = json.loads(self.run("snapshots", "--json", *(("--tag", ",".join(tags)) if tags else ())) or "[]")
        return sorted(listed or [], key=lambda one: str(one.get("time")))

    def backup(
        self, paths: Sequence[str], uid: str, tags: Sequence[str], excluded: Sequence[str], lengths: Lengths,
        beside: Beside | None = None, heard: Heard | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """What restic says at the end, and `partial`: whether there was what it could not read.

        `uid`: of the sandbox. `lengths`: what it reads at most. `beside`: what is done meanwhile.
        """
        # A host for each sandbox. restic reads what is not as in the last snapshot of the same host and paths, and the
        # paths of all sandboxes are the same: by one host it would read all whenever another came between.
        arguments = ["backup", "--json", "--host", f"{HOST}-{uid}", "--one-file-system"]
        arguments += ["--exclude-larger-than", str(lengths.longest)]
        once = partial(self._run, more=_SAVING, beside=beside, watch=lengths.watch, heard=heard)
        for tag in tags:
            arguments += ["--tag", tag]
        for one in excluded:
            arguments += ["--exclude", one]
        try:
            done = once([*arguments, "--", *paths], (0, _PARTIAL))
        except OverdueError:
            # It was ended, and its lock is left behind. What it was to wait for is there now.
            self.unlock()
            done = once([*arguments, "--", *paths], (0, _PARTIAL))
        except TooLongError as error:
            raise RepositoryError("BackupFailed", str(error)) from None
        summary = _last(done.stdout, "summary")
        if summary is None:
            raise RepositoryError("BackupFailed", f"restic said nothing of what it did: {said(done.stderr)}")
        return (
            summary
            | {"snapshot_id": self._whole(str(summary.get("snapshot_id", "")))}
            | {"partial": done.returncode == _PARTIAL}
        )

    def _whole(self, short: str) -> str:
        """The identifier of which restic tells eight digits: the whole of it is a digest, and no other snapshot's."""
        found = [one for one in self.snapshot_names() if short and one.startswith(short)]
        return found[0] if len(found) == 1 else short

    def snapshot_names(self) -> list[str]:
        """The identifiers of all. Each call of restic takes the password's derivation, a third of a second of CPU."""
        return [one.name for one in (self.path / "snapshots").iterdir() if _UNFINISHED not in one.name]

    def restore(
        self, snapshot: str, target: str, include: Sequence[str] = (), above: Collection[str] = (),
        watch: Watch | None = None,
    ) -> None:  # fmt: skip
        """Raises RepositoryError, also where a part could not be restored.

        `above`: directories that may be somebody else's, and needn't be what they were. `watch`: what ends it.
        """
        arguments = ["restore", snapshot, "--target", target]
        for one in include:
            arguments += ["--include", one]
        done = self._run(arguments, ok=(0, 1) if above else (0,), watch=watch)
        if done.returncode and not _only_above(done.stderr, above):
            raise RepositoryError(reason_of(done.stderr), said(done.stderr))

    def length(self, snapshot: str, paths: Sequence[str]) -> int:
        """Bytes of all files in these directories of a snapshot."""
        listed = self.run("ls", "--json", "--recursive", snapshot, *paths).splitlines()
        return sum(int(json.loads(line).get("size") or 0) for line in listed if '"size"' in line)

    def change_times(self, snapshot: str) -> dict[str, int]:
        """When what is in a snapshot was last changed as restic read it (ctime), in nanoseconds, by path.

        Names that are no UTF-8 are told otherwise than they are.
        """
        nodes = (json.loads(line) for line in self.run("ls", "--json", snapshot).splitlines() if '"ctime"' in line)
        return {str(node.get("path")): _nanoseconds(str(node["ctime"])) for node in nodes}

    def forget(self, tag: str, keep: Mapping[str, int]) -> list[str]:
        """Let go of old snapshots of a tag, and of what only these need: which there were."""
        # Not by hosts: an earlier sandbox of the name had another.
        arguments = ["forget", "--json", "--tag", tag, "--group-by", "", "--prune"]
        for what, count in keep.items():
            arguments += [f"--keep-{what}", str(count)]
        return forgotten(self.run(*arguments))

    def run(self, *arguments: str) -> str:
        """What restic says. Raises RepositoryError."""
        return self._run(list(arguments)).stdout

    def _run(
        self,
        arguments: Sequence[str],
        ok: Sequence[int] = (0,),
        within: float | None = None,
        more: Mapping[str, str] | None = None,
        beside: Beside | None = None,
        watch: Watch | None = None,
        heard: Heard | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """`within`: seconds after which it is ended, and what it said until then is why. `more`: variables.

        `beside`: what is done meanwhile. `watch`: what ends it.
        """
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": self._cache,
            "TMPDIR": self._cache,
            "RESTIC_REPOSITORY": self.location,
            "RESTIC_CACHE_DIR": self._cache,
            "RESTIC_PROGRESS_FPS": "0.01",
            **self._environment,
            **(more or {}),
        }
        reading, writing = os.pipe()
        # Nobody reads yet: what a pipe has no room for would be waited for, without an end.
        os.set_blocking(writing, False)
        written = os.write(writing, self._password)
        os.close(writing)
        environment["RESTIC_PASSWORD_FILE"] = f"/dev/fd/{reading}"
        try:
            if written < len(self._password):
                raise RepositoryError("WrongPassword", f"it has {len(self._password)} bytes, which is too long")
            done = _finished(
                [self._program, *self._options, *arguments], environment, reading, within, beside, watch, heard
            )
        except subprocess.TimeoutExpired as error:
            text = (error.stderr or b"").decode(errors="replace") if isinstance(error.stderr, bytes) else ""
            reason = reason_of(text)
            raise RepositoryError(
                "TargetUnreachable" if reason == "BackupFailed" else reason,
                said(text) or f"the target did not answer within {within:.0f} seconds",
            ) from None
        finally:
            os.close(reading)
        if done.returncode not in ok:
            why = said(done.stderr) or f"restic ended with code {done.returncode}"
            raise RepositoryError(reason_of(done.stderr), why)
        return done


def _finished(
    command: list[str], environment: Mapping[str, str], handed: int, within: float | None, beside: Beside | None,
    watch: Watch | None, heard: Heard | None,
) -> "subprocess.CompletedProcess[str]":  # fmt: skip
    """What it said. Raises RepositoryError, TimeoutExpired and what `beside` does, with the program ended."""

    def start() -> "subprocess.Popen[str]":
        try:
            return subprocess.Popen(
                command, env=environment, pass_fds=(handed,), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, errors="replace", pipesize=_ROOM,
            )  # fmt: skip
        except OSError as error:
            raise RepositoryError("BackupFailed", f"restic can't be run: {error.strerror}") from None

    with beside.run(start) if beside else start() as running:
        try:
            stdout, stderr = running.communicate(timeout=within) if watch is None else _watched(running, watch, heard)
        except BaseException:
            running.kill()
            raise
    return subprocess.CompletedProcess(command, running.returncode, stdout, stderr)


def _watched(running: "subprocess.Popen[str]", watch: Watch, heard: Heard | None) -> tuple[str, str]:
    """What it says. Raises RepositoryError where it has to end."""
    while True:
        try:
            return running.communicate(timeout=_LOOK)
        except subprocess.TimeoutExpired as error:
            if why := watch(running.pid):
                raise RepositoryError("BackupFailed", why) from None
            if heard is not None and isinstance(error.stdout, bytes):
                heard(error.stdout[-_HEARD:].decode(errors="replace"))


def forgotten(output: str) -> list[str]:
    """Which snapshots went, the oldest first, by what restic says of that. Raises RepositoryError."""
    # In one line of JSON, behind which is what pruning says; there is none where no snapshot has the tag.
    groups = next((line for line in output.splitlines() if line.startswith("[")), "[]")
    try:
        gone = [(str(one.get("time")), str(one["id"])) for group in json.loads(groups) for one in group["remove"] or ()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RepositoryError("BackupFailed", "restic does not say which snapshots went") from None
    return [snapshot for _, snapshot in sorted(gone)]


def _nanoseconds(told: str) -> int:
    """Of a time as Go writes it, since 1970."""
    found = re.fullmatch(r"([^.Z+]*T[^.Z+-]*)(?:\.(\d{1,9}))?(.*)", told)
    if found is None:
        return 0
    moment, fraction, zone = found.groups()
    seconds = datetime.fromisoformat(moment + zone.replace("Z", "+00:00")).timestamp()
    return int(seconds) * 10**9 + int((fraction or "").ljust(9, "0"))


def _only_above(stderr: str, above: Collection[str]) -> bool:
    """Whether restic failed at nothing but these directories' own times and modes."""
    lines = [line for line in stderr.splitlines() if line.startswith("ignoring error for ")]
    forgiven = sum(any(line.startswith(f"ignoring error for {one}: ") for one in above) for line in lines)
    return 0 < forgiven == len(lines) and f"There were {forgiven} errors" in stderr


def identity_in(config: str) -> str:
    """Of what restic says of a repository's configuration. Raises RepositoryError."""
    try:
        return str(json.loads(config)["id"])
    except (ValueError, KeyError, TypeError):
        raise RepositoryError("RepositoryDamaged", "the repository's configuration can't be read") from None


def reason_of(text: str) -> str:
    """One word for what a program says of its failure."""
    lowered = text.lower()
    return next((reason for sign, reason in _REASONS if sign in lowered), "BackupFailed")


def said(stderr: str) -> str:
    """A program's last lines, without what a terminal would obey: names of files are in them."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    text = "; ".join(lines[-4:])
    return "".join(one if one.isprintable() else "?" for one in text)[-_LONGEST:]


def _last(stdout: str, kind: str) -> dict[str, Any] | None:
    for line in reversed(stdout.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and found.get("message_type") == kind:
            return found
    return None
