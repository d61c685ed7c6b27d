"""Sizes of volumes: asked for, refused by engines that can enforce none, and told as they are."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from docker_world import blueprint_of, desired_of, live_of

from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.docker import drift
from claude_sandbox.backends.docker.documents import sizes
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.model import VOLUME, Step, Verb
from claude_sandbox.backends.docker.plan import plan
from claude_sandbox.backends.docker.steps.volumes import UnenforcedSizeError, volume_step
from claude_sandbox.backends.docker.written import WriteResults

_LATER = Past(provisioned=True, ran=True, settled=True)
WORKSPACE = {"type": "PersistentVolumeClaim", "size": "1Gi", "keepHome": {"size": "64Mi"}}


@dataclass
class _Engine:
    """Answers as an engine does whose disk has project quotas, or has none."""

    has_quotas: bool
    enforces_sizes: bool | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def create_volume(self, document: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(document)
        if "size" in document["DriverOpts"] and not self.has_quotas:
            raise EngineError(400, "create x: quota size requested but no quota support")
        return {key: document[key] for key in ("Name", "Driver", "Labels")} | {"Options": document["DriverOpts"]}


async def _make(engine: _Engine, *, required: bool = False) -> WriteResults:
    desired, results = desired_of(workspace=WORKSPACE), WriteResults()
    context: Any = SimpleNamespace(engine=engine, results=results, sizes_required=required)
    for volume in desired.documents.volumes:
        await volume_step(context, desired, Step(Verb.CREATE, Cause.PROVISION, VOLUME, volume["Name"]))
    return results


async def test_where_an_engine_can_enforce_sizes_volumes_have_theirs() -> None:
    engine = _Engine(has_quotas=True)
    made = (await _make(engine)).volumes
    found = {name.rpartition("-")[2]: sizes.size_of(volume) for name, volume in made.items()}
    assert (found["workspace"], found["home"]) == (1 << 30, 64 << 20)
    assert engine.enforces_sizes is True


async def test_where_it_can_not_it_is_asked_once_and_volumes_are_made_without() -> None:
    engine = _Engine(has_quotas=False)
    made = (await _make(engine)).volumes
    assert {sizes.size_of(volume) for volume in made.values()} == {None}
    assert [sizes.asks_for_size(one) for one in engine.asked].count(True) == 1


async def test_where_sizes_are_required_none_is_made_without() -> None:
    engine = _Engine(has_quotas=False)
    with pytest.raises(UnenforcedSizeError, match="prjquota"):
        await _make(engine, required=True)
    assert not [one for one in engine.asked if one["Name"].endswith("-workspace") and not sizes.asks_for_size(one)]
    await _make(_Engine(has_quotas=True), required=True)


async def test_another_refusal_is_not_taken_for_want_of_quotas() -> None:
    class _Broken(_Engine):
        async def create_volume(self, document: dict[str, Any]) -> dict[str, Any]:
            raise EngineError(500, "no space left on device")

    with pytest.raises(EngineError, match="no space"):
        await _make(_Broken(has_quotas=True))


@pytest.mark.parametrize("options", [None, {}, {"size": "1"}, {"size": "2147483648"}])
def test_a_workspace_that_was_made_with_another_size_or_none_stays(options: dict[str, str] | None) -> None:
    desired = desired_of(workspace=WORKSPACE)
    observed = live_of(desired)
    live = observed.volumes[desired.documents.names.workspace]
    live["Options"] = options
    assert drift.volume_differences(desired.documents.workspace or {}, live) == ()
    assert desired.documents.names.workspace not in str(plan(desired, observed, _LATER).foreign)


def test_what_a_workspace_has_of_its_size_is_told() -> None:
    blueprint = blueprint_of(workspace=WORKSPACE)

    def told(workspace: Any, home: Any) -> list[str]:
        volumes = {"its workspace": {"Options": workspace}, "its home": {"Options": home}}
        return list(sizes.told(blueprint, volumes))

    whole = {"size": str(1 << 30)}, {"size": str(64 << 20)}
    assert told(*whole) == []
    [one] = told(None, None)
    assert "its workspace and of its home is not enforced" in one
    assert "prjquota" in one
    [one] = told({"size": "4096"}, whole[1])
    assert "stays at the 4096 bytes" in one
    assert list(sizes.told(blueprint, {})) == []
