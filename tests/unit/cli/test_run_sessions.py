"""What `claude-sandbox run` is told of sessions, and what it does not take."""

from typing import Any

import pytest
from click.testing import CliRunner, Result

from claude_sandbox.cli.operator import command
from claude_sandbox.controller.settings import Settings

RUN = ("--sandbox-image=example.org/s@sha256:" + "a" * 64, "--docker")
URL = "--sessions-at=https://127.0.0.1:6447"
PAIR = ("--sessions-certificate=c", "--sessions-key=k")


def run(*options: str) -> Result:
    return CliRunner().invoke(command.run, options)


def test_by_default_nothing_listens(told: list[Settings]) -> None:
    assert run(*RUN).exit_code == 0
    assert told[0].sessions_at is None


@pytest.mark.parametrize(
    ("options", "at", "certificate"),
    [
        (["--sessions-at=ops/sessions:8443"], "ops/sessions:8443", None),
        (["--sessions-at=ops/sessions:8443", *PAIR], "ops/sessions:8443", ("c", "k")),
        ([URL, *PAIR], "https://127.0.0.1:6447", ("c", "k")),
        (["--sessions-at=https://[::1]:6447", *PAIR], "https://[::1]:6447", ("c", "k")),
    ],
)
def test_where_users_find_it_is_a_service_or_an_address(
    told: list[Settings], options: list[str], at: str, certificate: Any
) -> None:
    found = run(*RUN, "--sessions-bind=127.0.0.1:6447", *options)
    assert found.exit_code == 0, found.output
    assert (told[0].sessions_at, told[0].sessions_certificate) == (at, certificate)
    assert told[0].sessions_bind == ("127.0.0.1", 6447)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--docker", "--sessions-at=sessions"], "NAMESPACE/NAME:PORT of a Service, or https://HOST:PORT"),
        (["--docker", "--sessions-at=ops/sessions:0"], "NAMESPACE/NAME:PORT"),
        (["--docker", "--sessions-at=ops/sessions:70000"], "NAMESPACE/NAME:PORT"),
        (["--docker", "--sessions-at=http://127.0.0.1:6447"], "https://HOST:PORT"),
        (["--docker", "--sessions-at=https://user@host:1"], "https://HOST:PORT"),
        (["--docker", "--sessions-at=ops/../x:1"], "NAMESPACE/NAME:PORT"),
        (["--docker", URL], "--sessions-certificate"),
        (["--docker", "--sessions-at=ops/sessions:8443", PAIR[0]], "belong together"),
        (["--sessions-at=ops/sessions:8443"], "add --docker"),
        (["--renew-lease"], "--renew-lease is for --no-leader-election"),
    ],
)
def test_what_can_have_no_effect_is_refused_with_the_remedy(
    told: list[Settings], options: list[str], said: str
) -> None:
    found = run(RUN[0], *options)
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())
    assert told == []
