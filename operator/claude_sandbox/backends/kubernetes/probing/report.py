"""What a probe is asked, and what its end says. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from claude_sandbox.backends.probing.wanted import MisunderstoodError, Wanted, dangerous_calls, strict_calls
from claude_sandbox.compliance.evidence.probes import ALLOWING, ProbeReport, Tried
from claude_sandbox.probe import VERSION
from claude_sandbox.probe.outcomes import Outcome, code_of, ending
from claude_sandbox.probe.pod import LARGEST_MESSAGE

SELF = "self"


def question(wanted: Sequence[Wanted], seconds: float, settle: float, *, strict: bool = False) -> str:
    """The argument that a probe takes. `strict`: whether it is to be held to that filter."""
    targets = [
        {
            "name": str(number),
            "host": one.host,
            "port": one.port,
            "protocol": one.protocol,
            "query": one.query,
            "allowed": one.expected in ALLOWING,
        }
        for number, one in enumerate(wanted)
    ]
    return orjson.dumps({"seconds": seconds, "settle": settle, "strict": strict, "targets": targets}).decode()


def report_of(
    code: int,
    message: str,
    wanted: Sequence[Wanted],
    answers: Mapping[str, bool],
    unlike: str = "",
    *,
    strict: bool = False,
) -> ProbeReport:
    """`answers`: by their names, whether targets answered elsewhere.
    `unlike`: why what the kernel let the probe do says nothing of the sandbox, empty where it does. `strict` as asked.

    Raises MisunderstoodError where the message is not of every target, or says another thing than the exit code.
    """
    # The kubelet cuts a message there: what is longer was not written by it.
    if len(message) > LARGEST_MESSAGE:
        raise MisunderstoodError("its message is too long")
    try:
        told = orjson.loads(message)
        if told["version"] != VERSION:
            raise MisunderstoodError("its message is of another version")
        came = {str(name): (Outcome(outcome), str(error)) for name, outcome, error, _ in told["attempts"]}
        tried = [_tried(one, came[str(number)], answers.get(one.name)) for number, one in enumerate(wanted)]
        able, open_for = came[SELF][0] is Outcome.CONNECTED, int(told["open"])
        kernel, narrow = dangerous_calls(told["kernel"]), strict_calls(told["strict"], asked=strict)
        if len(told["attempts"]) != len(wanted) + 1 or open_for < 0:
            raise ValueError(message)
    except (ValueError, KeyError, TypeError) as error:
        raise MisunderstoodError(f"its message is not as it should be ({type(error).__name__})") from None
    meant = [(came[SELF][0], True)]
    meant += [(came[str(number)][0], one.expected in ALLOWING) for number, one in enumerate(wanted)]
    # Who gets into the pod could write its message; its exit code nobody but the program can set.
    tried_of_strict = [] if isinstance(narrow, str) else [one.outcome for one in narrow]
    if code != ending(code_of(meant), [one.outcome for one in kernel], tried_of_strict):
        raise MisunderstoodError("its exit code says another thing than its message: somebody may have written that")
    seconds = math.ceil(open_for / 1000)
    return ProbeReport(able, tuple(tried), open_seconds=seconds, kernel=unlike or kernel, strict=unlike or narrow)


def _tried(one: Wanted, came: tuple[Any, str], answers: bool | None) -> Tried:
    return Tried(one.name, one.expected, str(came[0]), came[1][:32], answers, one.subject)
