"""Public keys of age, and what is taken for one by mistake."""

import pytest
from click.testing import CliRunner

from claude_sandbox.backends.docker.containment.recipient import problem_with
from claude_sandbox.cli.operator.command import run

# Of age's own test vectors.
KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
PRIVATE = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"


def test_a_public_key_is_taken() -> None:
    assert problem_with(KEY) is None


@pytest.mark.parametrize("at", range(4, len(KEY)))
def test_one_wrong_character_anywhere_is_noticed(at: int) -> None:
    wrong = KEY[:at] + ("q" if KEY[at] != "q" else "p") + KEY[at + 1 :]
    assert "wrong" in str(problem_with(wrong))


@pytest.mark.parametrize(
    ("given", "told"),
    [(PRIVATE, "private key"), (KEY[:-1], "62 characters"), (KEY.upper(), "begins with age1"),
     ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "begins with age1"), (f"{KEY} ", "62 characters")],
    ids=["private", "short", "upper case", "ssh", "blank"],
)  # fmt: skip
def test_what_is_none_is_refused(given: str, told: str) -> None:
    assert told in str(problem_with(given))


def test_the_operator_does_not_start_with_a_private_key_and_does_not_repeat_it() -> None:
    result = CliRunner().invoke(run, ["--sandbox-image=a@sha256:b", f"--checkpoint-recipient={PRIVATE}"])
    assert result.exit_code == 2
    assert "private key" in result.output
    assert PRIVATE not in result.output
