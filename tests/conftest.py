"""Real clusters for the tests, control planes and one with a node; gone when the tests are over."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Fixtures: once for all directories, because each place that imported them would have engines of its own.
from enginekit import docker_engine, engine_release, may_have_engines, tiny_image  # noqa: F401
from hypothesis import HealthCheck, settings
from nodekit import Kubectl, kubectl_for, report
from tests import groups
from tests.shared import Shared

from claude_sandbox.localcluster import cluster, engine
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.node import load_image

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_SLOW = pytest.StashKey[int]()
_LEFT_OUT = "left out"


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Leave the slow tests out, whatever is selected by `-m`, unless it names them. Say what is to run side by side."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    for item in _not_its_turn(items):
        item.add_marker(pytest.mark.slow)
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)
        config.stash[_SLOW] = len(slow)
    yield
    one_of_several = hasattr(config, "workerinput")
    if one_of_several:
        # The order in which processes take up the groups (Makefile: --no-loadscope-reorder).
        items.sort(key=lambda item: groups.rank(_group(item)))
    # Alone, a process runs the tests as they lie, which is not group by group.
    config.pluginmanager.register(Shared(items, _group if one_of_several else lambda _: ""))


def _not_its_turn(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests marked `by_turns` that have the engine which the others of their file have in turn."""
    files: dict[Path, dict[str, list[tuple[str, pytest.Item]]]] = {}
    for item in items:
        release = _release(item)
        if item.get_closest_marker("by_turns") and release is not None:
            test = item.name.replace(release, "")
            files.setdefault(item.path, {}).setdefault(test, []).append((release, item))
    return [
        item
        for tests in files.values()
        for turn, test in enumerate(sorted(tests))
        for release, item in tests[test]
        if len(tests[test]) > 1 and release != engine.RELEASES[turn % len(engine.RELEASES)]
    ]


def _release(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("engine_release") if callspec else None


def _group(item: pytest.Item) -> str:
    file = item.path.relative_to(Path(__file__).parent).as_posix()
    return groups.group_of(file, _release(item))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several (pytest-xdist) tells the one that they belong to."""
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told[_LEFT_OUT] = session.config.stash.get(_SLOW, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each process collects all tests, so that one number is that of all."""
    node.config.stash[_SLOW] = getattr(node, "workeroutput", {}).get(_LEFT_OUT, 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and how to run it."""
    slow = config.stash.get(_SLOW, 0)
    if slow:
        terminalreporter.write_line(f"Left out: {slow} slow tests of long matrices. `make test-all` runs them.")


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tests' clusters live, so that a person's own are never touched. Built programs are shared."""
    home = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def control_plane(state_home: Path) -> Iterator[Cluster]:
    """etcd and kube-apiserver, with no controller: what a test writes stays as it is."""
    yield from _running("tests")


@pytest.fixture(scope="session")
def control_plane_with_controllers(state_home: Path) -> Iterator[Cluster]:
    """A control plane with kube-controller-manager and kube-scheduler: garbage is collected, pods are scheduled."""
    yield from _running("tests-controllers", controllers=True)


@pytest.fixture(scope="session")
def operators_control_plane(state_home: Path) -> Iterator[Cluster]:
    """The same, for operators that run as processes: they, and what they are installed with, leave it changed."""
    yield from _running("tests-operators", controllers=True)


def _running(kind: str, *, controllers: bool = False) -> Iterator[Cluster]:
    name = _own(kind)
    try:
        yield cluster.up(name, controllers=controllers, fsync=False, report=report)
    finally:
        cluster.down(name, report)


def _own(kind: str) -> str:
    # Addresses and ports follow from the name: two runs at the same time keep out of each other's way.
    return f"{kind}-{os.getpid()}"


@pytest.fixture(scope="session")
def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("a node can only be made by root")


@pytest.fixture(scope="session")
def sandbox_image(needs_root: None) -> ImageArchive:
    return build_image("sandbox", report)


@pytest.fixture(scope="session")
def node(needs_root: None, state_home: Path, sandbox_image: ImageArchive) -> Iterator[Cluster]:
    """A cluster with a node that has the sandbox's image."""
    name = _own("tests-node")
    try:
        running = cluster.up(name, node=True, fsync=False, report=report)
        load_image(running.layout, sandbox_image)
        yield running
    finally:
        cluster.down(name, report)


@pytest.fixture(scope="session")
def kubectl(node: Cluster) -> Kubectl:
    return kubectl_for(node)
