"""An engine comes, is restarted, stands beside another, and goes without a trace, whatever was done to it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import traces
from docker.models.containers import Container
from enginekit import client, hardened, own, packet_filter, ready
from nodekit import eventually, report

from claude_sandbox.localcluster import components, engine
from claude_sandbox.localcluster.engine import COMPONENTS, EngineDescription
from claude_sandbox.localcluster.engine.places import Places
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = pytest.mark.engine


@pytest.fixture
def name(may_have_engines: None, state_home: Path) -> Iterator[str]:
    """A name that no engine has yet, and that none has afterwards, come what may."""
    chosen = own("tests-comes-and-goes")
    yield chosen
    engine.down(chosen, report)


def _workload(of: EngineDescription, image: ImageArchive, **options: object) -> str:
    """A container with a volume, a network of its own and a published port; returns its id."""
    with client(of) as connected:
        connected.networks.create("own", internal=False)
        volumes = {"workspace": {"bind": "/workspace", "mode": "rw"}}
        ports = {"8000/tcp": ("127.0.0.1", 18001)}
        container = hardened(
            connected, image.reference, name="agent", network="own", volumes=volumes, ports=ports, user="0:0", **options
        )
        assert container.exec_run(["sh", "-c", "echo kept >/workspace/note"]).exit_code == 0
        return str(container.id)


def _kept(of: EngineDescription, identity: str) -> Container:
    """The container, after whatever happened to the engine; its volume and its network are there as well."""
    with client(of) as connected:
        container = connected.containers.get(identity)
        assert [network.name for network in connected.networks.list(names=["own"])] == ["own"]
        [volume] = connected.volumes.list()
        assert Path(volume.attrs["Mountpoint"], "note").read_text() == "kept\n"
        return container


def _pids(name: str) -> dict[str, int | None]:
    return {component.name: component.pid for component in engine.status(name).components}


@pytest.mark.parametrize("release", engine.RELEASES)
@pytest.mark.parametrize("broken", [False, True], ids=["well", "broken"])
def test_nothing_is_left_of_an_engine_with_running_containers(
    name: str, release: str, broken: bool, tiny_image: ImageArchive
) -> None:
    places = Places.of(name)
    before, rules = traces.of_machine(places), packet_filter()
    made = ready(name, release, tiny_image, tcp=engine.Tcp.TLS, live_restore=True)
    _workload(made, tiny_image)
    meanwhile = traces.of_machine(places)
    assert {line.split()[0] for line in meanwhile - before} >= {"process", "mount", "file"}
    # Its interfaces and rules are in a network of its own from the beginning.
    assert {line for line in meanwhile - before if line.startswith(("interface", "route", "setting"))} == set()
    assert packet_filter() == rules
    if broken:
        for component in COMPONENTS:
            engine.kill(made, component)
        for file in places.run.glob("*.json"):
            file.unlink()
        places.record.unlink()
    assert engine.down(name, report)
    assert traces.of_machine(places) == before
    assert packet_filter() == rules
    assert not places.root.exists()
    assert not engine.down(name, report)


@pytest.mark.parametrize("line", ["Starting containerd.", "Starting dockerd."])
def test_an_engine_that_was_interrupted_on_its_way_up_goes_without_a_trace(name: str, line: str) -> None:
    before = traces.of_machine(Places.of(name))
    script = f"from claude_sandbox.localcluster import engine; engine.up({name!r}, say=print)"
    process = subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        assert any(printed.startswith(line) for printed in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert engine.down(name, report)
    assert traces.of_machine(Places.of(name)) == before


@pytest.mark.parametrize("release", engine.RELEASES)
def test_two_engines_know_nothing_of_each_other(
    name: str, release: str, docker_engine: EngineDescription, tiny_image: ImageArchive
) -> None:
    other = ready(name, release, tiny_image)
    identity = _workload(other, tiny_image)
    with client(docker_engine) as connected:
        before = [network.name for network in connected.networks.list()]
        assert identity not in [container.id for container in connected.containers.list(all=True)]
        assert "own" not in before
        # The same names, addresses and ports as in the other engine.
        connected.networks.create("own")
        twin = hardened(connected, tiny_image.reference, name="agent", network="own",
                        ports={"8000/tcp": ("127.0.0.1", 18001)})  # fmt: skip
        try:
            assert engine.down(name, report)
            twin.reload()
            assert twin.status == "running"
        finally:
            twin.remove(force=True)
            connected.networks.get("own").remove()
    assert engine.status(docker_engine.name).healthy


@pytest.mark.parametrize("release", engine.RELEASES)
@pytest.mark.parametrize("end", [engine.kill, engine.stop], ids=["killed", "stopped"])
def test_containers_end_with_their_engine_and_are_there_when_it_is_back(
    name: str, release: str, end: object, tiny_image: ImageArchive
) -> None:
    made = ready(name, release, tiny_image)
    identity = _workload(made, tiny_image)
    assert callable(end)
    end(made)
    assert not engine.status(name).healthy
    assert engine.status(name).version == {}
    engine.start(made)
    assert engine.status(name).healthy
    container = _kept(made, identity)
    assert container.status == "exited"


@pytest.mark.parametrize("release", engine.RELEASES)
@pytest.mark.parametrize("end", [engine.kill, engine.stop], ids=["killed", "stopped"])
def test_containers_live_on_without_their_engine_where_it_was_told_so(
    name: str, release: str, end: object, tiny_image: ImageArchive
) -> None:
    made = ready(name, release, tiny_image, live_restore=True)
    identity = _workload(made, tiny_image)
    with client(made) as connected:
        pid = connected.containers.get(identity).attrs["State"]["Pid"]
    assert callable(end)
    end(made)
    assert Path(f"/proc/{pid}/cgroup").exists()
    engine.start(made)
    container = _kept(made, identity)
    assert (container.status, container.attrs["State"]["Pid"]) == ("running", pid)
    with client(made) as connected:
        assert connected.containers.get(identity).exec_run("true").exit_code == 0


@pytest.mark.parametrize("release", engine.RELEASES)
def test_an_engine_survives_the_end_of_its_containerd(name: str, release: str, tiny_image: ImageArchive) -> None:
    made = ready(name, release, tiny_image)
    identity = _workload(made, tiny_image)
    engine.kill(made, "containerd")
    assert not engine.status(name).healthy
    engine.start(made, "containerd")
    with client(made) as connected:

        def runs() -> bool:
            return bool(connected.containers.get(identity).exec_run("true").exit_code == 0)

        eventually("dockerd has found containerd again", runs)


def test_bringing_up_an_engine_that_is_up_changes_nothing_but_what_is_asked_for(name: str) -> None:
    made = engine.up(name, say=report)
    assert made.release == engine.DEFAULT_RELEASE
    before = _pids(name)
    assert engine.up(name, made.release, say=report) == made
    assert _pids(name) == before
    labelled = engine.up(name, settings={"labels": ["rack=7"]}, tcp=engine.Tcp.TLS, say=report)
    assert engine.up(name, say=report) == labelled
    assert labelled.endpoint is not None
    with client(labelled) as connected:
        assert connected.info()["Labels"] == ["rack=7"]
    after = _pids(name)
    assert after["containerd"] == before["containerd"]
    assert after["dockerd"] != before["dockerd"]
    assert engine.up(name, tcp=engine.Tcp.NONE, say=report).endpoint is None


def test_what_was_killed_is_started_by_bringing_the_engine_up(name: str, tiny_image: ImageArchive) -> None:
    made = ready(name, "29", tiny_image)
    identity = _workload(made, tiny_image)
    for component in COMPONENTS:
        engine.kill(made, component)
    assert engine.up(name, say=report) == made
    _kept(made, identity)


def test_an_engine_does_not_become_another_release(name: str) -> None:
    engine.up(name, "20.10", say=report)
    with pytest.raises(LocalClusterError, match=r"20\.10, not 29") as caught:
        engine.up(name, "29", say=report)
    assert f"engine down --name {name}" in caught.value.remedy
    assert engine.status(name).healthy


def test_what_dockerd_does_not_take_is_said_with_its_own_words(name: str) -> None:
    with pytest.raises(LocalClusterError, match="no-such-setting") as caught:
        engine.up(name, settings={"no-such-setting": True}, say=report)
    assert "engine down" in caught.value.remedy
    assert components.running(Places.of(name), "dockerd") is None
