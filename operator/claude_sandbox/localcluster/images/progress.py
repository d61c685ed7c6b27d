"""Commands that take a while: a sign of life for people while they run, their output only when they fail."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from claude_sandbox.localcluster.errors import LocalClusterError

# Seconds between two signs of life.
_EVERY = 15.0
_LAST_LINES = 15


def run(
    command: Sequence[str | Path],
    what: str,
    report: Callable[[str], None],
    *,
    remedy: str = "See that the package registries can be reached and the disk isn't full, and try again.",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    stdin: str = "",
) -> str:
    """Run the command and return its standard output; `what` describes it, without a full stop.

    Raises LocalClusterError with the end of its output where it fails.
    """
    report(f"{what}.")
    scratch = tempfile.TemporaryFile
    with scratch("w+") as given, scratch("w+") as out, scratch("w+", errors="replace") as err:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(command, stdin=given, stdout=out, stderr=err, env=environment, cwd=directory)
        try:
            _await(process, lambda seconds: report(f"{what}: {seconds:.0f} s so far."))
        except BaseException:
            process.terminate()
            process.wait()
            raise
        output, errors = (_content(file) for file in (out, err))
    if process.returncode != 0:
        last = "\n".join((output + errors).strip().splitlines()[-_LAST_LINES:])
        raise LocalClusterError(f"{Path(command[0]).name} failed ({what}):\n{last}", remedy)
    return output


def _await(process: subprocess.Popen[bytes], sign: Callable[[float], None]) -> None:
    began = time.monotonic()
    while True:
        try:
            process.wait(_EVERY)
            return
        except subprocess.TimeoutExpired:
            sign(time.monotonic() - began)


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
