"""The commands as a user gives them: copies both ways, a command's streams, logs made plain, errors with remedies."""

import base64
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exec_server import ExecServer
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.cli.main import cli
from claude_sandbox.cli.work.copying import _RECEIVE as RECEIVE
from claude_sandbox.cli.work.copying import _not_received as not_received
from claude_sandbox.cli.work.cp import Remote, _end
from claude_sandbox.cli.work.plain import LONGEST_LINE, Lines, plain_line
from claude_sandbox.cli.work.ways.sessions import Ended


def run(server: ExecServer, *arguments: str) -> Result:
    # In another directory than the sandbox's commands: none of them works here.
    return CliRunner().invoke(cli, [arguments[0], "--kubeconfig", server.kubeconfig, *arguments[1:]])


@pytest.fixture
def here(tmp_path: Path, server: ExecServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's directory; paths in the sandbox begin in its own."""
    found = tmp_path / "here"
    found.mkdir()
    monkeypatch.chdir(found)
    return found


def names(of: Path) -> list[str]:
    return sorted(path.name for path in of.iterdir())


def tree(of: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(of)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(of.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def fill(directory: Path) -> Path:
    (directory / "src/deep/er").mkdir(parents=True)
    (directory / "src/one").write_bytes(b"1" * 1000)
    (directory / "src/empty").touch()
    (directory / "src/deep/er/run.sh").write_text("#!/bin/sh\n")
    (directory / "src/deep/er/run.sh").chmod(0o4755)
    (directory / "src/deep/link").symlink_to("../one")
    (directory / f"src/{'n' * 150}").write_text("long")
    (directory / "src/-odd name\n\x1b[31m").write_text("odd")
    os.link(directory / "src/one", directory / "src/same")
    return directory / "src"


def test_a_directory_is_copied_out_and_in_as_it_is(server: ExecServer, inside: Path, here: Path) -> None:
    source = fill(inside)
    found = run(server, "cp", f"agents/alice:{source}", ".")
    assert (found.exit_code, found.output) == (0, "")
    assert tree(here / "src") == tree(source)
    assert (here / "src/deep/er/run.sh").stat().st_mode & 0o7777 == 0o755
    assert names(here) == ["src"]
    found = run(server, "cp", "src", f"alice:{inside}/again")
    assert (found.exit_code, found.output) == (0, "")
    assert tree(inside / "again") == tree(source)
    assert not [one for one in names(inside) if one.startswith(".")]


def test_a_file_goes_into_a_directory_or_takes_a_files_place(server: ExecServer, inside: Path, here: Path) -> None:
    (inside / "note").write_text("new")
    (here / "note").write_text("old")
    assert run(server, "cp", f"alice:{inside}/note", ".").exit_code == 0
    assert (here / "note").read_text() == "new"
    assert run(server, "cp", f"alice:{inside}/note", "other").exit_code == 0
    assert run(server, "cp", "other", f"alice:{inside}/").exit_code == 0
    assert (inside / "other").read_text() == "new"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alice:{inside}/gone", "."], ["did not send all", "gone"]),
        (["alice:{inside}/src", "taken"], ["taken/src is there already", "Remove it"]),
        (["alice:{inside}/src", "no/where"], ["There is no directory no", "mkdir -p no"]),
        (["alice:/", "."], ["can't be copied as a whole"]),
        (["missing", "alice:{inside}"], ["There is no missing"]),
        (["taken", "alice:{inside}"], ["has a directory of that name already"]),
        (["taken", "alice:{inside}/no/where"], ["There is no directory for"]),
    ],
)
def test_what_can_not_be_copied_is_said(
    server: ExecServer, inside: Path, here: Path, arguments: list[str], said: list[str]
) -> None:
    fill(inside)
    (inside / "taken").mkdir()
    (here / "taken/src").mkdir(parents=True)
    before = (names(here), names(inside))
    found = run(server, "cp", *(one.format(inside=inside) for one in arguments))
    assert found.exit_code == 1
    assert all(one in found.output for one in said), found.output
    assert (names(here), names(inside)) == before


@pytest.mark.parametrize(
    ("errors", "remedy"),
    [
        (b"mktemp: failed to create directory via template '/etc/x': Read-only file system", "Name a place"),
        (b"mktemp: failed to create directory via template '/root/x': Permission denied", "Name a place"),
        (b"tar: copy: Cannot write: No space left on device", "room"),
    ],
)
def test_a_place_where_nothing_may_be_written_is_not_one_without_room(errors: bytes, remedy: str) -> None:
    assert remedy in not_received(Ended(1, errors), "/etc/").remedy


def test_a_copy_is_use_of_a_sandbox_that_would_be_idle(server: ExecServer, inside: Path, here: Path) -> None:
    source = fill(inside)
    assert run(server, "cp", f"alice:{source}", ".").exit_code == 0
    assert server.patches == []
    server.spec["lifecycle"] = {"idleTimeout": "30m"}
    assert run(server, "cp", f"alice:{source}/deep", ".").exit_code == 0
    assert [list(patch["metadata"]["annotations"]) for patch in server.patches] == [["claudesandbox.dev/active-at"]]
    # Who may not say so may copy all the same.
    server.may_patch = False
    assert run(server, "cp", "deep", f"alice:{inside}/up").exit_code == 0


@pytest.mark.parametrize("cut", [0, 600, 40_000, 200_000])
def test_a_copy_that_is_cut_leaves_nothing(server: ExecServer, inside: Path, here: Path, cut: int) -> None:
    source = fill(inside)
    (source / "large").write_bytes(os.urandom(300_000))
    server.cut_after = cut
    assert run(server, "cp", f"alice:{source}", ".").exit_code == 1
    assert names(here) == []
    (here / "up").mkdir()
    (here / "up/large").write_bytes(os.urandom(300_000))
    assert run(server, "cp", "up", f"alice:{inside}/up").exit_code == 1
    waiting = 100
    while names(inside) != ["src"] and waiting:
        subprocess.run(["sleep", "0.05"], check=True)
        waiting -= 1
    assert names(inside) == ["src"]


def test_what_comes_without_its_end_gets_no_name(inside: Path, tmp_path: Path) -> None:
    """Cut between two members, where no tar says anything; or before it was said how it comes."""
    (tmp_path / "copy").write_text("half")
    whole = subprocess.run(["tar", "-cf", "-", "-C", tmp_path, "copy"], capture_output=True, check=True).stdout[:1024]
    for sent in (b"whole\n" + whole, b"lines\n" + base64.b64encode(whole) + b"\n", b"lin", b""):
        done = subprocess.run(["sh", "-c", RECEIVE, "sh", f"{inside}/", "name"], input=sent, check=False)
        assert (done.returncode, names(inside)) == (35, []), sent[:10]


def test_a_copy_that_is_ended_by_a_signal_leaves_nothing(server: ExecServer, inside: Path, here: Path) -> None:
    (inside / "tar").write_text('#!/bin/sh\n/bin/tar "$@"\nexec sleep 20\n')
    (inside / "tar").chmod(0o755)
    (inside / "note").write_text("note")
    server.path = f"{inside}:{server.path}"
    command = [sys.executable, "-m", "claude_sandbox.cli.main", "cp", "--kubeconfig", server.kubeconfig]
    with subprocess.Popen([*command, f"alice:{inside}/note", "."], cwd=here) as process:
        waiting = 1200
        while not list(here.glob(".claude-sandbox-*/copy")) and waiting:
            time.sleep(0.05)
            waiting -= 1
        assert waiting
        process.terminate()
        assert process.wait(60) == 130
    assert names(here) == []


def test_a_copy_has_a_largest_size(server: ExecServer, inside: Path, here: Path) -> None:
    (inside / "large").write_bytes(bytes(5000))
    found = run(server, "cp", "--max-size", "4Ki", f"alice:{inside}/large", ".")
    assert (found.exit_code, names(here)) == (1, [])
    assert "more than 4096 bytes" in found.output


def test_both_or_neither_in_a_sandbox_is_an_error_of_the_command_line(server: ExecServer) -> None:
    assert run(server, "cp", "a", "b").exit_code == run(server, "cp", "alice:a", "bob:b").exit_code == 2
    assert run(server, "shell", "Alice").exit_code == run(server, "logs", "other/alice", "-n", "agents").exit_code == 2


def shell(server: ExecServer, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = [sys.executable, "-m", "claude_sandbox.cli.main", "shell", "--kubeconfig", server.kubeconfig, "alice"]
    return subprocess.run([*program, "--", *command], input=stdin, capture_output=True, check=False, timeout=60)


def test_a_command_has_our_streams_and_gives_its_exit_code(server: ExecServer) -> None:
    found = shell(server, "sh", "-c", "cat; echo err >&2; exit 9", stdin=b"\x1b[31m" * 20_000)
    assert (found.returncode, found.stdout, found.stderr) == (9, b"\x1b[31m" * 20_000, b"err\n")


def test_no_session_is_125(server: ExecServer) -> None:
    server.refused = ("exec",)
    found = run(server, "shell", "alice", "true")
    assert found.exit_code == 125
    assert "claudesandbox-worker" in found.output


def test_a_command_that_is_not_there_is_127_with_a_remedy(server: ExecServer) -> None:
    found = shell(server, "no-such-command")
    assert found.returncode == 127
    assert b"no program no-such-command in agents/alice" in found.stderr
    assert b"Remedy: Name one that its image has" in found.stderr


def test_logs_are_made_plain(server: ExecServer) -> None:
    server.log = b"one\ttwo\r\n\x1b]52;c;ZXZpbA==\x07\xff\xc2\x9b31m\n" + "\u202ex".encode()
    found = run(server, "logs", "alice", "--tail", "3", "--since", "1h", "--timestamps")
    assert found.stdout == "one\ttwo\n\\x1b]52;c;ZXZpbA==\\x07\\xff\\x9b31m\n\\u202ex\n"
    asked = server.asked[-1]
    assert all(one in asked for one in ("tailLines=3", "sinceTime=", "timestamps=true")), asked
    assert run(server, "logs", "alice", "--raw").stdout_bytes == server.log


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_lines_are_the_same_in_whatever_pieces(pieces: list[bytes]) -> None:
    lines = Lines()
    found = [line for piece in pieces for line in lines.take(piece)] + lines.end()
    assert found == b"".join(pieces).split(b"\n")[: len(found)]
    assert all(one.isprintable() for line in found for one in plain_line(line).split("\t"))


def test_a_line_without_end_is_shown_in_parts() -> None:
    lines = Lines()
    found = [line for _ in range(300) for line in lines.take(b"x" * 1000)] + lines.end()
    assert {len(line) for line in found[:-1]} == {LONGEST_LINE}
    assert sum(map(len, found)) == 300_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spec": {"operatingMode": "Suspended"}}, ["is suspended", "claude-sandbox resume agents/alice"]),
        (
            {"spec": {"incident": {"state": "Quarantined"}}},
            ["is in quarantine", "claude-sandbox incident lift agents/alice"],
        ),
        ({"status": {"lifecycle": {"ended": {"by": "TTL"}}}}, ["is suspended", "claude-sandbox resume agents/alice"]),
        (
            {"status": {"conditions": [{"type": "Ready", "reason": "Pulling", "message": "\x1b[2Jimage"}]}},
            ["Nothing of ClaudeSandbox agents/alice runs yet: Pulling. \\x1b[2Jimage", "kubectl describe"],
        ),
        ({"status": {"workload": {"name": "sandbox-alice", "uid": "p-2"}}}, ["is not the one that the operator made"]),
        ({"refused": ("claudesandboxes",)}, ["Ask for the right to get claudesandboxes in namespace agents"]),
        ({"refused": ("sandbox-alice",)}, ["Ask for the right to get pods"]),
        ({"refused": ("log",)}, ["get pods/log", "--clusterrole=claudesandbox-worker"]),
    ],
)
def test_why_there_is_nothing_to_see_is_said(server: ExecServer, change: dict[str, object], said: list[str]) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    found = run(server, "logs", "alice")
    assert found.exit_code == 4
    assert all(one in found.output for one in said), found.output


@given(st.from_regex(r"\A[a-z0-9:./\\ -]{0,20}\Z"))
def test_an_end_of_a_copy_is_here_unless_it_names_a_sandbox(text: str) -> None:
    found = _end(text)
    if text.startswith(("./", "/")) or ":" not in text:
        assert not isinstance(found, Remote)
