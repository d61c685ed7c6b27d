"""Where accounts are kept: a document that is swapped only if it is still the one that was read."""

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from claude_sandbox.gateway.budget.ledger import Account, dumps, loads


class StoreError(Exception):
    """The account can't be read or written; the message says which and why."""


class Store(Protocol):
    """Accounts by the sandbox's UID. `blocks`: it waits for a disk or a network, so it is called from a thread."""

    blocks: bool

    def load(self, sandbox: str) -> tuple[Account, int]:
        """The account and its version; a new one has 0. Raises StoreError."""

    def swap(self, sandbox: str, version: int, account: Account) -> bool:
        """Put the account in the place of this version; False, and nothing is done, where it is another by now.
        Once it is True the account survives the end of this process and of the machine. Raises StoreError."""


class MemoryStore:
    """For a gateway whose counts need not survive it."""

    blocks = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[str, tuple[Account, int]] = {}

    def load(self, sandbox: str) -> tuple[Account, int]:
        """See Store."""
        with self._lock:
            return self._accounts.get(sandbox, (Account(), 0))

    def swap(self, sandbox: str, version: int, account: Account) -> bool:
        """See Store."""
        with self._lock:
            if self._accounts.get(sandbox, (None, 0))[1] != version:
                return False
            self._accounts[sandbox] = (account, version + 1)
            return True


class FileStore:
    """One file for each account in a directory that gateways on one machine share.

    A new version is written beside the old one, brought to the disk, and renamed over it: at whatever byte a process
    is killed there is one whole version. A lock of the kernel's, gone with who holds it, makes two writers take turns.
    """

    blocks = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, sandbox: str) -> tuple[Account, int]:
        """See Store."""
        path = self._path(sandbox)
        try:
            document = json.loads(path.read_text())
            return loads(json.dumps(document["account"])), int(document["version"])
        except FileNotFoundError:
            return Account(), 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the account in {path} can't be read: {_why(error)}") from error

    def swap(self, sandbox: str, version: int, account: Account) -> bool:
        """See Store."""
        try:
            with self._locked(sandbox):
                if self.load(sandbox)[1] != version:
                    return False
                self._write(self._path(sandbox), f'{{"version":{version + 1},"account":{dumps(account)}}}\n')
                return True
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
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _why(error: BaseException) -> str:
    return error.strerror or "" if isinstance(error, OSError) else "it is damaged"
