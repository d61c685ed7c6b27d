"""Names, directories, locks, logs and descriptions."""

import fcntl
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.localcluster import claims, description, layout
from claude_sandbox.localcluster.description import APISERVER, Wish
from claude_sandbox.localcluster.engine import EngineDescription, Tcp, record
from claude_sandbox.localcluster.engine.places import Places
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.logs import Reader


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


@given(st.text())
def test_no_name_leads_out_of_the_clusters_directory(name: str) -> None:
    try:
        found = Layout.of(name)
    except LocalClusterError:
        return
    assert found.root.parent == layout.clusters_dir()
    assert found.root.resolve().parent == layout.clusters_dir().resolve()
    assert found.name == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a-", "A", "a b", "a" * 33, "a\n", "ä"])
def test_names_that_would_surprise_are_refused(name: str) -> None:
    with pytest.raises(LocalClusterError):
        Layout.of(name)


def test_a_relative_state_home_is_ignored_as_the_specification_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert layout.clusters_dir() == Path.home() / ".local/state/claude-sandbox/clusters"


def test_private_files_and_directories_are_their_owners_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        made = Layout(tmp_path / "cluster")
        made.make()
        layout.write_private(made.record, "x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(made.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.record.stat().st_mode) == 0o600
    assert not list(made.root.glob(".*"))


def test_a_lock_keeps_others_out_and_tells_that_it_waits(tmp_path: Path) -> None:
    directory = tmp_path / "locked"
    code = (
        "import sys; from pathlib import Path\n"
        "from claude_sandbox.localcluster.locks import locked\n"
        "with locked(Path(sys.argv[1]), lambda: print('waiting', flush=True)): print('in', flush=True)"
    )
    with locked(directory):
        other = subprocess.Popen([sys.executable, "-c", code, directory], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"
        (directory / "made-inside").touch()
        shutil.rmtree(directory)
    # It waited on the directory that was removed, and made another.
    assert other.stdout.read() == "in\n"
    assert other.wait(30) == 0
    assert directory.is_dir()


def test_a_lock_holds_while_everyone_removes_its_directory_at_the_end(tmp_path: Path) -> None:
    directory, inside = tmp_path / "parent" / "locked", tmp_path / "inside"
    code = (
        "import sys; from pathlib import Path\n"
        "from claude_sandbox.localcluster.locks import locked\n"
        "directory, inside = map(Path, sys.argv[1:])\n"
        "for _ in range(300):\n"
        "    with locked(directory):\n"
        "        inside.mkdir()\n"  # Fails where someone else is inside.
        "        inside.rmdir()\n"
        "        directory.rmdir()\n"
        "        try: directory.parent.rmdir()\n"
        "        except OSError: pass"
    )
    everyone = [
        subprocess.Popen([sys.executable, "-c", code, directory, inside], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [each.communicate(timeout=120)[1] for each in everyone]
    assert [each.returncode for each in everyone] == [0] * 4, said


def test_a_place_where_no_directory_can_be_is_an_error_and_no_endless_wait() -> None:
    with pytest.raises(OSError, match="/proc"), locked(Path("/proc/claude-sandbox/locked")):
        pass


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), locked(tmp_path):
        raise ValueError("inside")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_a_log_that_grows_in_any_pieces_is_read_line_by_line_once(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    reader = Reader(path)
    seen = reader.new_lines()
    for piece in [*pieces, b"\n"]:
        with path.open("ab") as file:
            file.write(piece)
        seen += reader.new_lines()
    expected = (b"".join(pieces) + b"\n").split(b"\n")[:-1]
    assert seen == [line.decode(errors="replace") for line in expected]


def test_a_log_that_was_begun_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a long first line\n")
    reader = Reader(path)
    reader.new_lines()
    path.write_text("new\n")
    assert reader.new_lines() == ["new"]


def test_a_cluster_keeps_what_it_was_given(home: Path) -> None:
    made = Layout.of("alice")
    first = description.settle(made, Wish(version="1.37", controllers=True))
    assert description.settle(made, Wish()) == first
    assert description.load(made) == first
    assert (first.release, first.controllers, first.node) == ("1.37.2", True, False)


def test_a_node_is_added_with_its_controllers_and_never_taken_away(home: Path) -> None:
    made = Layout.of("alice")
    before = description.settle(made, Wish())
    after = description.settle(made, Wish(node=True))
    assert (after.node, after.controllers) == (True, True)
    assert (after.ports, after.slot, after.release) == (before.ports, before.slot, before.release)
    assert before.server == f"https://127.0.0.1:{before.ports[APISERVER]}"
    assert after.server == f"https://{after.addresses.gateway_ip}:{before.ports[APISERVER]}"
    assert description.settle(made, Wish()) == after


def test_two_clusters_share_no_port_and_no_network(home: Path) -> None:
    # Names whose search begins at the same place would be the worst case; a chosen port makes one.
    one = description.settle(Layout.of("alice"), Wish())
    other = description.settle(Layout.of("bob"), Wish(port=max(one.ports.values()) + 1))
    assert not set(one.ports.values()) & set(other.ports.values())
    assert one.slot != other.slot
    assert len(set(other.ports.values())) == 5


def _engine_with(ports: int | None, slot: int | None) -> None:
    engine = Places.of("docker")
    engine.make()
    record.save(engine, EngineDescription("docker", "29", tcp=Tcp.TLS, port=ports, slot=slot))


def test_a_cluster_has_neither_port_nor_network_of_an_engine_that_is_down(home: Path) -> None:
    made = Layout.of("alice")
    before = description.settle(made, Wish())
    shutil.rmtree(made.root)
    _engine_with(before.ports[APISERVER], before.slot)
    after = description.settle(made, Wish())
    assert before.ports[APISERVER] not in after.ports.values()
    assert after.slot != before.slot
    with pytest.raises(LocalClusterError, match="belongs to the engine 'docker'"):
        description.settle(Layout.of("bob"), Wish(port=before.ports[APISERVER]))


def test_a_cluster_waits_for_an_engine_that_chooses_at_the_same_moment(home: Path) -> None:
    made = Layout.of("alice")
    before = description.settle(made, Wish())
    shutil.rmtree(made.root)
    with ThreadPoolExecutor(1) as pool:
        with claims.choosing():
            coming = pool.submit(description.settle, made, Wish())
            with pytest.raises(TimeoutError):
                coming.result(0.3)
            _engine_with(None, before.slot)
        assert coming.result().slot != before.slot


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"slot": 1, "ports": 7}'])
def test_what_is_no_record_keeps_nobody_from_choosing(home: Path, content: str) -> None:
    for one in (Layout.of("bob"), Places.of("bob")):
        one.make()
        one.record.write_text(content)
    description.settle(Layout.of("alice"), Wish())


def test_a_cluster_of_ipv6_stays_one(home: Path) -> None:
    made = Layout.of("alice")
    before = description.settle(made, Wish(node=True, ipv6=True))
    assert before.server == f"https://[{before.addresses.gateway_ip}]:{before.ports[APISERVER]}"
    assert description.settle(made, Wish()) == before


@pytest.mark.parametrize("wish", [Wish(version="1.37"), Wish(port=20000), Wish(version="9.9"), Wish(ipv6=True)])
def test_a_wish_that_contradicts_the_cluster_changes_nothing(home: Path, wish: Wish) -> None:
    made = Layout.of("alice")
    before = description.settle(made, Wish(version="1.34"))
    with pytest.raises(LocalClusterError):
        description.settle(made, wish)
    assert description.load(made) == before


def test_another_clusters_port_is_refused_even_while_nothing_listens_there(home: Path) -> None:
    one = description.settle(Layout.of("alice"), Wish())
    with pytest.raises(LocalClusterError, match="'alice'"):
        description.settle(Layout.of("bob"), Wish(port=one.ports["etcd"]))
    assert description.load(Layout.of("bob")) is None


def test_a_file_that_is_someone_elses_is_never_made_a_kubeconfig(home: Path) -> None:
    precious = home / "precious"
    precious.write_text("contexts of my production clusters")
    with pytest.raises(LocalClusterError, match="precious"):
        description.settle(Layout.of("alice"), Wish(copy=precious))
    assert description.load(Layout.of("alice")) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"name": 1}', "null"])
def test_a_damaged_record_counts_as_none(home: Path, damage: str) -> None:
    made = Layout.of("alice")
    description.settle(made, Wish())
    made.record.write_text(damage)
    assert description.load(made) is None
