"""What an observer keeps of the sandboxes of an engine: no more than there is, however often they are made anew."""

from dataclasses import replace
from typing import Any

import pytest
from docker_world import blueprint_of, desired_of, live_of

from claude_sandbox.backends.docker.observe import _MOST_IMAGES, Observer


class Engine:
    """One sandbox's objects; its container, and the container's image, are other ones whenever a test says so."""

    def __init__(self) -> None:
        self.desired = desired_of()
        self.live = live_of(self.desired)
        self.number = 0
        self.asked: list[str] = []

    def make_anew(self, *, removed: bool = False) -> None:
        self.number += 1
        made = dict(live_of(self.desired).container or {}, Id=f"{self.number:064}", Image=f"sha256:{self.number:064}")
        self.live = replace(self.live, container=None if removed else made)

    async def container(self, name: str) -> Any:
        return self.live.container if name == self.desired.documents.names.container else None

    async def containers(self, _: list[str]) -> list[Any]:
        return []

    async def network(self, _: str) -> Any:
        return self.live.network

    async def volumes(self, **_: Any) -> list[Any]:
        return list(self.live.volumes.values())

    async def image(self, reference: str) -> Any:
        self.asked.append(reference)
        return {"Id": reference, "Config": {"User": "x"}, "RootFS": "of any size"}

    async def read_file(self, _: str, path: str) -> bytes:
        return b"7" if path.endswith("generation") else b"{}"


@pytest.fixture
def engine() -> Engine:
    return Engine()


async def look(observer: Observer, engine: Engine) -> Any:
    return await observer.observe(engine.desired, blueprint_of())


@pytest.mark.parametrize("seen_between", [False, True], ids=["replaced", "seen to be gone"])
async def test_what_was_read_in_a_container_goes_with_it(engine: Engine, seen_between: bool) -> None:
    observer = Observer(engine)  # type: ignore[arg-type]
    for _ in range(20):
        engine.make_anew()
        assert (await look(observer, engine)).delivered.is_keyed
        if seen_between:
            engine.make_anew(removed=True)
            await look(observer, engine)
    assert len(observer._inside) <= 1


async def test_of_images_only_so_many_are_remembered_and_of_each_what_is_compared(engine: Engine) -> None:
    observer = Observer(engine)  # type: ignore[arg-type]
    for _ in range(_MOST_IMAGES + 10):
        engine.make_anew()
        assert (await look(observer, engine)).image == {"Config": {"User": "x"}}
    assert len(observer._images) == _MOST_IMAGES
    asked = len(engine.asked)
    await look(observer, engine)
    assert len(engine.asked) == asked, "an image that is remembered is asked for again"
