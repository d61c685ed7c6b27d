"""What an engine is configured to be, where it keeps things, and what it says where it can't be had."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from claude_sandbox.localcluster import description, engine
from claude_sandbox.localcluster.description import Description
from claude_sandbox.localcluster.engine import EngineDescription, Tcp, api, config, listen, places, record
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.programs.os_packages import Needed, Programs
from claude_sandbox.localcluster.programs.os_packages import ensure as ensure_packages


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def _engine(release: str = "29", tcp: Tcp = Tcp.NONE, settings: str = "{}") -> EngineDescription:
    return EngineDescription("mine", release, False, tcp, None if tcp is Tcp.NONE else 20001, settings)


def _daemon(of: EngineDescription) -> dict[str, object]:
    document: dict[str, object] = json.loads(config.dockerd(of, of.places, of.names, Path("/init")))
    return document


def test_nothing_of_an_engine_is_where_another_keeps_its_own() -> None:
    one, other = _engine(), EngineDescription("other", "29")
    first, second = _daemon(one), _daemon(other)
    assert {first[name] != second[name] for name in ("data-root", "hosts", "containerd", "cgroup-parent")} == {True}
    containerd = tomllib.loads(config.containerd(one.places, one.names))
    assert containerd["root"].startswith(str(one.places.root))
    assert containerd["grpc"]["address"] == first["containerd"]
    # A cluster of the same name has other files, and other names on the machine.
    cluster = Layout.of("mine")
    assert one.places.root != cluster.root
    assert one.names.id != Names.of(cluster).id


def test_a_sockets_path_is_short_enough_however_long_the_state_directorys_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("long" * 50)))
    assert len(str(_engine().socket_path)) < 100


def test_only_the_old_release_has_a_key_and_keeps_it_among_its_files() -> None:
    assert "deprecated-key-path" not in _daemon(_engine("29"))
    key = str(_daemon(_engine("20.10"))["deprecated-key-path"])
    assert Path(key).is_relative_to(_engine().places.root)


@pytest.mark.parametrize("tcp", Tcp)
def test_the_port_is_open_as_asked_for(tcp: Tcp) -> None:
    made = _daemon(_engine(tcp=tcp))
    assert made["hosts"] == [_engine().socket, *([] if tcp is Tcp.NONE else ["fd://"])]
    assert made.get("tlsverify", False) is (tcp is Tcp.TLS)


def test_what_is_asked_for_comes_on_top() -> None:
    assert _daemon(_engine(settings='{"live-restore": true, "labels": ["a=b"]}'))["live-restore"] is True


@pytest.mark.parametrize("tcp", Tcp)
def test_a_description_is_read_as_it_was_written(tcp: Tcp) -> None:
    made = _engine(tcp=tcp, settings='{"debug": true}')
    made.places.make()
    record.save(made.places, made)
    assert record.load(made.places) == made


def test_an_engines_port_and_slot_stay_its_own_while_it_is_down() -> None:
    first = record.settle(EngineDescription("mine", "29", tcp=Tcp.TLS), True)
    assert record.load(first.places) == first
    # The same search, from the same place.
    shutil.rmtree(first.places.root)
    record.save(_made("other"), replace(first, name="other"))
    again = record.settle(EngineDescription("mine", "29", tcp=Tcp.TLS), True)
    assert again.port not in (None, first.port)
    assert again.slot not in (None, first.slot)
    # Once chosen, they stay.
    assert record.settle(again, None) == record.settle(again, True) == again
    assert record.settle(again, False) == replace(again, slot=None)


def test_an_engine_has_neither_port_nor_slot_of_a_cluster_that_is_down() -> None:
    first = record.settle(EngineDescription("mine", "29", tcp=Tcp.TLS), True)
    shutil.rmtree(first.places.root)
    cluster = Layout.of("mine")
    cluster.make()
    assert first.port is not None
    assert first.slot is not None
    description.save(cluster, Description("mine", "1.34.4", {"etcd": first.port}, first.slot))
    again = record.settle(EngineDescription("mine", "29", tcp=Tcp.TLS), True)
    assert again.port not in (None, first.port)
    assert again.slot not in (None, first.slot)


def _made(name: str) -> places.Places:
    found = places.Places.of(name)
    found.make()
    return found


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tcp": "Carrier pigeon"}'])
def test_a_description_that_was_damaged_is_none(text: str) -> None:
    made = _engine()
    made.places.make()
    made.places.record.write_text(text)
    assert record.load(made.places) is None


def test_only_root_can_have_an_engine(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LocalClusterError, match="root") as caught:
        engine.up("mine", say=print)
    assert "DOCKER_HOST" in caught.value.remedy
    assert list(home.iterdir()) == []


def test_an_unknown_release_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(LocalClusterError, match=r"19\.03") as caught:
        engine.up("mine", "19.03", say=print)
    assert all(release in caught.value.remedy for release in engine.RELEASES)


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "..", "x" * 33])
def test_a_name_that_can_not_be_a_directorys_is_refused(name: str) -> None:
    with pytest.raises(LocalClusterError):
        places.Places.of(name)


def test_what_is_not_there_is_said_with_the_way_to_make_it() -> None:
    with pytest.raises(LocalClusterError, match="no engine 'mine'") as caught:
        engine.status("mine")
    assert "engine up --name mine" in caught.value.remedy
    assert engine.down("mine", print) is False
    with pytest.raises(LocalClusterError, match="does not run"):
        engine.kill(_engine())
    with pytest.raises(LocalClusterError, match="containerd, dockerd"):
        engine.kill(_engine(), "runc")


def test_a_program_is_handed_a_socket_as_a_service_manager_does() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = (
        "import os, socket; s = socket.socket(fileno=3); c, _ = s.accept();"
        "c.sendall(f\"{os.environ['LISTEN_FDS']} {os.environ['LISTEN_PID'] == str(os.getpid())}\".encode())"
    )
    command = [sys.executable, "-I", listen.__file__, str(port), sys.executable, "-c", script]
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), 10) as connected:
                    assert connected.recv(100) == b"1 True"
                    break
            except ConnectionRefusedError:
                continue
    assert process.returncode == 0


def test_nothing_listens_where_nothing_is(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    assert not api.listens(path)
    assert not api.answers(path)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        assert not api.listens(path)
        with pytest.raises(LocalClusterError, match="does not answer"):
            api.version(path)


def test_files_of_packages_are_looked_for_among_what_was_unpacked_and_then_on_the_machine(tmp_path: Path) -> None:
    library = tmp_path / "usr/lib/some-linux-gnu/libthing.a"
    library.parent.mkdir(parents=True)
    library.touch()
    programs = Programs(tmp_path)
    assert programs.file("usr/lib/*/libthing.a") == library
    assert programs.file("proc/self/status") == Path("/proc/self/status")
    assert programs.file("usr/lib/*/no-such-library.a") is None


def test_nothing_is_fetched_where_all_files_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    said: list[str] = []
    ensure_packages(Needed(("base-files",), (), ("proc/self/status",)), said.append)
    assert said == []
