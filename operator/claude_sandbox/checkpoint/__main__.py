"""`python -m claude_sandbox.checkpoint RECIPIENT FILE`: /checkpoint as a tar archive, encrypted by `age`, into FILE.

The last line of the output is what came of it, as JSON: `size` and `sha256`, or `problem`.
"""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

from claude_sandbox.checkpoint import SOURCE

_LONGEST = 300
"""Characters of what went wrong."""


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 also where it could not be done, which the output says."""
    recipient, target = arguments
    try:
        told = encrypted(Path(SOURCE), recipient, Path(target))
    except OSError as error:
        told = {"problem": f"{error.strerror or error} ({error.filename})"[:_LONGEST]}
    print(json.dumps(told), flush=True)
    return 0


def encrypted(source: Path, recipient: str, target: Path) -> dict[str, Any]:
    """Encrypt all that is in `source`, and say what came of it. Raises OSError.

    Until it is whole it has another name; what an earlier one left under that is overwritten.
    """
    if not any(source.iterdir()):
        return {"problem": "the engine says that it made a checkpoint, and there is none"}
    partial = target.with_name(f"{target.name}.partial")
    with partial.open("wb") as file:
        os.fchmod(file.fileno(), 0o400)
        age = subprocess.Popen(
            ["age", "--encrypt", "--recipient", recipient], stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
        )
        if problem := _fed(age, source):
            partial.unlink()
            return {"problem": problem[:_LONGEST]}
        os.fsync(file.fileno())
    with partial.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    partial.rename(target)
    return {"size": target.stat().st_size, "sha256": digest}


def _fed(age: "subprocess.Popen[bytes]", source: Path) -> str:
    """Give the directory to `age`; what it complains of, or nothing."""
    # Both are there, since both were asked for.
    stdin, stderr, unread = cast(IO[bytes], age.stdin), cast(IO[bytes], age.stderr), ""
    try:
        with stdin as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
            tar.add(source, arcname="checkpoint")
    except OSError as error:
        # It ended early, and says why; or a file of the checkpoint can't be read, and what it made is of no use.
        unread = f"{error.strerror or error}"
    with stderr:
        complaint = stderr.read().decode(errors="replace").strip()
    if age.wait() != 0:
        return complaint.partition("\n")[0] or f"age ended with code {age.returncode}"
    return unread


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
