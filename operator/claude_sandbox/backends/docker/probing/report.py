"""What a probe is asked, and what its answer says. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from claude_sandbox.backends.docker.probing.targets import Network, ways_out
from claude_sandbox.backends.probing.wanted import MisunderstoodError, Told, Wanted, dangerous_calls, strict_calls
from claude_sandbox.compliance.evidence.probes import ProbeReport, Tried, is_nobody
from claude_sandbox.probe import VERSION

SELF = "self"


def question(nonce: str, wanted: Sequence[Wanted], seconds: float, *, strict: bool = False) -> bytearray:
    """The line that a probe takes on its standard input. `strict`: whether it is to be held to that filter."""
    targets = [
        {"name": str(number), "host": one.host, "port": one.port, "protocol": one.protocol, "query": one.query}
        for number, one in enumerate(wanted)
    ]
    asked = {"nonce": nonce, "seconds": seconds, "strict": strict, "targets": targets}
    return bytearray(orjson.dumps(asked) + b"\n")


def report_of(
    answer: bytes,
    nonce: str,
    wanted: Sequence[Wanted],
    own: Sequence[Network],
    answers: Mapping[str, bool],
    unlike: str = "",
    *,
    strict: bool = False,
) -> ProbeReport:
    """`own`: the sandbox's own network. `answers`: by their names, whether targets took the operator's connection.
    `unlike`: why what the kernel let the probe do says nothing of the sandbox, empty where it does. `strict` as asked.

    Raises MisunderstoodError where it is another's answer, or not of every target.
    """
    try:
        told = orjson.loads(answer)
        if told["version"] != VERSION or told["nonce"] != nonce:
            raise MisunderstoodError("another version, or the answer to another question")
        came = {str(one["name"]): one for one in told["attempts"]}
        tried = [_tried(one, came[str(number)], answers.get(one.name)) for number, one in enumerate(wanted)]
        routes = told["routes"]
        led = None if routes is None else tuple(ways_out(map(str, routes), own))
        nobody = {one.host for one, found in zip(wanted, tried, strict=True) if is_nobody(found)}
        ways = None if led is None else tuple(way for way, hop in led if hop not in nobody)
        dead_end = led is not None and any(hop in nobody for _, hop in led)
        kernel = unlike or dangerous_calls(_calls(told["kernel"]))
        narrow = unlike or strict_calls(_calls(told["strict"]), asked=strict)
        able = came[SELF]["outcome"] == "connected"
        return ProbeReport(able, tuple(tried), ways, dead_end=dead_end, kernel=kernel, strict=narrow)
    except (ValueError, KeyError, TypeError) as error:
        raise MisunderstoodError(f"it is not as it should be ({type(error).__name__})") from None


def _calls(told: Any) -> Told:
    return [(one["name"], one["may"], one["error"]) for one in told]


def _tried(one: Wanted, came: Mapping[str, Any], answers: bool | None) -> Tried:
    return Tried(one.name, one.expected, str(came["outcome"]), str(came["error"]), answers, one.subject)
