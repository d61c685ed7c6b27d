"""How a command starts."""

import subprocess
import sys

_LOOKS = """
import gc
from claude_sandbox.cli.main import COMMANDS
during = []
gc.callbacks.append(lambda phase, _: during.append(phase))
COMMANDS["run"].load()
assert gc.isenabled()
print(len(during), gc.get_freeze_count())
"""


def test_nothing_that_is_imported_is_looked_through_for_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", _LOOKS], capture_output=True, text=True, check=True)
    collections, kept = map(int, done.stdout.split())
    assert collections == 0
    assert kept > 50_000
