"""A newer image that is tried beside a workload is hostile: it behaves until it has what it wants, or looks around.

A trial can be told from the workload: it has no key. So an image that is content there, and is not in the workload's
place, passes the trial. And a trial that had the sandbox's network, volumes or key would give them to an image that
nobody has run yet, at a moment of its author's choosing, beside an agent that is at work. Closed by the trial being no
more than a sieve: what fails in the workload's place is rolled back by itself and remembered; and by the trial having
nothing of the sandbox. What each try finds is sought from the workload too, where it is there.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker_fleet import event_notes
from image_place import BESIDE, WORKS, ImagePlace, image_place, rolled_to

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns, pytest.mark.timeout(600)]

KEY_FILE = "/run/claude-sandbox/api-key/api-key"
BEHAVES_WITHOUT_A_KEY = f"[ ! -e {KEY_FILE} ] || exit 1; exec sleep infinity"
PORT = 8181
SERVES = f"exec nc -ll -p {PORT} -e /bin/cat"
KEPT: dict[str, Any] = {"type": "PersistentVolumeClaim", "size": "16Mi", "retention": "Delete"}


@pytest.fixture
async def place(control_plane: Cluster, host: EngineDescription, tmp_path: Path) -> AsyncIterator[ImagePlace]:
    async with image_place(control_plane, host, tmp_path) as made:
        yield made


def says(container: Any, script: str) -> tuple[int, str]:
    """What a command of the agent's user comes to in it."""
    code, output = container.exec_run(["sh", "-c", script], user="1000:1000")
    return code, output.decode()


@pytest.mark.slow
async def test_what_behaves_beside_the_workload_and_not_in_its_place_is_rolled_back_and_remembered(
    place: ImagePlace,
) -> None:
    first = await place.push("alice", WORKS, "first")
    await place.create("alice", updatePolicy=BESIDE, workspace=KEPT)
    workload = (await place.runs("alice", first))["status"]["workload"]["uid"]
    assert says(place.sdk.containers.get(workload), "echo mine > /workspace/file")[0] == 0
    tells = await place.push("alice", BEHAVES_WITHOUT_A_KEY, "tells")
    canary = await place.tried(tells)
    found = await place.comes_to("alice", rolled_to(tells))
    image = found["status"]["image"]
    # The trial was passed: it is the workload's place in which it fails.
    assert (image["last"]["result"], image["digest"], image["failed"]) == ("RolledBack", first, [tells])
    back = (await place.runs("alice", first))["status"]["workload"]["uid"]
    assert back not in (workload, canary.id)
    assert says(place.sdk.containers.get(back), "cat /workspace/file") == (0, "mine\n")
    notes = await event_notes(place.api, "alice", "ImageRolledBack", tells)
    assert any("not tried again" in note for note in notes)
    # The tag still stands for it.
    await place.comes_to("alice", lambda one: "not tried again" in str(one["status"]["image"].get("available")))
    assert place.canaries() == []


async def test_what_is_tried_has_no_network_key_or_volume_of_the_sandbox(place: ImagePlace) -> None:
    first = await place.push("alice", SERVES, "first")
    long = BESIDE | {"healthGate": {"readyWithin": "90s", "stableFor": "1h"}}
    brokered = {"apiKeySecretRef": {"name": "alice"}, "delivery": "Brokered"}
    await place.create("alice", updatePolicy=long, workspace=KEPT, credentials=brokered)
    found = await place.runs("alice", first)
    agent = place.sdk.containers.get(found["status"]["workload"]["uid"])
    ((_, network),) = agent.attrs["NetworkSettings"]["Networks"].items()
    members = place.sdk.networks.get(network["NetworkID"]).attrs["Containers"]
    gateway = next(one["IPv4Address"] for key, one in members.items() if key != agent.id).partition("/")[0]
    assert says(agent, "echo mine > /workspace/file")[0] == 0
    canary = await place.tried(await place.push("alice", WORKS, "second"))
    tries = {
        "the gateway": f"nc -w 3 {gateway} 8080 -e /bin/id",
        "the old workload": f"nc -w 3 {network['IPAddress']} {PORT} -e /bin/id",
        "any network": "grep -qv -e lo: -e '|' /proc/net/dev",
        "a route": "grep -qv Iface /proc/net/route",
        "the workspace": "grep -q mine /workspace/file",
        "the key, or what stands for it": f"grep -q . {KEY_FILE}",
        "the services' credentials": "ls /run/claude-sandbox/*/* >/dev/null",
    }
    for what, script in tries.items():
        assert says(agent, script)[0] == 0, f"{what} can't be found where it is: {says(agent, script)}"
        assert says(canary, script)[0] != 0, f"{what}: {says(canary, script)}"
    # What it writes is seen by nobody, and ends with it; what it may read of the sandbox, it may not write.
    assert says(canary, "echo planted > /workspace/planted")[0] == 0
    assert says(agent, "ls /workspace") == (0, "file\n")
    assert says(canary, "echo >> /etc/claude-code/managed-settings.json")[0] != 0
    assert says(canary, "echo >> /opt/claude-sandbox/bin/claude")[0] != 0
    assert canary.attrs["HostConfig"]["Privileged"] is False
    assert not [one for one in canary.attrs["Mounts"] if one["RW"]]
