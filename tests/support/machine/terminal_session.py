"""`claude-sandbox shell` at a terminal of this machine, as a person has it."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import sys
import termios

PATIENCE = 120.0
ROWS, COLUMNS = 33, 121
"""Of the terminal: nobody's default."""
PROMPT = b"$ "


def told_by_a_terminal(sandbox: str, kubeconfig: str) -> tuple[int, bytes]:
    """Type into a shell in the sandbox as soon as there is a terminal, end what runs there by Ctrl-C, and leave with 5.

    The exit code, and all that was shown. Fails where the terminal there hasn't the size of this one. Blocks.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        _become_the_command(sandbox, kubeconfig)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    seen = b""

    def until(word: bytes, times: int = 1) -> None:
        nonlocal seen
        while seen.count(word) < times:
            assert select.select([terminal], [], [], PATIENCE)[0], seen
            seen += os.read(terminal, 4096)

    try:
        # Typed before anybody is there to read it.
        os.write(terminal, b"stty size; cat\n")
        until(f"{ROWS} {COLUMNS}".encode())
        # Once by the terminal, once by cat, which is at work then: bash loses a Ctrl-C that comes between commands.
        os.write(terminal, b"are you there\n")
        until(b"are you there", times=2)
        prompts = seen.count(PROMPT)
        os.write(terminal, b"\x03")
        # Ctrl-C ended what ran there, and nothing here. What is typed before the prompt is back may be thrown away.
        until(PROMPT, times=prompts + 1)
        os.write(terminal, b"echo came-$((1 + 1)); exit 5\n")
        until(b"came-2")
        # A terminal whose last user has left can't be read any more.
        with contextlib.suppress(OSError):
            until(b"never said")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen
    finally:
        os.close(terminal)


def _become_the_command(sandbox: str, kubeconfig: str) -> None:
    command = [sys.executable, "-m", "claude_sandbox.cli.main", "shell", sandbox]
    # What a shell or a library has left there is not the size of this terminal.
    said = {**os.environ, "KUBECONFIG": kubeconfig, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    os.execve(command[0], command, said)  # noqa: S606
