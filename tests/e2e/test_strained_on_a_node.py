"""What a sandbox on a real node ran out of is told, as the node's kernel has counted it."""

from pathlib import Path

import pytest
from nodekit import Kubectl, eventually
from sandboxkit import Sandbox, sandbox

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
# Many at a time, so that together they get more than they may have on a machine that is busy itself.
BUSY = "for i in 1 2 3 4 5 6 7 8; do (timeout 100 sh -c 'while :; do :; done' >/dev/null 2>&1 &); done"


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


def give_a_twentieth_of_a_cpu(made: Sandbox) -> None:
    """To the agent's container, as its node's administrator can; to start with so little would take minutes."""
    lines = (line.split(":", 2) for line in (made.agent() / "cgroup").read_text().splitlines())
    for _, controllers, path in lines:
        group = Path("/sys/fs/cgroup", controllers, path.lstrip("/"))
        for file, value in (("cpu.cfs_quota_us", "5000"), ("cpu.max", "5000 100000")):
            if (group / file).exists():
                (group / file).write_text(value)


def test_one_that_is_held_back_for_want_of_cpu_is_told_of(kubectl: Kubectl, sandboxes: str, agent: str) -> None:
    with sandbox(kubectl, sandboxes, "slowed") as made:
        give_a_twentieth_of_a_cpu(made)
        made.run("sh", "-c", BUSY)
        made.wait("Strained", reason="CPUThrottled")
        assert "spec.resources.cpu" in made.condition("Strained")["message"]
