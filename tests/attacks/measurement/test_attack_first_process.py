"""The attack: the agent's own process is the container's first, and calls itself what is no text; it makes threads
without number, and what is read vanishes in between.

What it gained: see `test_attack_frozen_status`. Here it is done in real containers, through a whole pass. And what an
agent runs out of, which nobody told: memory, for which one of its processes is killed, and room for files.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from dockerkit import Sandbox, process_of, sandbox

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.status import Compliance, EvidenceSource
from claude_sandbox.backends.base import Outcome
from claude_sandbox.backends.docker.evidence.exhaustion import look
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = pytest.mark.engine

# Written by the shell itself, which is the first process, to its own name.
RENAMED = "printf '\\377\\376\\033[2J\\302\\205' > /proc/self/comm; "
IDLE = "while :; do sleep 1; done"


async def measured(one: Sandbox) -> tuple[Compliance, Any]:
    """A pass, and what comes of it."""
    outcome: Outcome = await one.once()
    assert outcome.failure is None, outcome
    compliance, compliant, _ = await one.backend.measure(one.blueprint, one.parsed, outcome)
    return compliance, compliant


async def without_init(one: Sandbox) -> None:
    """Have the agent's own process be the first, as it is on an engine that has no other to offer."""
    capabilities = await one.engine.capabilities()
    one.engine._capabilities = replace(capabilities, has_init=False)


def by_the_kernel(compliance: Compliance) -> set[str]:
    return {id for one in compliance.passed if one.source is EvidenceSource.HOST_PROC for id in one.controls}


@pytest.mark.by_turns
async def test_a_first_process_of_any_name_is_measured(host: EngineDescription) -> None:
    async with sandbox(host, command=["/bin/sh", "-c", RENAMED + IDLE]) as one:
        await without_init(one)
        await one.made()
        assert b"\xff\xfe" in process_of(one).joinpath("comm").read_bytes()
        compliance, compliant = await measured(one)
        assert {"PRIV-02", "PRIV-04", "KERN-01", "FS-01"} <= by_the_kernel(compliance)
        assert compliant[0] in (ConditionStatus.TRUE, ConditionStatus.UNKNOWN)


# These two did not succeed before either; they are kept for what may come.
@pytest.mark.slow
async def test_processes_without_number_and_paths_of_any_bytes_are_no_way_out(host: EngineDescription) -> None:
    odd = "cd /tmp; d=$(printf 'a\\nCapEff:\\t0\\377'); touch \"$d\"; "
    many = "i=0; while [ $i -lt 200 ]; do sleep 9 & i=$((i+1)); done; "
    async with sandbox(host, command=["/bin/sh", "-c", odd + many + IDLE]) as one:
        await without_init(one)
        await one.made()
        compliance, _ = await measured(one)
        assert "PRIV-02" in by_the_kernel(compliance)


@pytest.mark.slow
async def test_what_vanishes_while_it_is_read_is_not_there(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()

        async def killed() -> None:
            await asyncio.to_thread(one.sdk.api.kill, one.names.container)

        outcome = await one.once()
        results = await asyncio.gather(
            killed(), *(one.backend.measure(one.blueprint, one.parsed, outcome) for _ in range(20))
        )
        assert all(isinstance(found[0], Compliance) for found in results[1:])


async def strained(one: Sandbox, word: str) -> str:
    """The Ready condition's message once it says so."""
    message = ""
    async with asyncio.timeout(60):
        while word not in message:
            await one.once()
            message = (await one.state()).message
            await asyncio.sleep(0.3)
    return message


async def test_a_process_that_is_killed_for_memory_is_told(host: EngineDescription) -> None:
    memory = {"cpu": "1", "memory": "256Mi", "ephemeralStorage": "1Gi"}
    async with sandbox(host, resources=memory) as one:
        await one.made()
        await one.started()
        # One that takes all of it, and is not the first.
        one.sh("x=$(head -c 400000000 /dev/zero | base64); echo $?")
        message = await strained(one, "were killed")
        assert "spec.resources.memory" in message
        assert one.running


async def test_a_full_home_is_told_and_so_is_that_it_is_no_more(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        await one.started()
        one.sh("cat /dev/zero > /home/claude/all; ls -s /home/claude")
        message = await strained(one, "is full")
        assert "/home/claude is full: remove files there" in message
        one.sh("rm /home/claude/all")
        one.backend._pressures._last._clock = lambda: float("inf")
        await one.once()
        assert "is full" not in (await one.state()).message


@pytest.mark.by_turns
async def test_a_link_of_the_images_is_not_followed_to_the_host(host: EngineDescription) -> None:
    """What is looked at is the container's own, however its paths are called."""
    async with sandbox(host) as one:
        await one.made()
        assert look(one.inspected, ["/proc/self/root", "/bin/sh", "/workspace/../../etc"]).full == ()
