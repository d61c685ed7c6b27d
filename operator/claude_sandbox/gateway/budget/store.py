"""Where accounts are kept: a document that is swapped only if it is still the one that was read."""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from claude_sandbox.gateway.budget.ledger import Account, buried, dumps, loads


class StoreError(Exception):
    """The account can't be read or written; the message says which and why."""


class Store(Protocol):
    """Accounts by the sandbox's UID. A version is opaque; that of an account which is not there yet is `NEW`.

    `pace`: seconds that lie between two writes of one account by one gateway, so that others get their turn.
    """

    pace: float

    async def load(self, sandbox: str) -> tuple[Account, str]:
        """The account and its version, not older than this call. Raises StoreError."""

    async def swap(self, sandbox: str, version: str, account: Account) -> str | None:
        """Put the account in the place of this version; the new version, or None where it is another by now.

        What was told to be written survives the end of this process and of the machine. Raises StoreError; then it may
        have been written, or may yet be, as long as this version is the current one.
        """


NEW = ""


class MemoryStore:
    """For a gateway whose counts need not survive it."""

    pace = 0.0

    def __init__(self) -> None:
        self._accounts: dict[str, tuple[Account, str]] = {}

    async def load(self, sandbox: str) -> tuple[Account, str]:
        """See Store."""
        return self._accounts.get(sandbox, (Account(), NEW))

    async def swap(self, sandbox: str, version: str, account: Account) -> str | None:
        """See Store."""
        if (await self.load(sandbox))[1] != version:
            return None
        following = str(int(version or 0) + 1)
        self._accounts[sandbox] = (account, following)
        return following


class FileStore:
    """One file for each account in a directory that gateways on one machine share.

    A new version is written beside the old one, brought to the disk, and renamed over it: at whatever byte a process
    is killed there is one whole version. A lock of the kernel's, gone with who holds it, makes two writers take turns.
    Another one, on the directory, is held by each gateway while it lives: one that begins and has it to itself knows
    that whoever reserved something is dead.
    """

    pace = 0.0

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Kept open: the lock goes with it.
        self._presence: int | None = None

    async def begin(self) -> int:
        """Be there, and count as spent what dead gateways left reserved, where no other lives; how many accounts that
        changed. Raises StoreError; then nobody knows that this gateway is there.

        To be called before anything is reserved, and once.
        """
        return await asyncio.to_thread(self._begin)

    async def load(self, sandbox: str) -> tuple[Account, str]:
        """See Store."""
        return await asyncio.to_thread(self._load, sandbox)

    async def swap(self, sandbox: str, version: str, account: Account) -> str | None:
        """See Store."""
        return await asyncio.to_thread(self._swap, sandbox, version, account)

    def _begin(self) -> int:
        try:
            self._presence = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            count = 0
            try:
                fcntl.flock(self._presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                count = sum(self._bury(path.stem) for path in sorted(self._directory.glob("*.json")))
            # Waits for one that is looking for the dead right now. To go from one lock to the other is not atomic
            # (flock(2)), and need not be: nothing is reserved here yet.
            fcntl.flock(self._presence, fcntl.LOCK_SH)
        except OSError as error:
            raise StoreError(f"the accounts in {self._directory} can't be had: {_why(error)}") from error
        return count

    def _bury(self, sandbox: str) -> bool:
        try:
            account, version = self._load(sandbox)
        except StoreError:
            # Who needs it is told then.
            return False
        after = buried(account)
        return after != account and self._swap(sandbox, version, after) is not None

    def _load(self, sandbox: str) -> tuple[Account, str]:
        path = self._path(sandbox)
        try:
            document = json.loads(path.read_text())
            return loads(json.dumps(document["account"])), str(int(document["version"]))
        except FileNotFoundError:
            return Account(), NEW
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the account in {path} can't be read: {_why(error)}") from error

    def _swap(self, sandbox: str, version: str, account: Account) -> str | None:
        try:
            with self._locked(sandbox):
                if self._load(sandbox)[1] != version:
                    return None
                following = int(version or 0) + 1
                self._write(self._path(sandbox), f'{{"version":{following},"account":{dumps(account)}}}\n')
                return str(following)
        except OSError as error:
            raise StoreError(f"the account in {self._path(sandbox)} can't be written: {_why(error)}") from error

    def _path(self, sandbox: str) -> Path:
        return self._directory / f"{sandbox}.json"

    def _write(self, path: Path, text: str) -> None:
        # Under the lock there is one writer: what an earlier one left half written is written over.
        partial = path.with_suffix(".partial")
        with partial.open("w") as file:
            file.write(text)
            file.flush()
            # The content before the name: after a power cut a renamed file may else be empty.
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self, sandbox: str) -> Iterator[None]:
        with (self._directory / f"{sandbox}.lock").open("w") as file:
            # On a file beside the account: a lock on the account itself would be on what the next rename puts out of
            # the way.
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _why(error: BaseException) -> str:
    return error.strerror or "" if isinstance(error, OSError) else "it is damaged"
