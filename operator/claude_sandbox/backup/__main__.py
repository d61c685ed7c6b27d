"""`python -m claude_sandbox.backup -`, with the order as a line on standard input; or `… DIRECTORY`, with it in there.

The order is JSON (`Order`), beside it the password and what a server elsewhere lets in: on a second and a third line,
in base64, or in files that are removed before anything else is done. `python -m claude_sandbox.backup hand-over
PASSWORD CREDENTIALS TO` copies Secrets' values to where the second form takes them from: what is mounted as a Secret
stays for as long as its container does.

What is read from standard input is acknowledged by the line TOLD.

The last line of the output is what came of it, as JSON; in a pod it is the container's last message too.
"""

import base64
import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from claude_sandbox.backup import LARGEST_RESULT, REPOSITORY, RESTORED, SCRATCH, SOURCE, TOLD, VERSION
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.order import Order
from claude_sandbox.backup.restic import Repository, RepositoryError
from claude_sandbox.backup.servers import CREDENTIALS

_LARGEST = 8 << 20
"""Bytes of an order with the secrets beside it."""
_YOUNG = 100_000
"""Objects after which there may be some that lead to themselves."""
_CACHE = "/tmp/cache"  # noqa: S108 - a file system in memory, which nobody else has
_LAST_MESSAGE = Path("/dev/termination-log")
_ORDER, _PASSWORD = "order.json", "password"


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 also where the repository refused, which the result says."""
    if arguments[0] == "hand-over":
        _hand_over(*map(Path, arguments[1:4]))
        return 0
    if arguments[1:] and arguments[1] == "own":
        _own(int(arguments[2]), int(arguments[3]))
    collect_rarely()
    try:
        told = _from_input() if arguments[0] == "-" else _from(Path(arguments[0]), Path(arguments[1]))
    except EOFError:
        # Who made this ended before it had told what to do: nothing was done, and it is begun anew.
        return 1
    _tell(_came_of(*told) | {"version": VERSION})
    return 0


def _came_of(text: str, password: bytes, credentials: dict[str, bytes]) -> dict[str, Any]:
    """What came of an order."""
    try:
        order = Order.read(json.loads(text))
        Path(_CACHE).mkdir(exist_ok=True)
        repository = _repository(order, credentials, password)
    except (KeyError, TypeError, ValueError):
        return {"outcome": "Failed", "reason": "BackupFailed", "message": "the order is none of this version's"}
    try:
        return carry_out(order, repository) | {"outcome": "Done"}
    except RepositoryError as error:
        return {"outcome": "Failed", "reason": error.reason, "message": str(error)}
    except OSError as error:
        why = f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
    except Exception as error:  # noqa: BLE001 - what is raised depends on what somebody wrote into the repository
        # Without a word it would be begun anew, to end so again.
        why = f"what the snapshot has beside its files can't be read ({type(error).__name__})"
    return {"outcome": "Failed", "reason": "BackupFailed", "message": why}


def _repository(order: Order, credentials: dict[str, bytes], password: bytes) -> Repository:
    if order.server is None:
        return Repository(REPOSITORY, password, _CACHE)
    from claude_sandbox.backup.elsewhere import Elsewhere

    return Elsewhere(order.server, credentials, password, _CACHE)


def collect_rarely() -> None:
    """Of all the entries that come and go none leads to itself: to look for that takes a tenth of a list's time."""
    gc.set_threshold(_YOUNG)


def _own(uid: int, gid: int) -> None:
    """Become the agent, which owns what is backed up, and let it have the repository and the room for the copy."""
    filled = (f"{RESTORED}{SOURCE}/{part}" for part in ("workspace", "home"))
    for place in map(Path, (REPOSITORY, SCRATCH, *filled)):
        # What was only just made is root's; what an earlier helper has handed over is the agent's already.
        if place.is_mount() and place.stat().st_uid == 0:
            os.chown(place, uid, gid)
    # The groups before the user: who is not root any more can't give up any.
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _hand_over(password: Path, credentials: Path, target: Path) -> None:
    found = {_PASSWORD: password} | {name: credentials / name for name in CREDENTIALS}
    for name, source in found.items():
        if source.exists():
            handle = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(source.read_bytes())


def _from_input() -> tuple[str, bytes, dict[str, bytes]]:
    found = bytearray()
    while found.count(b"\n") < 3:
        part = os.read(0, 64 << 10)
        if not part or len(found) > _LARGEST:
            raise EOFError
        found += part
    # Until then its input is held open: an engine throws away what it has not passed on yet when that is closed.
    print(TOLD, flush=True)
    order, password, credentials, _ = bytes(found).split(b"\n", 3)
    read = json.loads(base64.b64decode(credentials, validate=True) or b"{}")
    return (
        order.decode(),
        base64.b64decode(password, validate=True),
        {name: base64.b64decode(read[name], validate=True) for name in CREDENTIALS if name in read},
    )


def _from(orders: Path, handed: Path) -> tuple[str, bytes, dict[str, bytes]]:
    taken = {}
    for file in (handed / name for name in (_PASSWORD, *CREDENTIALS)):
        if file.exists():
            taken[file.name] = file.read_bytes()
            # Before restic or git are run, and before anything of the agent's is read: no path leads to it then.
            file.unlink()
    return (orders / _ORDER).read_text(), taken.pop(_PASSWORD), taken


def _tell(result: dict[str, Any]) -> None:
    line = json.dumps(result)
    for long in ("examples", "unreadExamples", "tornExamples", "gone", "problem", "left", "message"):
        # Examples first, the reason last: what is missing can be seen in the repository, but not why nothing is there.
        if len(line) > LARGEST_RESULT:
            result.pop(long, None)
            line = json.dumps(result)
    print(line, flush=True)
    # Only in a pod; on Docker the log is read.
    if _LAST_MESSAGE.exists():
        _LAST_MESSAGE.write_text(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
