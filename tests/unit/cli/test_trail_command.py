"""`claude-sandbox trail`: what it shows, what it finds, and with which exit code."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from trails import ALICE, START, Trail, begun, made

from claude_sandbox.cli.main import cli
from claude_sandbox.trail.keys import PUBLIC
from claude_sandbox.trail.records import Kind, Record
from claude_sandbox.trail.segments import present


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Trail:
    return made(tmp_path_factory.mktemp("shown"))


def run(*arguments: object, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["trail", *map(str, arguments)], input=given)


def test_records_are_shown_and_checkpoints_are_not(trail: Trail) -> None:
    shown = run("show", trail.directory)
    rows = shown.output.splitlines()
    assert shown.exit_code == 0
    assert rows[0].split() == ["TIME", "SEQ", "KIND", "OBJECT", "WHAT"]
    assert len(rows) == 1 + 16
    assert rows[1].split(maxsplit=4)[2:] == ["Healed", "agents/alice", "heal 0"]
    assert len(run("show", trail.directory, "--all").output.splitlines()) == 1 + len(trail.copied)


def test_what_is_asked_for_is_shown_alone(trail: Trail) -> None:
    for wanted, count in {
        ("--sandbox", "agents/alice"): 16, ("--sandbox", "alice"): 16, ("--sandbox", ALICE.uid): 16,
        ("--sandbox", "agents/bob"): 0, ("--kind", "Healed"): 16, ("--kind", "Refused"): 0,
        ("--kind", "Segment"): len(present(trail.directory)), ("--since", "2026-02-01"): 0,
        ("--since", "2025-12-31"): 16,
    }.items():  # fmt: skip
        assert len(run("show", trail.directory, *wanted).output.splitlines()) == 1 + count, wanted


def test_as_json_each_line_is_what_was_written(trail: Trail) -> None:
    shown = run("show", trail.directory, "--all", "-o", "json").output.splitlines()
    assert [json.loads(one) for one in shown] == [json.loads(one) for one in trail.copied]


def test_a_log_with_other_lines_in_it_is_read(trail: Trail) -> None:
    log = b"".join(b"pod/operator " + line + b"\nsomething else\n{}\n" for line in trail.copied)
    assert len(run("show", "-", given=log).output.splitlines()) == 1 + 16


def test_what_holds_no_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("no line\n")
    for source in (tmp_path / "empty", tmp_path):
        assert run("show", source).exit_code == 4
    assert run("show", tmp_path / "missing").exit_code == 4


def test_nothing_that_a_record_says_reaches_the_terminal(tmp_path: Path) -> None:
    trail = begun(tmp_path)
    evil = "\x1b]0;title\x07\u202e\nmore"
    trail.store.commit([Record(kind, START, ALICE, {"message": evil}) for kind in (Kind.HEALED, Kind.REFUSED)])
    trail.store.commit([Record(Kind.RESULTS_CHANGED, START, ALICE, {"changes": [{"control": evil}]})])
    trail.store.commit([Record(Kind.DENIED, START, ALICE, {"denied": [{"entry": evil}], evil: 1})])
    trail.store.close()
    for options in ((), ("-o", "json")):
        shown = run("show", trail.directory, *options).output
        assert all(row.isprintable() for row in shown.splitlines())
        assert len(shown.splitlines()) == 4 + (0 if options else 1)


def test_a_whole_trail_is_verified(trail: Trail, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"\n".join(trail.copied))
    for key in (trail.directory / PUBLIC, trail.store.public_key):
        alone = run("verify", trail.directory, "--public-key", key)
        assert alone.exit_code == 0, alone.output
        assert "can't be told without a copy" in alone.output
        found = run("verify", trail.directory, "--public-key", key, "--checkpoint", tmp_path / "copy")
        assert found.exit_code == 0
        assert f"kept elsewhere {len(trail.copied)} are there." in found.output
    document = json.loads(run("verify", trail.directory, "--public-key", key, "--json").output)
    assert document["ok"] is True
    assert document["lines"] == len(trail.copied)


def test_what_is_wrong_is_named_with_its_line(trail: Trail, tmp_path: Path) -> None:
    shutil.copytree(trail.directory, tmp_path / "trail")
    path = present(tmp_path / "trail")[1][1]
    path.write_bytes(path.read_bytes().replace(b"heal 5", b"heal 6"))
    found = run("verify", tmp_path / "trail", "--public-key", trail.store.public_key)
    assert found.exit_code == 1
    assert f"WRONG  {path.name}:" in found.output
    assert "NOT what was written" in found.output
    document = json.loads(run("verify", tmp_path / "trail", "--public-key", trail.store.public_key, "--json").output)
    assert document["ok"] is False
    assert document["findings"][0]["segment"] == path.name


def test_a_rollback_is_found_by_one_remembered_checkpoint(trail: Trail, tmp_path: Path) -> None:
    shutil.copytree(trail.directory, tmp_path / "trail")
    present(tmp_path / "trail")[-1][1].unlink()
    (tmp_path / "one").write_bytes(trail.copied[-1])
    key = trail.store.public_key
    assert run("verify", tmp_path / "trail", "--public-key", key).exit_code == 0
    found = run("verify", tmp_path / "trail", "--public-key", key, "--checkpoint", tmp_path / "one")
    assert found.exit_code == 1
    assert "rolled back" in found.output


def test_a_command_line_that_is_wrong_is_told(trail: Trail, tmp_path: Path) -> None:
    (tmp_path / "no-key").write_text("nothing")
    for arguments in (
        (trail.directory,),
        (trail.directory, "--public-key", "abc"),
        (trail.directory, "--public-key", tmp_path / "no-key"),
    ):
        assert run("verify", *arguments).exit_code == 2, arguments
    for arguments in (
        (tmp_path / "missing", "--public-key", trail.store.public_key),
        (trail.directory, "--public-key", trail.store.public_key, "--checkpoint", tmp_path / "missing"),
    ):
        assert run("verify", *arguments).exit_code == 4, arguments


def test_the_options_of_a_trail_need_one() -> None:
    from claude_sandbox.cli.operator.command import run as operator

    for option in (["--trail-key", "key"], ["--trail-export", "stdout"]):
        done = CliRunner().invoke(operator, ["--sandbox-image", "a@sha256:" + "a" * 64, *option])
        assert done.exit_code == 2
        assert "--trail-directory" in done.output
    done = CliRunner().invoke(
        operator, ["--sandbox-image", "a", "--trail-directory", "d", "--trail-export", "http://a"]
    )
    assert done.exit_code == 2
    assert "syslog" in done.output
