"""A gateway whose configuration and key come on its standard input: `python -m claude_sandbox.gateway --config -`."""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from claude_sandbox.api import meta
from claude_sandbox.api.fields.work.repositories import MOST_REPOSITORIES
from claude_sandbox.backends.docker.keys.gateway_secrets import git_credential
from claude_sandbox.gateway.config import standard_input
from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.config.standard_input import InputFollower
from claude_sandbox.gateway.git.credentials.credential import SECRET_KEYS
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


def test_after_a_message_that_is_too_long_the_next_one_is_followed(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a gateway goes on for ever by what it was told before."""
    monkeypatch.setattr(standard_input, "_LARGEST", 100_000)
    sender = threading.Thread(target=lambda: _write(pipe[1], b"QUJD" * 100_000 + b"\n" + line("3")))
    sender.start()
    found = started(pipe)
    sender.join()
    assert found.revision == "3"


def test_there_is_room_for_all_that_may_be_declared(pipe: tuple[int, int]) -> None:
    """Whatever is in Secrets: a key of each is cut to what is seen to be too long."""
    data = base64.b64encode(b"\x01" * (1 << 20)).decode()
    one = {"metadata": {"labels": {meta.GIT_SECRET_TYPE: "true"}}, "data": dict.fromkeys(("host", *SECRET_KEYS), data)}
    secrets = {
        str(index): {key: bytes(value).decode() for key, value in (git_credential(one) or {}).items()}
        for index in range(MOST_REPOSITORIES)
    }
    content = {**json.loads(base64.b64decode(line("4"))), "git": secrets}
    whole = base64.b64encode(orjson.dumps(content)) + b"\n"
    assert len(whole) > 10 << 20
    sender = threading.Thread(target=lambda: _write(pipe[1], whole))
    sender.start()
    found = started(pipe)
    sender.join()
    assert found.revision == "4"


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


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
