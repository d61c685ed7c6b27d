"""`claude-sandbox audit`: what it shows of a gateway's lines, and what of lines that are none."""

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from claude_sandbox.cli.audit.command import audit
from claude_sandbox.cli.audit.files import FollowedFile
from claude_sandbox.cli.audit.lines import MAX_LINE, parse
from claude_sandbox.cli.audit.summary import MAX_NAMES, Summary, remedy
from claude_sandbox.cli.main import cli
from claude_sandbox.cli.values import moment

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def line(kind: str = "request", at: int = 0, **fields: object) -> str:
    time_ = (NOW + timedelta(seconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": time_, "kind": kind, "verdict": "Allowed", **fields}) + "\n"


REQUEST = line(sandbox="uid-1", namespace="team-a", name="work", model="claude-opus-5-5", status=200, inputTokens=10,
               outputTokens=20, cacheReadTokens=3, costUSD=0.25, durationMs=1500, rule="allowed")  # fmt: skip
DENIED = line("tunnel", 60, sandbox="uid-1", namespace="team-a", name="work", verdict="Refused", host="pypi.org",
              port=443, status=403, rule="not in allowedDomains")  # fmt: skip
OTHER_PORT = line("tunnel", 61, sandbox="uid-2", verdict="Refused", host="git.example.org", port=22,
                  rule="not in allowedDomains")  # fmt: skip


def run(*arguments: str, given: str | bytes = "") -> Result:
    return CliRunner().invoke(audit, ["-", *arguments], input=given)


def test_it_shows_a_row_for_each_line() -> None:
    result = run(given=REQUEST + DENIED)
    head, first, second = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert head.split() == ["TIME", "SANDBOX", "VERDICT", "STATUS", "WHAT", "SECONDS", "USD", "RULE"]
    assert first.split() == ["2026-03-01T12:00:00.000", "team-a/work", "Allowed", "200", "claude-opus-5-5", "1.500",
                             "0.2500", "allowed"]  # fmt: skip
    assert second.split()[3:5] == ["403", "pypi.org"]


def test_requests_to_services_and_repositories_are_lines_too() -> None:
    service = line("service", 1, verdict="Refused", service="issues", method="GET", path="/admin", rule="path",
                   host="issues.services", port=80)  # fmt: skip
    repository = line("git", 2, verdict="Refused", repository="git.example.org/a/b", rule="read-only")
    result = run(given=service + repository)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()[1:]
    assert "issues GET /admin" in first
    assert "git.example.org/a/b" in second
    sums = run("--summary", given=service + repository).stdout
    assert "paths, of this one of spec.services" in sums
    assert "push, of this one of spec.repositories" in sums
    assert remedy("path", "") is None


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--verdict", "Refused"), [DENIED, OTHER_PORT]),
        (("--verdict", "Refused", "--verdict", "Allowed"), [REQUEST, DENIED, OTHER_PORT]),
        (("--sandbox", "uid-2"), [OTHER_PORT]),
        (("--sandbox", "work"), [REQUEST, DENIED]),
        (("--sandbox", "team-a/work"), [REQUEST, DENIED]),
        (("--sandbox", "team-b/work"), []),
        (("--since", "2026-03-01T12:00:30"), [DENIED, OTHER_PORT]),
        (("--since", "1m"), []),
        (("--domain", "PyPI.org."), [DENIED]),
        (("--domain", "*.example.org"), [OTHER_PORT]),
        (("--model", "claude-opus-*"), [REQUEST]),
        (("--model", "*", "--verdict", "Refused"), []),
    ],
)
def test_filters(arguments: tuple[str, ...], shown: list[str]) -> None:
    result = run(*arguments, "-o", "json", given=REQUEST + DENIED + OTHER_PORT)
    found = [
        {key: value for key, value in json.loads(one).items() if key != "time"} for one in result.stdout.splitlines()
    ]
    assert found == [{key: value for key, value in json.loads(one).items() if key != "time"} for one in shown]
    assert result.exit_code == 0


def test_the_summary_says_what_would_allow_what_was_refused() -> None:
    result = run("--summary", given=REQUEST * 2 + DENIED * 3 + OTHER_PORT)
    assert 'spec.network.egress.allowedDomains: ["pypi.org"]' in result.stdout
    assert 'spec.network.egress.allowedDomains: ["git.example.org:22"]' in result.stdout
    document = json.loads(run("--summary", "-o", "json", given=REQUEST * 2 + DENIED * 3).stdout)
    assert document["models"] == [{"model": "claude-opus-5-5", "requests": 2, "inputTokens": 20, "outputTokens": 40,
                                   "cacheTokens": 6, "costUSD": "0.50", "estimated": 0}]  # fmt: skip
    assert document["refused"][0]["count"] == 3


@pytest.mark.parametrize(
    ("rule", "destination", "said"),
    [
        ("not in allowedDomains", "10.0.0.1:443", "nothing: addresses can't be allowed"),
        ("not in allowedDomains", "kubernetes.default.svc", "nothing: names of a cluster"),
        ("not in allowedDomains", "", "nothing: "),
        ("denied: *.paste.example", "a.paste.example", "the administrator's list"),
        ("model", "", "spec.model.allowed"),
        ("budget", "", "spec.budget"),
    ],
)
def test_no_line_is_advised_that_would_be_refused(rule: str, destination: str, said: str) -> None:
    assert said in (remedy(rule, destination) or "")


def test_for_what_nothing_should_allow_nothing_is_advised() -> None:
    assert [remedy(rule, "pypi.org") for rule in ("SNIMismatch", "identity", "EncryptedClientHello")] == [None] * 3


def test_lines_of_others_are_counted_and_told_and_control_characters_are_made_plain() -> None:
    evil = line("tunnel", host="\x1b[2Jevil\r\n\u202e.example", verdict="Refused", rule="x", port=443)
    result = run(given="Starting up\n" + evil + "\n{not json}\n" + REQUEST)
    assert result.exit_code == 0
    assert result.stderr == "2 lines of standard input are no lines of an audit.\n"
    assert "?[2Jevil???.example" in result.stdout
    assert not set(result.stdout) - {"\n"} - set(map(chr, range(0x20, 0x7F)))


def test_what_holds_no_line_of_an_audit_is_an_error() -> None:
    result = run(given=b"\xff\xfe\n{}\n[1]\n" + b'{"kind":"request","time":3}\n' + b"x" * (3 * MAX_LINE) + b"\n")
    assert result.exit_code == 4
    assert "5 lines of standard input are no lines of an audit.\nError: none is one." in result.stderr
    assert run().exit_code == 0


@pytest.mark.parametrize("arguments", [("--follow",), ("--since", "soon"), ("--verdict", "Maybe"), ("--top", "0")])
def test_what_makes_no_sense_is_a_wrong_command_line(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["audit", str(tmp_path / "none")])
    assert result.exit_code == 4
    assert "No such file or directory. Name a file" in result.stderr


def test_a_prefix_of_kubectl_is_passed_over() -> None:
    found = parse(f"[pod/gateway-1/gateway] 2026-03-01T12:00:00Z {REQUEST}".encode())
    assert found is not None
    assert found.sandbox == "team-a/work"


ODD = st.sampled_from([10**400, "0001-01-01T00:00:00+23:00"])
VALUE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), ODD)
FIELDS = st.dictionaries(st.sampled_from(["time", "host", "port", "costUSD", "durationMs", "model", "rule"]), VALUE)


def whole(fields: dict[str, object]) -> bytes:
    return json.dumps({"time": "2026-03-01T12:00:00Z", "kind": "request", "verdict": "Refused", **fields}).encode()


@settings(max_examples=40)
@example(b'{"time":"2026-03-01T12:00:00Z","kind":"request","verdict":"Refused","model":"x","costUSD":true}')
@given(st.binary(max_size=200) | FIELDS.map(whole))
def test_no_line_whatever_is_in_it_breaks_anything(data: bytes) -> None:
    for arguments in ((), ("--summary",), ("-o", "json"), ("--summary", "-o", "json")):
        result = run(*arguments, given=data + b"\n")
        assert isinstance(result.exception, SystemExit | None), result.exception
        if "json" in arguments and result.stdout:
            json.loads(result.stdout, parse_constant=pytest.fail)


@pytest.mark.parametrize("field", ["durationMs", "costUSD", "port"])
def test_a_number_that_is_too_large_for_any_use_counts_nothing(field: str) -> None:
    for arguments in ((), ("--summary",)):
        result = run(*arguments, given=whole({field: 10**400, "model": "m", "host": "a.example"}) + b"\n")
        assert (result.exit_code, str(10**30) in result.stdout) == (0, False)


def test_an_agent_that_makes_up_names_makes_no_summary_endless() -> None:
    sums = Summary()
    for number in range(MAX_NAMES + 50):
        made_up = parse(line("tunnel", host=f"{number}.example", verdict="Refused", model=f"m{number}", costUSD=1,
                             sandbox=str(number), rule="not in allowedDomains").encode())  # fmt: skip
        assert made_up is not None
        sums.add(made_up)
    assert len(sums.refused) == len(sums.models) == len(sums.sandboxes) == MAX_NAMES + 1
    assert sums.refused.total() == MAX_NAMES + 50
    assert "--top" in "\n".join(sums.text(5))


def test_ages_and_times() -> None:
    assert moment("90s", NOW) == NOW - timedelta(seconds=90)
    assert moment("2026-03-01T12:00:00+01:00", NOW) == NOW - timedelta(hours=1)
    with pytest.raises(ValueError, match="isoformat"):
        moment("yesterday", NOW)


def test_a_file_is_followed_as_it_grows_and_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_sandbox.cli.audit.files._LOOK", 0.01)
    path, seen = tmp_path / "log", list[bytes]()
    path.write_bytes(b"one\ntw")

    def read() -> None:
        with path.open("rb") as file:
            growing = FollowedFile(path, file)
            seen.extend(growing.readline(100) for _ in range(4))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    _until(lambda: len(seen) == 1)
    with path.open("ab") as file:
        file.write(b"o\n")
    _until(lambda: len(seen) == 2)
    (tmp_path / "new").write_bytes(b"number three\n")
    (tmp_path / "new").rename(path)
    _until(lambda: len(seen) == 3)
    path.write_bytes(b"4\n")
    thread.join(10)
    assert seen == [b"one\n", b"two\n", b"number three\n", b"4\n"]


def test_nothing_is_missed_of_a_file_that_is_replaced_twice_while_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, looked = tmp_path / "log", 0
    path.write_bytes(b"1\n")
    late = path.open("ab", buffering=0)

    def look(_seconds: float) -> None:
        """What happens while the reader waits."""
        nonlocal looked
        looked += 1
        assert looked < 20
        if looked == 1:
            late.write(b"2\n")
            path.rename(tmp_path / "log.1")
            path.write_bytes(b"4\n")
        elif looked == 2:
            # Not yet told that its file has another name.
            late.write(b"3\n torn")
            path.rename(tmp_path / "log.2")
            path.write_bytes(b"5\n")

    monkeypatch.setattr("claude_sandbox.cli.audit.files.time.sleep", look)
    growing = FollowedFile(path, path.open("rb"))
    seen = [growing.readline(100) for _ in range(6)]
    late.close()
    assert seen == [b"1\n", b"2\n", b"3\n", b" torn\n", b"4\n", b"5\n"]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)
