"""Several checkouts on one machine build images into one cache: nobody builds what is there, or waits for another's."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from claude_sandbox.localcluster.images import ImageArchive, build, build_image
from claude_sandbox.localcluster.images.places import place, remove_what_was_left
from claude_sandbox.localcluster.layout import cache_dir

PATIENCE = 30.0


@dataclass
class Sources:
    """Of a checkout: what its image is made of. `building` is called in the middle of a build."""

    content: str
    building: Callable[[], None] = lambda: None
    built: list[str] = field(default_factory=list)
    reference: str = "image:1"

    def key(self) -> str:
        return self.content


@pytest.fixture(autouse=True)
def checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Sources]:
    """By the name of their image. A build takes what is there, and writes it."""
    found: dict[str, Sources] = {}

    def build_one(made_of: Sources, key: str, base: object, scratch: Path, target: Path, report: object) -> object:
        assert not list(scratch.iterdir())
        (scratch / "context").write_text("")
        made_of.building()
        if made_of.key() != key:
            return None
        made_of.built.append(made_of.content)
        target.write_text(made_of.content)
        return ImageArchive(target, "image:1", f"sha256:{made_of.content}")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "recipe", found.__getitem__)
    monkeypatch.setattr(build, "_build", build_one)
    return found


def quiet(line: str) -> None:
    pass


def test_who_waits_for_a_build_of_the_same_does_not_build_it_again(checkouts: dict[str, Sources]) -> None:
    waiting = threading.Event()
    one = checkouts["operator"] = Sources("same", building=lambda: _assert(waiting.wait(PATIENCE)))
    with ThreadPoolExecutor() as pool:
        first, second = (pool.submit(build_image, "operator", lambda line: _when_it_waits(line, waiting)) for _ in "12")
        assert first.result() == second.result()
    assert one.built == ["same"]
    assert not list((cache_dir() / "builds").iterdir())


def test_images_of_different_content_are_built_at_the_same_time(checkouts: dict[str, Sources]) -> None:
    both = threading.Barrier(2, timeout=PATIENCE)
    checkouts |= {name: Sources(name, building=lambda: _assert(both.wait() >= 0)) for name in ("mine", "others")}
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda name: build_image(name, quiet), checkouts))
    assert [one.path.read_text() for one in found] == ["mine", "others"]


def test_sources_that_change_while_they_are_built_are_built_as_they_are_then(checkouts: dict[str, Sources]) -> None:
    one = checkouts["operator"] = Sources("before")
    one.building = lambda: setattr(one, "content", "after")
    found = build_image("operator", quiet)
    assert (found.path.name, found.path.read_text()) == ("operator-after.tar", "after")
    assert one.built == ["after"]


def test_sources_that_change_while_one_waits_are_not_built_as_they_were(checkouts: dict[str, Sources]) -> None:
    one = checkouts["operator"] = Sources("before")
    with ThreadPoolExecutor() as pool, place("operator-before", lambda: None):
        waiting = threading.Event()
        found = pool.submit(build_image, "operator", lambda line: _when_it_waits(line, waiting))
        assert waiting.wait(PATIENCE)
        one.content = "after"
    assert found.result().path.name == "operator-after.tar"
    assert one.built == ["after"]


def test_what_a_killed_build_left_is_removed_and_what_others_build_is_not(checkouts: dict[str, Sources]) -> None:
    builds = cache_dir() / "builds"
    for name in ("operator-killed", "operator-mine"):
        (builds / name / "context").mkdir(parents=True)
    checkouts["operator"] = Sources("mine")
    with place("operator-others", lambda: None) as others:
        (others / "file").write_text("")
        build_image("operator", quiet)
        assert [one.name for one in builds.iterdir()] == ["operator-others"]
        remove_what_was_left()
        assert (others / "file").exists()
    assert not list(builds.iterdir())


def test_a_build_that_fails_leaves_the_place_to_the_next(checkouts: dict[str, Sources]) -> None:
    one = checkouts["operator"] = Sources("same", building=lambda: _assert(False))
    with pytest.raises(AssertionError):
        build_image("operator", quiet)
    one.building = lambda: None
    assert build_image("operator", quiet).path.exists()


def _when_it_waits(line: str, waiting: threading.Event) -> None:
    if "waiting" in line:
        waiting.set()


def _assert(holds: bool) -> None:
    assert holds
