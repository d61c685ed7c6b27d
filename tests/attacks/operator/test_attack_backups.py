"""What an agent, and who may make backups, could want of a backup.

The agent: to have the program that reads its workspace read something else, above all the repository's password, and to
find that in what is restored later. It exchanges a directory for a link while it is read. What closes it: the walk goes
by handles, and there is no file with the password that any path leads to once the agent's files are read.

Who may make ClaudeSandboxBackups, and no pods: to have the operator write into a claim, or use a Secret, that was never
meant for backups. What closes it: both have to opt in. Or to have what makes the backup connect to where they can't, by
a name that leads into the cluster, to the host or to what hands out a cloud's credentials; or by a name of a host, user
or file that ssh takes for an option. What closes it: the operator resolves names and judges addresses before it has
anything made; and no such name begins with a dash.

Who has a repository's password writes a snapshot himself, with which whatever reads it ends, to be begun anew for ever.
What closes it: a helper tells of each end, and of those that can't so many are begun at most.
"""

import asyncio
import dataclasses
import functools
import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from restickit import fill, restic

from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.api.kinds.targets import BackupTarget
from claude_sandbox.backends.backups import NotNowError, Wanted
from claude_sandbox.backends.kubernetes.backups.helpers import KubernetesBackups, pod
from claude_sandbox.backup import __main__ as program
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.restic import Repository
from claude_sandbox.backup.tree import walk
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.controller.backups.passwords import Passwords
from claude_sandbox.kubernetes_api.errors import ApiError

PASSWORD = b"not-really-a-password-4711"
IMAGE = Image("example.org/operator@sha256:1", None, "Never")


def wanted() -> Wanted:
    target = BackupTarget.model_validate({"type": "VolumeClaim", "claimName": "database"})
    order = {"action": "backup", "sandbox": "alice", "uid": "s"}
    return Wanted("agents", "one", "u", Identity("agents", "alice", "s"), target, "database", "password", order)


def test_a_directory_that_becomes_a_link_leads_the_walk_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("not-really-a-key")
    inside = tmp_path / "inside"
    (inside / "a").mkdir(parents=True)
    (inside / "a/secret").write_text("mine")
    real = os.open

    def swapped(path: Any, *arguments: Any, **named: Any) -> int:
        if path == b"a":
            shutil.rmtree(inside / "a")
            (inside / "a").symlink_to(tmp_path / "outside")
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", swapped)
    found = list(walk(inside, digests=True))
    assert [one.path for one in found] == [b"", b"a"]
    assert found[1].unread


def test_no_path_leads_to_the_password_while_the_workspace_is_read(tmp_path: Path) -> None:
    """Whatever of the process a link could lead to is read in restic's place."""
    for one in ("source/workspace", "repository", "scratch", "cache"):
        (tmp_path / one).mkdir(parents=True)
    fill(tmp_path / "source/workspace")
    seen = tmp_path / "seen"
    seen.mkdir()
    # What its environment, its arguments and its handles lead to.
    spy = tmp_path / "restic"
    look = (
        "while [ -d /proc/$id ] && [ -e /proc/$id/exe ]; do cat /proc/$id/environ /proc/$id/cmdline;"
        ' for one in /proc/$id/fd/*; do [ -f "$one" ] && cat "$one"; done; sleep 0.1; done'
    )
    spy.write_text(f'#!/bin/sh\nid=$$\n( {look} ) >{seen}/$id 2>/dev/null &\nexec {restic()} "$@"\n')
    spy.chmod(0o755)
    places = Places(tmp_path / "source", tmp_path / "scratch", tmp_path / "restored", patience=0.1)
    repository = Repository(str(tmp_path / "repository"), PASSWORD, str(tmp_path / "cache"), str(spy))
    assert carry_out(Order("backup", "alice", "u1"), repository, places)["different"] == 0
    assert any(file.stat().st_size for file in seen.iterdir())
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or PASSWORD not in file.read_bytes(), file


def test_the_container_that_reads_the_workspace_has_no_secret_mounted() -> None:
    spec = pod(wanted(), IMAGE, None, {})["spec"]
    secrets = {one["name"] for one in spec["volumes"] if "secret" in one}
    (work,) = spec["containers"]
    assert secrets
    assert not secrets & {one["name"] for one in work["volumeMounts"]}
    assert not [one for one in work.get("env", ()) if "valueFrom" in one]


@pytest.mark.parametrize("host", ["10.96.0.1", "127.0.0.1", "169.254.169.254", "192.168.0.1"])
def test_a_server_inside_is_connected_to_by_nobody(host: str) -> None:
    at = {"host": host, "user": "root", "path": "/a"}
    target = BackupTarget.model_validate({"type": "SFTP", "sftp": at, "credentialsSecretRef": {"name": "backups"}})
    cluster: Any = Cluster()
    asked = dataclasses.replace(wanted(), target=target)
    with pytest.raises(NotNowError) as refused:
        asyncio.run(KubernetesBackups(cluster, IMAGE, Passwords(cluster).allowed).start(asked))
    assert refused.value.reason is BackupReason.TARGET_NOT_ALLOWED
    assert not cluster.made


@pytest.mark.parametrize("where", [{"host": "-oProxyCommand=id"}, {"user": "-oProxyCommand=id"}, {"path": "a b"}])
def test_nothing_of_a_target_is_an_option_of_sshs(where: dict[str, str]) -> None:
    at = {"host": "backups.example.org", "user": "root", "path": "/a"} | where
    with pytest.raises(ValidationError):
        BackupTarget.model_validate({"type": "SFTP", "sftp": at, "credentialsSecretRef": {"name": "backups"}})


class Cluster:
    """An API server's answers: claims and Secrets without a word that they are for backups."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    async def get(self, resource: Any, name: str, namespace: str, **_: Any) -> dict[str, Any]:
        if resource.plural == "pods":
            raise ApiError(404, "NotFound", "there is none")
        labels = {"claudesandbox.dev/sandbox": "alice"} if name.startswith("sandbox-alice") else {}
        claim = {"resources": {"requests": {"storage": "1Gi"}}}
        return {"metadata": {"name": name, "labels": labels}, "spec": claim, "type": "Opaque"}

    async def list(self, *_: Any, **__: Any) -> Any:
        return type("Listing", (), {"items": []})

    async def create(self, _: Any, body: Any, __: Any) -> None:
        self.made.append(body)


def test_a_claim_and_a_secret_that_did_not_opt_in_are_not_used() -> None:
    cluster: Any = Cluster()
    with pytest.raises(NotNowError) as refused:
        asyncio.run(KubernetesBackups(cluster, IMAGE, Passwords(cluster).allowed).start(wanted()))
    assert refused.value.reason is BackupReason.TARGET_NOT_ALLOWED
    for used in (Passwords(cluster).allowed, Passwords(cluster).read):
        with pytest.raises(NotNowError) as refused:
            asyncio.run(used(wanted()))  # type: ignore[arg-type]  # either
        assert refused.value.reason is BackupReason.SECRET_NOT_OPTED_IN
    assert not cluster.made


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("workspace.list", b"[" * 100_000),
        ("workspace.list", b"[[1,2,3,4,5,6,7,8]]\n"),
        ("workspace.list", b"[]\n"),
        ("workspace.list", b"{}\n"),
        ("workspace.list", b'[["a","file","mode","size","time",0,null,[]]]\n'),
        ("workspace.list.gz", gzip.compress(os.urandom(5000))[:3000]),
        ("workspace.list.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 50),
    ],
    ids=["deep", "numbers", "empty", "mapping", "words", "cut", "packed"],
)
def test_a_list_that_somebody_wrote_himself_ends_a_restore_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    for one in ("source/workspace", "repository", "scratch/about", "cache", "restored"):
        (tmp_path / one).mkdir(parents=True)
    fill(tmp_path / "source/workspace")
    (tmp_path / "scratch/about" / name).write_bytes(content)
    places = Places(tmp_path / "source", tmp_path / "scratch", tmp_path / "restored", patience=0.1)
    places.filled("workspace").mkdir(parents=True)
    repository = Repository(str(tmp_path / "repository"), PASSWORD, str(tmp_path / "cache"), restic())
    with repository.claimed(0.1):
        repository.prepare()
        repository.run("backup", "--host", "somebody", str(tmp_path / "source/workspace"), str(places.about))
    (snapshot,) = repository.snapshot_names()
    monkeypatch.setattr(program, "carry_out", functools.partial(carry_out, places=places))
    monkeypatch.setattr(program, "_repository", lambda *_: repository)
    monkeypatch.setattr(program, "_CACHE", str(tmp_path / "cache"))
    order = {"action": "restore", "sandbox": "bob", "uid": "u2", "snapshot": snapshot}
    found = program._came_of(json.dumps(order), PASSWORD, {})
    assert found["outcome"] == "Failed"
    assert "the order" not in found["message"]
