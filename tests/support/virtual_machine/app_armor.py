"""A profile of AppArmor, what it forbids, and a machine whose kernel enforces it."""

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import repository
import virtual_machine

from claude_sandbox.localcluster.programs.os_packages import Needed

APP_ARMOR = Needed(("apparmor",), ("apparmor_parser",))
PROFILE = "claude-sandbox-tests"
FORBIDDEN = "/workspace/forbidden"
ATTEMPT = f"echo >/workspace/allowed && echo allowed; echo >{FORBIDDEN} && echo written || echo denied"
"""What a sandbox does: where it is not denied both are written."""
PATIENCE = 3000
"""Seconds for a machine that is busy, and translates all that the virtual one does."""


def profile(mode: str = "enforce") -> str:
    """All is allowed but to write in one place."""
    return f"""
profile {PROFILE} flags=(attach_disconnected,mediate_deleted{",complain" if mode == "complain" else ""}) {{
  file,
  network,
  capability,
  signal,
  ptrace,
  unix,
  deny {FORBIDDEN} w,
}}
"""


def told_by(script: str, told: Path) -> dict[str, Any]:
    """The JSON that a script beside this file prints, run in a virtual machine that has AppArmor."""
    if os.geteuid() != 0 or not virtual_machine.can_be_had():
        pytest.skip("all of a machine's files can only be read by root, and kernels are named for x86-64 alone")
    options = tomllib.loads((repository.ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    path = ":".join(str(repository.ROOT / one) for one in options["pythonpath"])
    variables = (f"PYTHONPATH={path}", "XDG_STATE_HOME=/tmp/state")
    command = ("env", *variables, sys.executable, str(Path(__file__).with_name(script)))
    ended = virtual_machine.run(command, told, PATIENCE, installed=(APP_ARMOR,))
    assert ended.code == 0, ended.output
    found: dict[str, Any] = json.loads(ended.output.splitlines()[-1])
    return found
