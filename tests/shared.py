"""When the clusters and engines that tests share end: with the last test that wants them, not with the process.

One that nobody asks anything of takes a processor all the same, a control plane with controllers some two seconds a
minute, and a process goes on to other groups (tests/groups.py) for half of a run. pytest ends what has the scope of a
session with the session; so each is noted as it is set up, and ended here. Fixtures that need it end before it, as
pytest does it. Who wants it again, in another group, gets a new one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

_ENDED = (
    "control_plane",
    "control_plane_with_controllers",
    "operators_control_plane",
    "newer_control_plane",
    "newer_with_crd",
    "node",
    "docker_engine",
    "other_host",
    "machine_engine",
)


class Shared:
    """A plugin of pytest's. `group_of` says with which others a test is run, in the order in which they are."""

    def __init__(self, items: Sequence[pytest.Item], group_of: Callable[[pytest.Item], str]) -> None:
        last = {(group_of(item), name): item for item in items for name in wanted(item)}
        self._over: dict[pytest.Item, list[str]] = {}
        for (_, name), item in last.items():
            self._over.setdefault(item, []).append(name)
        self._standing: dict[str, tuple[pytest.FixtureDef[Any], pytest.FixtureRequest]] = {}

    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
        if fixturedef.scope == "session" and fixturedef.argname in _ENDED:
            self._standing[fixturedef.argname] = fixturedef, request

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """After what the test has for itself is gone."""
        for name in self._over.pop(item, ()):
            if name in self._standing:
                fixture, request = self._standing.pop(name)
                fixture.finish(request)  # type: ignore[arg-type] # as pytest calls it


def wanted(item: pytest.Item) -> list[str]:
    """What of it the test has, by itself or by its other fixtures."""
    names: Sequence[str] = getattr(item, "fixturenames", ())
    return [name for name in _ENDED if name in names]
