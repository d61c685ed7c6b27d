"""How the operator's process ends."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from virtual_clock import run

from claude_sandbox.controller.machinery.queue import Limits, WorkQueue
from claude_sandbox.controller.main import _work


class Trail:
    """Nobody's."""

    def begin(self, _: Any) -> None:
        pass

    async def end(self) -> None:
        pass


async def forever() -> None:
    await asyncio.Event().wait()


def test_an_operator_that_can_not_work_any_more_ends_and_does_not_merely_stand_there() -> None:
    def limits(key: str) -> Limits:
        raise ValueError(f"{key} can't be counted")

    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(limits=limits)
        idle = SimpleNamespace(mark_overdue=None)
        settings = SimpleNamespace(resync=300.0, shutdown_grace=1.0)
        operator: Any = SimpleNamespace(
            queue=queue,
            reconcile=None,
            settings=settings,
            reconciler=SimpleNamespace(evaluations=idle),
            looks_after_backups=SimpleNamespace(work=forever),
            policy_reports=None,
        )
        metrics: Any = SimpleNamespace(reconciled=None)
        queue.add("alice")
        await asyncio.wait_for(_work(operator, None, Any, metrics, Trail(), asyncio.Event()), 10.0)

    with pytest.raises(ExceptionGroup, match="TaskGroup") as found:
        run(main())
    assert "can't be counted" in str(found.value.exceptions[0])


def test_an_operator_that_can_not_take_back_what_is_overdue_ends_as_well() -> None:
    class Broken:
        async def mark_overdue(self, _: float) -> list[str]:
            raise RuntimeError("the store is broken")

    async def main() -> None:
        settings = SimpleNamespace(resync=300.0, shutdown_grace=1.0)
        operator: Any = SimpleNamespace(
            queue=WorkQueue(),
            reconcile=None,
            settings=settings,
            reconciler=SimpleNamespace(evaluations=Broken()),
            looks_after_backups=SimpleNamespace(work=forever),
            policy_reports=None,
        )
        metrics: Any = SimpleNamespace(reconciled=None)
        await asyncio.wait_for(_work(operator, None, Any, metrics, Trail(), asyncio.Event()), 100.0)

    with pytest.raises(RuntimeError, match="the store is broken"):
        run(main())
