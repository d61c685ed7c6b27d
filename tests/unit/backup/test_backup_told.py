"""What makes a backup acknowledges what it is told by its standard input, which is held open until then."""

import json
import subprocess
import sys

from claude_sandbox.backup import TOLD

PROGRAM = (sys.executable, "-m", "claude_sandbox.backup", "-")


def test_it_says_that_it_was_told_before_its_input_ends() -> None:
    with subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as helper:
        assert helper.stdin is not None
        assert helper.stdout is not None
        helper.stdin.write(b"{}\n\n\n")
        helper.stdin.flush()
        assert helper.stdout.readline() == f"{TOLD}\n".encode()
        assert json.loads(helper.stdout.readline())["outcome"] == "Failed"


def test_told_a_part_it_says_nothing_and_is_begun_anew() -> None:
    done = subprocess.run(PROGRAM, input=b"{}\n\n", stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
