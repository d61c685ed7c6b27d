"""Somebody with the engine's API, or the host, replaces Claude Code's managed settings below a sandbox that runs.

Before, that they are in place was read once after each start and remembered, and no control said anything of it: a
sandbox with other settings was Compliant until it started again. SEC-04 reads them anew at each measurement; that
something is mounted over them, the kernel tells. For pods, where the annotation, the volume and the mounts tell, see
tests/unit/compliance/pods/test_pod_settings.py.
"""

import asyncio
import subprocess
import sys

import pytest
from dockerkit import IMAGE, Sandbox, process_of, sandbox

from claude_sandbox.api.status import Result
from claude_sandbox.blueprint import agent
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = pytest.mark.engine

# Mounts an empty tmpfs in another mount namespace: the image there has no program for it. 1 is MS_RDONLY.
_COVER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
namespace = os.open(sys.argv[1], os.O_RDONLY)
if libc.setns(namespace, 0) or libc.mount(b"cover", sys.argv[2].encode(), b"tmpfs", 1, None):
    sys.exit(os.strerror(ctypes.get_errno()))
"""


async def _measured(one: Sandbox) -> tuple[Result, str]:
    """What SEC-04 says, and why."""
    outcome = await one.once()
    found, _, _ = await one.backend.measure(one.blueprint, one.parsed, outcome)
    if any("SEC-04" in group.controls for group in found.passed):
        return Result.PASS, ""
    return next((control.result, control.message) for control in found.controls if control.id == "SEC-04")


@pytest.mark.by_turns
async def test_other_settings_in_the_volume_are_told_at_once(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        assert await _measured(one) == (Result.PASS, "")
        replace = ["/bin/sh", "-c", f"echo '{{}}' >/settings/{agent.SETTINGS_FILE}"]
        one.sdk.containers.run(
            IMAGE, entrypoint=replace, user="0", remove=True, volumes={one.names.settings: {"bind": "/settings"}}
        )
        assert one.sh(f"cat {agent.SETTINGS_DIRECTORY}/{agent.SETTINGS_FILE}").strip() == "{}"
        result, message = await _measured(one)
        assert (result, "not those that were asked for" in message) == (Result.FAIL, True)


async def test_settings_that_are_covered_are_told_by_the_kernel(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        assert await _measured(one) == (Result.PASS, "")
        namespace = process_of(one) / "ns/mnt"
        cover = [sys.executable, "-c", _COVER, str(namespace), agent.SETTINGS_DIRECTORY]
        await asyncio.to_thread(subprocess.run, cover, check=True)
        assert (await _measured(one))[0] is Result.FAIL
