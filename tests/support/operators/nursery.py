"""Starts operators without paying for Python's imports each time: a process that has imported all, and forks.

What runs is the real command line in a process of its own. Hundreds of them are started, on machines with two cores.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import claude_sandbox

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.environ.get("HOME", "/"),
    # The very code that the tests import, wherever it is installed.
    "PYTHONPATH": str(Path(claude_sandbox.__file__).parents[1]),
}
"""What an operator is started with."""

WARM = ("claude_sandbox.cli.operator.command", "claude_sandbox.controller.main")


class Nursery:
    """The forking process, as the tests see it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def start(self, arguments: list[str], log: Path) -> int:
        """Start `claude-sandbox run ARGUMENTS…`, its output appended to `log`; the id of its process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([arguments, str(log)]).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def serve() -> None:
    """Fork once for each line of standard input, until it ends."""
    for module in WARM:
        __import__(module)
    # The kernel takes care of the children's ends; whoever wants to know has a pidfd.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        arguments, log = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run(arguments, log)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def run(arguments: list[str], log: str) -> None:
    """Become the operator."""
    from claude_sandbox.cli.operator.command import run as command

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, target in ((0, nothing), (1, out), (2, out)):
        os.dup2(target, number)
    try:
        command.main(arguments, prog_name="claude-sandbox run")
    finally:
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    serve()
