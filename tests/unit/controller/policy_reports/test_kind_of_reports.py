"""Which kind reports are written as, where the API server can't be asked at first."""

import asyncio
from typing import Any

import pytest

from claude_sandbox.controller.policy_reports import operator as policy_reports
from claude_sandbox.controller.policy_reports.operator import PolicyReports
from claude_sandbox.kubernetes_api.errors import CONNECTION_FAILED, ApiError
from claude_sandbox.kubernetes_api.informers.informer import Timings
from claude_sandbox.kubernetes_api.resources import OPEN_REPORTS, POLICY_REPORTS, Resource


class Server:
    """Serves some kinds; the first questions break off."""

    def __init__(self, *kinds: Resource, failures: int = 0) -> None:
        self._kinds = {f"/apis/{one.group}/{one.version}": one for one in kinds}
        self._failures = failures

    async def get_path(self, path: str) -> dict[str, Any]:
        if self._failures:
            self._failures -= 1
            raise ApiError(0, CONNECTION_FAILED, "broken off")
        if path not in self._kinds:
            raise ApiError(404, "NotFound", "there is none")
        return {"resources": [{"name": self._kinds[path].plural}]}


async def found(server: Server) -> Resource:
    reports = PolicyReports(
        server, "Auto", (), list, lambda _: None, lambda *_: None, Timings()  # type: ignore[arg-type]
    )  # fmt: skip
    async with asyncio.timeout(10):
        return await reports._found()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_reports, "LOOK_EVERY", 0.0)


async def test_the_first_kind_is_asked_for_again_rather_than_passed_over() -> None:
    # The kind is kept until the process ends, so it must not follow from a connection that broke off.
    assert await found(Server(OPEN_REPORTS, POLICY_REPORTS, failures=1)) is OPEN_REPORTS


async def test_the_second_kind_is_taken_where_the_first_is_not_served() -> None:
    assert await found(Server(POLICY_REPORTS, failures=3)) is POLICY_REPORTS
