"""What a control found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from claude_sandbox.api.clip import plain
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import Result


@dataclass(frozen=True)
class Verdict:
    """What a control found. `value` is what was seen; neither it nor the message ever holds a secret or a time.

    Both may name what a sandbox or an image chose: they are made plain here, for whoever prints them.
    """

    result: Result
    message: str = ""
    value: str = ""
    untried: bool = False
    """Unknown, and only since no probe has tried it: as what a probe alone tells, it is not required meanwhile."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", plain(self.message))
        object.__setattr__(self, "value", plain(self.value))


def passed(value: str = "") -> Verdict:
    """It is as it should be."""
    return Verdict(Result.PASS, value=value)


def failed(message: str, value: str = "") -> Verdict:
    """It is not."""
    return Verdict(Result.FAIL, message, value)


def unknown(message: str, value: str = "") -> Verdict:
    """It could not be told."""
    return Verdict(Result.UNKNOWN, message, value)


def untried(message: str, value: str = "") -> Verdict:
    """Only a probe could tell it, and has not yet."""
    return Verdict(Result.UNKNOWN, message, value, untried=True)


def not_applicable(message: str) -> Verdict:
    """There is nothing to judge."""
    return Verdict(Result.NOT_APPLICABLE, message)


def guarded(read: Callable[[], Verdict]) -> Verdict:
    """What `read` finds; Unknown where it raises, whatever it raises: what it looked at is another's to choose."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - what is raised depends on what was read
        return unknown(mishap(error))


def judged(problems: Iterable[str], value: str = "") -> Verdict:
    """Fails with all `problems`, or passes where there are none."""
    found = list(problems)
    return failed("; ".join(found), value) if found else passed(value)


def decided(problems: Iterable[str], doubts: Iterable[str] = (), value: str = "") -> Verdict:
    """Fails with all `problems`; without any, `doubts` make it Unknown; without either it passes."""
    problems, doubts = list(dict.fromkeys(problems)), list(dict.fromkeys(doubts))
    if problems:
        return failed("; ".join(problems), value)
    return unknown("; ".join(doubts), value) if doubts else passed(value)
