"""What a sandbox on a real node ran out of is told, as the node's kernel has counted it."""

import pytest
from nodekit import Kubectl, eventually
from sandboxkit import sandbox

# The agent of the node is asked every five seconds here.
pytestmark = [pytest.mark.node, pytest.mark.slow]

# As many as it may have, for a moment.
FORKS = r"""
import os, signal
children = []
try:
    for _ in range(2000):
        if (pid := os.fork()) == 0:
            signal.pause()
        children.append(pid)
except OSError as error:
    print(error.strerror)
for pid in children:
    os.kill(pid, signal.SIGKILL)
"""
# Another process than the container's first one, so that the container goes on where the kernel kills it alone.
HUNGRY = "import mmap; m = mmap.mmap(-1, 2 << 30); [m.__setitem__(i, 1) for i in range(0, len(m), 4096)]"
# Two at a time want a whole CPU each, and there is half of one.
BUSY = "for i in 1 2; do (timeout 120 sh -c 'while :; do :; done' >/dev/null 2>&1 &); done"


def test_processes_that_could_not_be_started_are_told_of(kubectl: Kubectl, sandboxes: str, agent: str) -> None:
    with sandbox(kubectl, sandboxes, "crowded") as made:
        assert not made.condition("Strained")
        assert "unavailable" in made.run("python3", "-c", FORKS)
        made.wait("Strained", reason="ProcessLimitReached")
        said = made.condition("Strained")["message"]
        assert said == (
            "It could start no more processes than its node lets a pod have (podPidsLimit): have fewer run at a time."
        )
        eventually("Ready says it too", lambda: "podPidsLimit" in made.condition("Ready")["message"])


def test_a_process_that_was_killed_for_memory_is_told_of(kubectl: Kubectl, sandboxes: str, agent: str) -> None:
    with sandbox(kubectl, sandboxes, "hungry") as made:
        before = made.pod_uid()
        assert made.fails("python3", "-c", HUNGRY)
        made.wait("Strained", reason="OutOfMemory")
        assert "spec.resources.memory" in made.condition("Strained")["message"]
        assert made.pod_uid() == before


def test_one_that_is_held_back_for_want_of_cpu_is_told_of(kubectl: Kubectl, sandboxes: str, agent: str) -> None:
    resources = {"cpu": "500m", "memory": "512Mi", "ephemeralStorage": "1Gi"}
    with sandbox(kubectl, sandboxes, "slowed", resources=resources) as made:
        made.run("sh", "-c", BUSY)
        made.wait("Strained", reason="CPUThrottled")
        assert "spec.resources.cpu" in made.condition("Strained")["message"]
