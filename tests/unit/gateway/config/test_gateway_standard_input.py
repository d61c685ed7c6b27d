"""A gateway whose configuration and key come on its standard input: `python -m claude_sandbox.gateway --config -`."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.config.standard_input import InputFollower
from claude_sandbox.gateway.git.repositories import Opened


def line(revision: str, identity: str = "one", credential: Any = "sk-one", git: Any = None, **sandbox: Any) -> bytes:
    one = {
        "uid": "uid-1",
        "identitySHA256": [hashlib.sha256(identity.encode()).hexdigest()],
        "credential": {"file": "-", "generation": revision},
        **sandbox,
    }
    message = {
        "configuration": {"version": 1, "listen": {}, "sandboxes": [one]},
        "credential": credential,
        "revision": revision,
        **({"git": git} if git is not None else {}),
    }
    return base64.b64encode(json.dumps(message).encode()) + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def started(pipe: tuple[int, int], *lines: bytes) -> InputFollower:
    os.write(pipe[1], b"".join(lines))
    found = InputFollower(pipe[0], lambda _: None)
    found.start()
    return found


async def test_what_comes_is_followed(pipe: tuple[int, int]) -> None:
    found = started(pipe, line("1"))
    assert found.report() == {"configuration": "followed", "revision": "1"}
    credential = found.live.credentials["uid-1"]
    assert (credential.text, credential.generation) == ("sk-one", "1")
    assert "sk-one" not in repr(found.live)
    sandbox = await found.live.identify("one", "10.0.0.1")
    assert sandbox is not None
    assert sandbox.uid == "uid-1"
    assert await found.live.identify("two", "10.0.0.1") is None


@pytest.mark.parametrize(
    "wrong",
    [
        b"no base64\n", base64.b64encode(b"[]") + b"\n", base64.b64encode(b'{"configuration":{}}') + b"\n",
        line("2", models="all"), line("2", credential="two words"), line("2", credential=7), b"\n",
    ],
)  # fmt: skip
def test_what_is_wrong_is_passed_over_and_never_repeated(
    pipe: tuple[int, int], wrong: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    found = started(pipe, wrong, line("3"))
    assert found.revision == "3"
    assert "two words" not in capsys.readouterr().err


def test_an_input_that_ends_before_anything_came_starts_nothing(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    with pytest.raises(ConfigError):
        InputFollower(pipe[0]).start()


async def test_an_identity_that_was_replaced_is_taken_for_a_while(pipe: tuple[int, int]) -> None:
    found = started(pipe, line("1"))
    assert found._take(bytearray(line("2", "two", "sk-two")))
    for presented in ("one", "two"):
        sandbox = await found.live.identify(presented, "10.0.0.1")
        assert sandbox is not None
        assert sandbox.generation == "2"
    assert found.live.credentials["uid-1"].text == "sk-two"


def test_the_health_check_finds_no_gateway_where_there_is_none(tmp_path: Path) -> None:
    from claude_sandbox.gateway import probe

    assert probe.main(9) == 1


REPOSITORY = {"url": "https://git.example.org/team/project", "credential": {"secret": "git", "generation": "1"}}


@pytest.mark.parametrize(
    ("secrets", "problem"),
    [
        ({"git": {"host": "git.example.org", "token": "t-1"}}, ""),
        ({"git": {"host": "git.example.org/team", "username": "a", "password": "b c"}}, ""),
        (None, "there is no Secret git"),
        ({"other": {"host": "git.example.org", "token": "t-1"}}, "there is no Secret git"),
        ({"git": {"host": "git.elsewhere.example", "token": "t-1"}}, "Secret git is for git.elsewhere.example"),
        ({"git": {"token": "t-1"}}, "Secret git: host: it is missing"),
        ({"git": {"host": "git.example.org"}}, "no credential is in it"),
    ],
    ids=str,
)
def test_a_repository_has_what_its_secret_says_or_why_not(pipe: tuple[int, int], secrets: Any, problem: str) -> None:
    found = started(pipe, line("1", git=secrets, repositories=[REPOSITORY, {"url": "https://git.example.org/open"}]))
    opened = found.live.repositories["uid-1"]
    assert opened["git.example.org/open"] == Opened(opened["git.example.org/open"].repository)
    one = opened["git.example.org/team/project"]
    assert problem in one.problem
    assert (one.credential is not None) == (not problem) == (not one.problem)
    assert "t-1" not in repr(found.live) + one.problem
    # One without its credential is refused, and nothing else.
    assert found.live.credentials["uid-1"].text == "sk-one"


@pytest.mark.parametrize("wrong", ["x", ["x"], {"git": "x"}])
def test_what_is_no_secret_of_git_is_not_followed(pipe: tuple[int, int], wrong: Any) -> None:
    found = started(pipe, line("1", git=wrong), line("2"))
    assert found.report() == {"configuration": "followed", "revision": "2"}
