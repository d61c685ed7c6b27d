"""`claude-sandbox incident drill` on a real engine: every incident goes as it should, and nothing is left of it."""

import asyncio
import subprocess
import sys

import pytest
from docker_fleet import OWN
from operator_place import Place, place

from claude_sandbox.backends.docker import names
from claude_sandbox.kubernetes_api.resources import SANDBOXES, SECRETS

__all__ = ["place"]

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns]


async def test_each_incident_goes_as_it_should_and_nothing_of_the_drill_is_left(place: Place) -> None:
    await place.join()
    program = (sys.executable, "-m", "claude_sandbox.cli.main", "incident", "drill", f"--namespace={OWN}")
    options = ("--backend=Docker", "--docker-host=engine-1", "--compromised-host", "--delivery=Mounted")
    where = (f"--kubeconfig={place.cluster.kubeconfig}", f"--host={place.host.socket}")
    done = await asyncio.to_thread(
        subprocess.run, [*program, *options, *where], capture_output=True, text=True, check=False, timeout=240
    )
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        for what in (
            "KeyCompromised: used no more",
            "KeyCompromised: over with another key",
            "Quarantined: contained",
            "Quarantined: last sign of life",
            "Quarantined, lifted: another one is ready",
            "HostCompromised: its sandbox is marked",
            "HostCompromised, lifted: ready",
            "Nothing went on after it was said to be contained",
            "evidence stays in",
        ):
            assert what in done.stdout, done.stdout
        assert (await place.api.list(SANDBOXES, OWN)).items == []
        assert (await place.api.list(SECRETS, OWN)).items == []
    finally:
        kept = {"label": f"{names.LABEL_COMPONENT}={names.EVIDENCE}"}
        for container in place.sdk.containers.list(all=True, filters=kept):
            container.remove()
        for volume in place.sdk.volumes.list(filters=kept):
            volume.remove(force=True)
