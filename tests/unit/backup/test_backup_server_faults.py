"""A server elsewhere without room, and one whose connections are cut in the middle: told, and nothing is lost by it."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from restickit import fill, restic
from s3_answers import s3_answers
from serverkit import Server, s3_server, sftp_server, ssh_programs

from claude_sandbox.backup import elsewhere
from claude_sandbox.backup.compare import compare
from claude_sandbox.backup.elsewhere import Elsewhere
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.restic import RepositoryError
from claude_sandbox.backup.servers import Server as Told
from claude_sandbox.backup.tree import walk

# restic asks a server of S3 again for minutes before it gives up.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PASSWORD = b"correct horse 4711"
CUT_AFTER = 2 << 20
"""Bytes to the server."""


class Lab:
    """A workspace, and a server."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server = root, server
        for one in ("source/workspace", "scratch", "cache"):
            (root / one).mkdir(parents=True)
        self.places = Places(root / "source", root / "scratch", root / "restored", patience=5)
        self.workspace = root / "source/workspace"
        fill(self.workspace)

    def back_up(self, port: int = 0, expected: str = "") -> dict[str, Any]:
        credentials = dict(self.server.credentials)
        if port and "known_hosts" in credentials:
            known = credentials["known_hosts"]
            credentials["known_hosts"] = known.replace(b":%d " % self.server.port, b":%d " % port)
        told = Told.read(self.server.order(**({"port": port} if port else {})))
        repository = Elsewhere(told, credentials, PASSWORD, str(self.root / "cache"), restic(), ssh_programs())
        return carry_out(Order("backup", "alice", "u1", repository=expected), repository, self.places)

    def restored(self, snapshot: str) -> dict[str, Any]:
        into = self.places.filled("workspace")
        subprocess.run(["rm", "-rf", str(into)], check=True)
        into.mkdir(parents=True)
        told = Told.read(self.server.order())
        given = self.server.credentials
        repository = Elsewhere(told, given, PASSWORD, str(self.root / "cache"), restic(), ssh_programs())
        return carry_out(Order("restore", "bob", "u2", snapshot=snapshot), repository, self.places)

    @property
    def locks(self) -> list[Path]:
        return list(self.server.repository.glob("locks/*"))

    def check(self) -> None:
        """restic's own word on all that is there."""
        environment = {"RESTIC_PASSWORD": PASSWORD.decode(), "HOME": "/tmp", "PATH": os.environ["PATH"]}
        command = [restic(), "-r", str(self.server.repository), "check", "--read-data", "--no-lock", "--no-cache"]
        subprocess.run(command, env=environment, check=True, capture_output=True)


SERVERS = {"S3": s3_server, "SFTP": sftp_server}


@pytest.fixture(params=["S3", "SFTP"])
def small(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A server that has 16 MiB."""
    if os.geteuid():
        pytest.skip("needs root, to make a file system that is small")
    monkeypatch.setattr(elsewhere, "_RACE", 0.0)
    (place := tmp_path / "server").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=True)
    try:
        with SERVERS[request.param](place) as server:
            yield Lab(tmp_path / "lab", server)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(params=["S3", "SFTP"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    if request.param == "SFTP" and os.geteuid():
        pytest.skip("needs root, for a server of SSH that has users of its own")
    monkeypatch.setattr(elsewhere, "_RACE", 0.0)
    with SERVERS[request.param](tmp_path) as server:
        yield Lab(tmp_path / "lab", server)


def test_a_server_without_room_is_told_and_what_was_there_stays_whole(small: Lab) -> None:
    first = small.back_up()
    assert first["different"] == 0
    (small.workspace / "large").write_bytes(os.urandom(24 << 20))
    with pytest.raises(RepositoryError) as refused:
        small.back_up(expected=first["repository"])
    assert refused.value.reason == "TargetFull", str(refused.value)
    (small.workspace / "large").unlink()
    # What was half stored takes the room of what comes next, until somebody prunes it; what was there is whole.
    assert small.restored(first["snapshot"])["different"] == 0


def test_a_connection_that_is_cut_in_the_middle_loses_nothing_and_the_next_backup_goes_on(lab: Lab) -> None:
    first = lab.back_up()
    (lab.workspace / "large").write_bytes(os.urandom(24 << 20))
    with cutting(lab.server.port) as port:
        # S3 asks again by another connection; SSH has one, which is gone.
        if lab.server.kind == "S3":
            assert lab.back_up(port, first["repository"])["different"] == 0
        else:
            with pytest.raises(RepositoryError) as refused:
                lab.back_up(port, first["repository"])
            assert refused.value.reason == "TargetUnreachable", str(refused.value)
    third = lab.back_up(expected=first["repository"])
    assert (third["different"], third["repository"]) == (0, first["repository"])
    assert not lab.locks
    lab.check()
    for one in (first, third):
        assert lab.restored(one["snapshot"])["different"] == 0
    found = compare(walk(lab.workspace, digests=True), (), walk(lab.places.filled("workspace"), digests=True))
    assert found.different == 0, found.examples


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(elsewhere, "_RACE", 0.0)
    with s3_server(tmp_path) as server:
        yield Lab(tmp_path / "lab", server)


SLOW_DOWN = (503, "SlowDown", "Please reduce your request rate.")


def test_a_server_that_asks_for_fewer_requests_for_a_while_gets_the_whole_backup(s3: Lab) -> None:
    first = s3.back_up()
    (s3.workspace / "large").write_bytes(os.urandom(24 << 20))
    with s3_answers(s3.server) as answers:
        stores = Counted(SLOW_DOWN, first=2, last=7)
        answers.told = stores
        again = s3.back_up(answers.port, first["repository"])
        assert [status for *_, status in answers.given] == [503] * 5
    assert (again["different"], again["problem"]) == (0, "")
    assert not s3.locks
    s3.check()


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (SLOW_DOWN, "RepositoryBusy"),
        ((503, "", "503 Service Unavailable"), "TargetUnreachable"),
        ((507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."), "TargetFull"),
        ((507, "", "<title>507 Insufficient Storage</title>"), "TargetFull"),
        ((403, "QuotaExceeded", ""), "TargetFull"),
        ((403, "AccessDenied", "Access Denied."), "CredentialsRefused"),
    ],
    ids=["SlowDown", "503", "full", "507", "quota", "403"],
)
def test_a_server_that_refuses_in_the_middle_is_told_and_the_next_backup_goes_on(
    s3: Lab, told: tuple[int, str, str], reason: str
) -> None:
    first = s3.back_up()
    kept = s3.root / "kept"
    subprocess.run(["cp", "-a", str(s3.workspace), str(kept)], check=True)
    (s3.workspace / "large").write_bytes(os.urandom(24 << 20))
    with s3_answers(s3.server) as answers:
        answers.told = Counted(told, first=2)
        with pytest.raises(RepositoryError) as refused:
            s3.back_up(answers.port, first["repository"])
    assert refused.value.reason == reason, str(refused.value)
    assert answers.given
    # What was there is whole, and nobody's lock is in the way.
    assert s3.restored(first["snapshot"])["different"] == 0
    assert not compare(walk(kept, digests=True), (), walk(s3.places.filled("workspace"), digests=True)).different
    third = s3.back_up(expected=first["repository"])
    assert (third["different"], third["problem"]) == (0, "")
    assert not s3.locks
    s3.check()


def test_a_server_that_refuses_while_the_copy_is_restored_leaves_a_snapshot_that_is_not_verified(s3: Lab) -> None:
    # restic asks for each pack again for a while: there are few.
    first = s3.back_up()
    with s3_answers(s3.server) as answers:

        def told(method: str, path: str) -> tuple[int, str, str] | None:
            is_read = method == "GET" and "/data/" in path
            return (403, "AccessDenied", "Access Denied.") if is_read else None

        answers.told = told
        again = s3.back_up(answers.port, first["repository"])
    assert again["different"] > 0
    assert again["problem"].startswith("CredentialsRefused: ")
    # What was stored is there all the same.
    assert s3.restored(again["snapshot"])["different"] == 0


class Counted:
    """An answer to what is stored of data, from the `first` such request on, and before the `last`."""

    def __init__(self, answer: tuple[int, str, str], first: int, last: int = 1 << 30) -> None:
        self._answer, self._first, self._last = answer, first, last
        self._count = 0
        self._one = threading.Lock()

    def __call__(self, method: str, path: str) -> tuple[int, str, str] | None:
        if method != "PUT" or "/data/" not in path:
            return None
        with self._one:
            self._count += 1
            return self._answer if self._first <= self._count < self._last else None


@contextmanager
def cutting(to: int) -> Iterator[int]:
    """A port that leads there, and cuts the first connection by which more than CUT_AFTER bytes come."""
    left = [1]

    def serve(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", to)) as far:
            threading.Thread(target=pump, args=(far, near, False), daemon=True).start()
            pump(near, far, True)

    def pump(source: socket.socket, sink: socket.socket, counts: bool) -> None:
        count = 0
        try:
            while part := source.recv(64 << 10):
                count += len(part)
                if counts and count > CUT_AFTER and left:
                    left.clear()
                    break
                sink.sendall(part)
        except OSError:
            pass
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(near,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
        assert not left, "nothing was cut"
