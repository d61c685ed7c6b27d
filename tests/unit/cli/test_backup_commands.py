"""`claude-sandbox backup` and `restore`: what they make, wait for, say and exit with."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner, Result

from claude_sandbox.api.kinds.backups import VolumeSnapshotSource
from claude_sandbox.api.validate import InvalidSpec, parse_backup_spec, parse_spec
from claude_sandbox.cli.backups import backup as backing
from claude_sandbox.cli.backups import restore as restoring
from claude_sandbox.cli.backups import waiting
from claude_sandbox.cli.work import progress
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import Resource

Object = dict[str, Any]

KEY = {"apiKeySecretRef": {"name": "key"}}


@dataclass
class Server:
    """Objects by plural and name; a status for each look at what is made, the last one for ever."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    made: list[tuple[str, Object]] = field(default_factory=list)
    statuses: list[Object] = field(default_factory=list)
    looks: int = 0
    refuses: ApiError | None = None

    async def create(self, resource: Resource, body: Mapping[str, Any], namespace: str) -> Object:
        if self.refuses is not None:
            raise self.refuses
        self.made.append((namespace, dict(body)))
        self.objects[resource.plural, body["metadata"]["name"]] = dict(body)
        return dict(body)

    async def get(self, resource: Resource, name: str, namespace: str) -> Object:
        found = self.objects.get((resource.plural, name))
        if found is None:
            raise ApiError(404, "NotFound", "not found")
        if self.made and self.made[-1][1]["metadata"]["name"] == name and self.statuses:
            self.looks += 1
            return found | {"status": self.statuses[min(self.looks, len(self.statuses)) - 1]}
        return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()

    @asynccontextmanager
    async def connected(_: object) -> AsyncIterator[tuple[Server, str]]:
        yield found, "agents"

    monkeypatch.setattr(backing, "connected", connected)
    monkeypatch.setattr(restoring, "connected", connected)
    monkeypatch.setattr(waiting, "EVERY", 0.0)
    return found


def run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def status(complete: str, reason: str, verified: str, message: str = "as it is") -> Object:
    return {
        "conditions": [
            {"type": "Complete", "status": complete, "reason": reason, "message": f"complete: {message}"},
            {"type": "BackupVerified", "status": verified, "reason": "x", "message": f"verified: {message}"},
        ]
    }


RUNNING = status("False", "Running", "Unknown")


def test_it_makes_a_backup_waits_and_says_what_was_verified(server: Server) -> None:
    server.statuses = [{}, RUNNING, RUNNING, status("True", "Stored", "True")]
    result = run(backing.backup, "alice", "--claim", "backups", "--secret", "b", "--keep-last", "3", "--home")
    assert result.exit_code == 0
    ((namespace, made),) = server.made
    assert namespace == "agents"
    assert made["metadata"]["name"].startswith("alice-2")
    spec = parse_backup_spec(made)
    assert (spec.sandbox_name, spec.target.claim_name, spec.password_secret_ref.name) == ("alice", "backups", "b")
    assert (spec.retention and spec.retention.kept, spec.include_home) == ({"last": 3}, True)
    assert result.stdout.strip().endswith("verified: as it is")
    assert result.stderr.count("complete: as it is") == 1, "what is not new is said once"


@pytest.mark.parametrize("terminal", [True, False])
def test_on_a_terminal_it_shows_how_far_it_is(server: Server, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    far = {"phase": "Save", "percent": 40, "files": 4, "totalFiles": 10, "sizeBytes": 4096, "totalBytes": 10240}
    server.statuses = [RUNNING, RUNNING | {"progress": far}, status("True", "Stored", "True")]
    monkeypatch.setattr(progress, "_BEGINS", -1.0)
    monkeypatch.setattr(progress, "_EVERY", -1.0)
    shows = progress.Progress

    def shown(what: str) -> progress.Progress:
        line = shows(what)
        line._shows = terminal
        return line

    monkeypatch.setattr(waiting, "Progress", shown)
    result = run(backing.backup, "alice", "--claim", "backups", "--secret", "b")
    assert ("saving, 40 % (4.0 KiB of 10.0 KiB, 4 of 10 files)\x1b[K\r\x1b[K" in result.stderr) == terminal
    assert ("\x1b" in result.stderr) == terminal
    # Of a restore only bytes are known.
    assert waiting.how_far(far | {"phase": "Restore", "files": 0}) == "restoring, 40 % (4.0 KiB of 10.0 KiB)"


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ((), None),
        (("--volume-snapshot",), VolumeSnapshotSource()),
        (("--volume-snapshot-class", "fast"), VolumeSnapshotSource(class_name="fast")),
    ],
)
def test_one_of_one_moment_is_asked_for_by_its_option(server: Server, asked: tuple[str, ...], wanted: object) -> None:
    server.statuses = [status("True", "Stored", "True")]
    assert run(backing.backup, "alice", "--claim", "backups", "--secret", "b", *asked).exit_code == 0
    assert parse_backup_spec(server.made[0][1]).volume_snapshot == wanted


def test_a_snapshot_for_a_docker_hosts_directory_is_refused(server: Server) -> None:
    server.statuses = [status("True", "Stored", "True")]
    assert run(backing.backup, "bob", "--host-directory", "--secret", "b", "--volume-snapshot").exit_code == 0
    with pytest.raises(InvalidSpec, match="volumeSnapshot: is for sandboxes on Kubernetes"):
        parse_backup_spec(server.made[0][1])


def test_beginning_anew_names_the_repository_that_is_lost(server: Server) -> None:
    server.statuses = [status("True", "Stored", "True")]
    asked = ("alice", "--host-directory", "--secret", "b")
    assert run(backing.backup, *asked, "--replaces", "a" * 64).exit_code == 0
    assert parse_backup_spec(server.made[0][1]).replaces_repository == "a" * 64
    with pytest.raises(InvalidSpec, match="must be a repository's identifier"):
        parse_backup_spec({**server.made[0][1], "spec": server.made[0][1]["spec"] | {"replacesRepository": "z" * 64}})


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (status("True", "Stored", "False"), "verified: as it is"),
        (status("False", "WrongPassword", "Unknown"), "complete: as it is"),
    ],
)
def test_one_that_failed_or_differs_is_told_by_the_exit_code(server: Server, ended: Object, told: str) -> None:
    server.statuses = [ended]
    result = run(backing.backup, "other/alice", "--host-directory", "--secret", "b")
    assert result.exit_code == 1
    assert told in result.stderr
    assert server.made[0][0] == "other"
    assert parse_backup_spec(server.made[0][1]).include_home is False


@pytest.mark.parametrize(
    ("options", "target"),
    [
        (
            ("--server", "https://s3.example.org:9000/backups/a/b", "--region", "eu-1", "--credentials", "c"),
            {
                "type": "S3", "credentialsSecretRef": {"name": "c"}, "s3": {
                    "endpoint": "https://s3.example.org:9000", "bucket": "backups", "prefix": "a/b", "region": "eu-1"
                },
            },
        ),
        (
            ("--server", "sftp://claude@backups.example.org/srv/agents"),
            {
                "type": "SFTP", "credentialsSecretRef": {"name": "b"},
                "sftp": {"host": "backups.example.org", "user": "claude", "path": "/srv/agents"},
            },
        ),
        (
            ("--server", "sftp://claude@backups.example.org:2222/~/agents"),
            {
                "type": "SFTP", "credentialsSecretRef": {"name": "b"},
                "sftp": {"host": "backups.example.org", "user": "claude", "path": "agents", "port": 2222},
            },
        ),
    ],
)  # fmt: skip
def test_a_server_is_named_by_its_url(server: Server, options: tuple[str, ...], target: Object) -> None:
    result = run(backing.backup, "alice", "--secret", "b", "--no-wait", *options)
    assert result.exit_code == 0, result.output
    ((_, made),) = server.made
    parse_backup_spec(made)
    assert made["spec"]["target"] == target


@pytest.mark.parametrize(
    "options",
    [
        ("--server", "http://a/b"), ("--server", "https://a"), ("--server", "sftp://a/b"), ("--server", "sftp://u@a"),
        ("--server", "sftp://u:p@a/b"), ("--server", "https://k:s@a/b"), ("--server", "sftp://u@a:x/b"),
        ("--server", ""), ("--server", "https://a/b", "--host-directory"), ("--host-directory", "--region", "a"), (),
        ("--claim", "a", "--credentials", "b"),
    ],
)  # fmt: skip
def test_a_target_that_makes_no_sense_is_refused(server: Server, options: tuple[str, ...]) -> None:
    assert run(backing.backup, "alice", "--secret", "b", *options).exit_code == 2
    assert not server.made


def test_without_waiting_it_says_where_to_look(server: Server) -> None:
    result = run(backing.backup, "alice", "--claim", "b", "--secret", "b", "--no-wait")
    assert (result.exit_code, server.looks) == (0, 0)
    assert "kubectl describe claudesandboxbackup alice-2" in result.stderr


def test_one_that_somebody_has_to_help_is_waited_for_as_long_as_is_said(server: Server) -> None:
    server.statuses = [status("False", "TargetNotAllowed", "Unknown", "its administrator sets spec.backupDirectory")]
    result = run(backing.backup, "alice", "--host-directory", "--secret", "b", "--timeout", "1")
    assert result.exit_code == 1
    assert "is not over after 1 s: complete: its administrator sets spec.backupDirectory" in result.stderr
    assert "It goes on. See: kubectl describe claudesandboxbackup alice-2" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("alice", "--secret", "b"),
        ("alice", "--secret", "b", "--claim", "c", "--host-directory"),
        ("alice", "--claim", "c"),
        ("alice", "--claim", "c", "--secret", "b", "--keep-last", "0"),
        ("Alice!", "--claim", "c", "--secret", "b"),
    ],
)
def test_a_command_line_that_is_wrong_makes_nothing(server: Server, arguments: tuple[str, ...]) -> None:
    assert run(backing.backup, *arguments).exit_code == 2
    assert not server.made


def test_a_refusal_is_told_with_what_was_asked(server: Server) -> None:
    server.refuses = ApiError(403, "Forbidden", "no")
    for result in (run(backing.backup, "alice", "--claim", "b", "--secret", "b"), restored(server)):
        assert result.exit_code == 1
        assert "agents/" in result.output


def test_what_the_operator_says_can_not_move_the_terminal(server: Server) -> None:
    server.statuses = [status("True", "Stored", "True", "\x1b[2Jgone")]
    assert "\x1b" not in run(backing.backup, "alice", "--claim", "b", "--secret", "b").output


def restored(server: Server, *arguments: str, **spec: Any) -> Result:
    server.objects["claudesandboxbackups", "first"] = {"spec": {"sandboxName": "alice"}}
    server.objects["claudesandboxes", "alice"] = {"spec": {"credentials": KEY, **spec}}
    return run(restoring.restore, "first", "--as", "again", *arguments)


def test_a_new_sandbox_has_the_old_ones_spec_and_begins_with_the_backup(server: Server) -> None:
    done = {"state": "Restored", "message": "3 files were restored."}
    waiting_status = {"conditions": [{"type": "Ready", "message": "The workspace is being restored."}]}
    server.statuses = [waiting_status, {"restore": done}]
    result = restored(server, resources={"cpu": 1}, restoreFrom={"backupName": "earlier"})
    assert (result.exit_code, result.stdout) == (0, "ClaudeSandbox agents/again: 3 files were restored.\n")
    ((_, made),) = server.made
    spec = parse_spec(made)
    assert spec.restore_from is not None
    assert (spec.restore_from.backup_name, spec.resources.cpu) == ("first", 1)
    assert "being restored" in result.stderr


def test_that_the_old_one_was_suspended_or_in_quarantine_is_no_wish_for_the_new_one(server: Server) -> None:
    result = restored(server, "--no-wait", operatingMode="Suspended", incident={"state": "Quarantined"})
    assert result.exit_code == 0
    assert server.made[0][1]["spec"].keys() == {"credentials", "restoreFrom"}


@pytest.mark.parametrize(
    ("lifecycle", "kept"),
    [
        ({"shutdownTime": "2027-01-01T00:00:00Z", "shutdownPolicy": "Suspend"}, None),
        ({"shutdownTime": "2027-01-01T00:00:00Z", "ttl": "8h"}, {"ttl": "8h"}),
        ({"shutdownTime": "2027-01-01T00:00:01Z"}, {"shutdownTime": "2027-01-01T00:00:01Z"}),
        ({"idleTimeout": "1h"}, {"idleTimeout": "1h"}),
    ],
)
def test_a_time_that_is_over_does_not_suspend_the_new_one(lifecycle: Object, kept: Object | None) -> None:
    old = {"credentials": KEY, "lifecycle": lifecycle}
    found = restoring.spec_of(old, datetime(2027, 1, 1, tzinfo=UTC))
    assert found.get("lifecycle") == kept
    parse_spec({"metadata": {"name": "again"}, "spec": found})


def test_a_restore_that_failed_is_told_by_the_exit_code(server: Server) -> None:
    server.statuses = [{"restore": {"state": "Failed", "message": "the workspace has entries already"}}]
    result = restored(server)
    assert result.exit_code == 1
    assert "entries already" in result.stderr


def test_where_the_backup_or_its_sandbox_is_gone_it_says_what_to_do(server: Server) -> None:
    result = run(restoring.restore, "first", "--as", "again")
    assert result.exit_code == 1
    assert "first" in result.output
    server.objects["claudesandboxbackups", "first"] = {"spec": {"sandboxName": "alice"}}
    result = run(restoring.restore, "first", "--as", "again")
    assert result.exit_code == 1
    assert "spec.restoreFrom.backupName first" in result.output
    assert not server.made
