"""When sandboxes are probed, whatever the backend; the rest of it is asked of Docker's probes."""

import asyncio

import pytest

from claude_sandbox.backends.probing import schedule
from claude_sandbox.backends.probing.schedule import Probed, Probing, Schedule
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.evidence.probes import ProbeReport

IDENTITY = Identity("agents", "alice", "1")


class Counted(Schedule[str, int]):
    def __init__(self, afresh: float, at_a_time: int = 1, of_each: int | None = None) -> None:
        limits = {"at_a_time": at_a_time, "of_each": of_each}
        super().__init__(Probing(3600), lambda *_: None, enough=60, whom="nobody", afresh=afresh, **limits)  # type: ignore[arg-type]
        self.begun: list[int] = []

    async def _find(self, identity: Identity, one: Probed[str, int]) -> ProbeReport:
        self.begun.append(one.place)
        return ProbeReport(True, ())

    def at(self, place: int) -> None:
        self._known(IDENTITY, "", place)


@pytest.mark.parametrize(("afresh", "begun"), [(0.0, [1, 2, 3]), (3600.0, [1])])
async def test_a_place_that_changes_again_and_again_is_probed_at_a_pace(
    afresh: float, begun: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a pod, and who may write policies makes another place of it as often as they like."""
    monkeypatch.setattr(schedule, "SOON", 0.0)
    counted = Counted(afresh)
    for place in (1, 2, 3):
        counted.at(place)
        for _ in range(20):
            await asyncio.sleep(0.001)
    assert counted.begun == begun
    await counted.close()


async def test_what_is_gone_and_comes_again_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "SOON", 0.0)
    counted = Counted(3600.0)
    for place in (1, 2):
        counted.at(place)
        while len(counted.begun) < place:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        await counted.forget(IDENTITY)
    assert counted.begun == [1, 2]


async def test_the_slow_ones_of_one_namespace_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "SOON", 0.0)
    at_work: list[str] = []
    told = asyncio.Event()

    class Slow(Counted):
        async def _find(self, identity: Identity, one: Probed[str, int]) -> ProbeReport:
            at_work.append(identity.namespace)
            if identity.namespace == "slow":
                await told.wait()
            return ProbeReport(True, ())

    slow = Slow(0.0, at_a_time=4, of_each=2)
    for number in range(20):
        slow._known(Identity("slow", f"s{number}", str(number)), "", 1)
    async with asyncio.timeout(20):
        while len(at_work) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        slow._known(Identity("other", "alice", "1"), "", 1)
        while "other" not in at_work:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert at_work.count("slow") == 2
    told.set()
    await slow.close()
    assert slow._rooms == {}
