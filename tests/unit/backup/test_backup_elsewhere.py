"""Backups to servers elsewhere: real ones for S3 and SFTP, which let nobody in who has not what they ask for."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from restickit import fill, restic
from serverkit import SECRET, Server, s3_server, sftp_server, ssh_programs

from claude_sandbox.backup import elsewhere
from claude_sandbox.backup.elsewhere import Elsewhere
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.restic import RepositoryError
from claude_sandbox.backup.servers import Server as Told

PASSWORD = b"correct horse 4711"


class Lab:
    """A workspace, and a server that is there."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server, self.program = root, server, restic()
        for one in ("source/workspace", "scratch", "cache"):
            (root / one).mkdir(parents=True)
        self.places = Places(root / "source", root / "scratch", root / "restored", patience=1)
        self.workspace = root / "source/workspace"
        fill(self.workspace)

    def repository(self, password: bytes = PASSWORD, credentials: Any = None, **told: Any) -> Elsewhere:
        given = self.server.credentials if credentials is None else credentials
        server = Told.read(self.server.order(**told))
        return Elsewhere(server, given, password, str(self.root / "cache"), self.program, ssh_programs())

    def back_up(
        self, repository: Elsewhere | None = None, uid: str = "u1", expected: str = "", **more: Any
    ) -> dict[str, Any]:
        order = Order("backup", "alice", uid, repository=expected, **more)
        return carry_out(order, repository or self.repository(), self.places)

    def refused(self, repository: Elsewhere) -> str:
        with pytest.raises(RepositoryError) as refused:
            self.back_up(repository)
        return refused.value.reason


def only_slow(kind: str) -> Any:
    """Of both kinds of servers one in each run, and the other where slow tests run too."""
    kinds = [pytest.param(one, marks=[] if one != kind else [pytest.mark.slow]) for one in ("S3", "SFTP")]
    return pytest.mark.parametrize("lab", kinds, indirect=True)


@pytest.fixture(params=["S3", "SFTP"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    if request.param == "SFTP" and os.geteuid():
        pytest.skip("needs root, for a server of SSH that has users of its own")
    monkeypatch.setattr(elsewhere, "_FIRST", 20.0)
    monkeypatch.setattr(elsewhere, "_RACE", 0.0)
    serving = s3_server if request.param == "S3" else sftp_server
    with serving(tmp_path) as server:
        yield Lab(tmp_path / "lab", server)


def test_a_backup_is_kept_there_verified_and_restored(lab: Lab) -> None:
    first = lab.back_up()
    assert (first["different"], first["unread"], first["problem"]) == (0, 0, "")
    assert (lab.server.repository / "config").exists()
    (lab.workspace / "src/main.py").write_text("print('other')\n")
    again = lab.back_up(keep={"last": 1})
    assert (again["different"], again["removed"], again["left"]) == (0, 1, "")
    assert not list(lab.server.repository.glob("locks/*"))

    (into := lab.places.filled("workspace")).mkdir(parents=True)
    told = carry_out(Order("restore", "bob", "u2", snapshot=again["snapshot"]), lab.repository(), lab.places)
    assert told["different"] == 0
    assert (into / "src/main.py").read_text() == "print('other')\n"


@only_slow("S3")
def test_what_lets_in_is_in_no_argument_variable_or_file(lab: Lab, tmp_path: Path) -> None:
    spy = tmp_path / "restic"
    look = (
        "while [ -d /proc/$id ] && [ -e /proc/$id/exe ]; do cat /proc/$id/environ /proc/$id/cmdline;"
        ' for one in /proc/$id/fd/*; do [ -f "$one" ] && cat "$one"; done; sleep 0.1; done'
    )
    (seen := tmp_path / "seen").mkdir()
    spy.write_text(f'#!/bin/sh\nid=$$\n( {look} ) >{seen}/$id 2>/dev/null &\nexec {lab.program} "$@"\n')
    spy.chmod(0o755)
    lab.program = str(spy)
    assert lab.back_up()["different"] == 0
    assert any(file.stat().st_size for file in seen.iterdir())
    key = lab.server.credentials.get("ssh-privatekey", b"")
    secrets = [PASSWORD, SECRET.encode() if lab.server.kind == "S3" else key.splitlines()[2]]
    looked_at = [seen, lab.root, lab.server.directory]
    for file in (one for place in looked_at for one in place.rglob("*") if one.is_file()):
        assert not [one for one in secrets if one in file.read_bytes()], file


@only_slow("SFTP")
def test_another_password_is_refused_and_nothing_is_written(lab: Lab) -> None:
    lab.back_up()
    before = sorted(lab.server.directory.rglob("*"))
    assert lab.refused(lab.repository(b"another")) == "WrongPassword"
    assert sorted(lab.server.directory.rglob("*")) == before


def test_who_has_not_what_the_server_asks_for_is_told_so(lab: Lab, tmp_path: Path) -> None:
    given = lab.server.credentials
    assert lab.refused(lab.repository(credentials={})) == "CredentialsRefused"
    if lab.server.kind == "S3":
        other: dict[str, bytes] = {"secret-access-key": b"another"}
        unknown = {"ca.crt": b""}
    else:
        key = Path(ssh_programs(), "ssh-keygen")
        subprocess.run([key, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
        other = {"ssh-privatekey": (tmp_path / "other").read_bytes()}
        kind, public, *_ = (tmp_path / "other.pub").read_bytes().split()
        unknown = {"known_hosts": b"[127.0.0.1]:%d %s %s\n" % (lab.server.port, kind, public)}
    assert lab.refused(lab.repository(credentials=given | other)) == "CredentialsRefused"
    # A server that is not the one which the Secret knows is told nothing.
    assert lab.refused(lab.repository(credentials=given | unknown)) == "TargetUnreachable"
    assert lab.refused(lab.repository(port=1)) == "TargetUnreachable"
    assert not list(lab.server.directory.iterdir())


@only_slow("SFTP")
def test_a_repository_that_lost_its_configuration_or_a_bucket_that_is_not_there_is_no_new_one(lab: Lab) -> None:
    if lab.server.kind == "S3":
        assert lab.refused(lab.repository(path="not-there")) == "TargetNotWritable"
        assert not (lab.server.directory.parent / "not-there").exists()
    lab.back_up()
    (lab.server.repository / "config").unlink()
    with pytest.raises(RepositoryError):
        lab.back_up()


@only_slow("S3")
def test_what_another_has_locked_is_waited_for_and_older_snapshots_stay_meanwhile(lab: Lab) -> None:
    lab.back_up()
    # Of a machine of another name, and fresh: nobody but its holder may take it away.
    held = lock_of_another(lab)
    told = lab.back_up(keep={"last": 1})
    assert (told["different"], told["removed"]) == (0, 0)
    assert "already locked" in told["left"]
    assert held.exists()


@only_slow("SFTP")
def test_a_target_that_was_emptied_is_told_and_so_is_another_repository_in_it(lab: Lab) -> None:
    first = lab.back_up()
    shutil.rmtree(lab.server.repository)
    with pytest.raises(RepositoryError) as refused:
        lab.back_up(expected=first["repository"])
    assert refused.value.reason == "RepositoryGone"
    assert not lab.server.repository.exists()
    assert lab.back_up()["repository"] != first["repository"]
    with pytest.raises(RepositoryError) as refused:
        lab.back_up(expected=first["repository"])
    assert refused.value.reason == "AnotherRepository"


@only_slow("S3")
def test_of_two_that_make_it_at_the_same_moment_at_most_one_goes_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two operators of two clusters may: both look first, and then both make one."""
    monkeypatch.setattr(elsewhere, "_RACE", 5.0)
    looked, real = threading.Barrier(2), Elsewhere.make

    def make(self: Elsewhere) -> str:
        looked.wait(60)
        return real(self)

    monkeypatch.setattr(Elsewhere, "make", make)
    told = []

    def one(name: str) -> None:
        (cache := lab.root / name).mkdir()
        server = Told.read(lab.server.order())
        made = Elsewhere(server, lab.server.credentials, PASSWORD, str(cache), lab.program, ssh_programs())
        try:
            with made.claimed(5):
                told.append(made.prepare())
        except RepositoryError as error:
            told.append(error.reason)

    threads = [threading.Thread(target=one, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    identities = [one for one in told if len(one) == 64]
    assert len(told) == 2
    assert set(told) <= {*identities, "RepositoryDamaged", "BackupFailed"}, told
    assert len(identities) < 2 or len(set(identities)) == 1, told


def lock_of_another(lab: Lab) -> Path:
    """A lock that a reader on another machine holds."""
    repository = str(lab.server.repository)
    environment = {"RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD": PASSWORD.decode(), "HOME": "/tmp"}
    (slow := lab.root / "slow").mkdir()
    (slow / "file").write_bytes(os.urandom(4 << 20))
    locks = lab.server.repository / "locks"
    command = [lab.program, "backup", "--limit-upload", "1", str(slow)]
    if shutil.which("unshare"):
        command = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh", *command]
    running = subprocess.Popen(command, env=environment | {"PATH": os.environ["PATH"]}, stdout=-3, stderr=-3)
    while not (found := [one for one in locks.glob("*") if "-tmp-" not in one.name]):
        assert running.poll() is None
    running.kill()
    running.wait()
    return found[0]
