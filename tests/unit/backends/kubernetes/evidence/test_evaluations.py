"""Evaluations in a thread: the loop goes on, none is waited for too long, and no namespace takes all the workers."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from compliant_sandbox import NOW, compliant

from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.kubernetes.evidence.evaluation import AT_ONCE, EvaluationError, Evaluations, is_light
from claude_sandbox.compliance.evidence.readings import Reading


async def test_what_takes_too_long_is_told_and_the_loop_goes_on() -> None:
    evaluations, ends = Evaluations(deadline=0.2), threading.Event()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    counting = asyncio.create_task(count())
    with pytest.raises(EvaluationError) as raised:
        await evaluations.run("slow", ends.wait)
    assert mishap(raised.value) == "the evaluation took more than 0.2 s: the namespace has too much to look at"
    assert turns > 2
    counting.cancel()
    ends.set()
    async with asyncio.timeout(10):
        while True:  # it ends in its thread, and then there is room again
            try:
                assert await evaluations.run("slow", lambda: 7) == 7
                break
            except EvaluationError:
                await asyncio.sleep(0.05)
    evaluations.close()


async def test_one_namespace_does_not_take_all_workers() -> None:
    evaluations, ends = Evaluations(deadline=30), threading.Event()
    waiting = [asyncio.create_task(evaluations.run("slow", ends.wait)) for _ in range(AT_ONCE)]
    await asyncio.sleep(0.05)
    with pytest.raises(EvaluationError, match="other evaluations of the namespace"):
        await evaluations.run("slow", ends.wait)
    other = asyncio.create_task(evaluations.run("other", time.monotonic))
    ends.set()
    assert await asyncio.gather(*waiting) == [True] * AT_ONCE
    assert await other > 0
    evaluations.close()


def test_what_is_usual_is_evaluated_at_once_and_what_is_long_in_the_thread() -> None:
    world = compliant()
    assert is_light(world.evidence(), 10_000)
    assert not is_light(world.evidence(), 100_000)
    world.add_policy(egress=[{"ports": [{"port": n + 1} for n in range(500)]}])
    assert not is_light(world.evidence(), 10_000)
    world.policies.pop()
    world.services += [{"metadata": {"name": f"s{n}"}, "spec": {}} for n in range(2000)]
    assert not is_light(world.evidence(), 10_000)


@pytest.mark.parametrize(("many", "light"), [(3, True), (10, False)])
def test_long_selectors_of_a_plugins_policies_are_read_in_the_thread(many: int, light: bool) -> None:
    spec = {"selector": "has(x)||" * 60 + "has(y)"}
    metadata = {"name": "p", "namespace": "agents"}
    one = {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    found = replace(compliant().evidence(), plugin_policies=Reading((one,) * many, EvidenceSource.LIVE_OBJECT, NOW))
    assert is_light(found, 10_000) is light
