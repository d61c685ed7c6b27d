"""Commands in an engine's network, where its containers' published ports are."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from claude_sandbox.localcluster.engine.record import EngineDescription
from claude_sandbox.localcluster.node.namespaces import enter_network


def run_in(
    engine: EngineDescription, argv: Sequence[str | Path], *, stdin: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run one of the machine's programs in the engine's network namespace, and return what it said.

    Raises subprocess.CalledProcessError where it fails, unless told not to `check`.
    """
    command = [*enter_network(engine.names), *map(str, argv)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=check)
