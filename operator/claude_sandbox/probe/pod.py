"""`python -m claude_sandbox.probe.pod QUESTION`: what runs in a pod.

The question is an argument, a JSON object: `seconds` for each attempt, `settle`, `strict` as in `__main__`, and
`targets` as there, each with `allowed`. The answer is the container's termination message, one line of JSON: `version`,
`attempts` (name, outcome, error and milliseconds of each), `open`, for how many milliseconds after the start something
could be reached that is not allowed, and `kernel` and `strict` (name, outcome and error of each call). The exit code
says once more what came of it (`outcomes.ending`).

A network plugin may take a while until a new pod has the network that it is to have. So what is allowed is tried until
it is reached, and what is not until it is not, for `settle` seconds at most; what came of it last counts.

Whoever may run commands in pods of the namespace can run one beside this program, as the same user. So it is not
dumpable: nobody but root can trace it, or open its files and memory. Nobody in its pod can end it, which is the pod's
first process. Anybody there can write the termination message, and nobody the exit code, by which a forged message
is found out.
"""

import ctypes
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.probe import LARGEST, MOST_TARGETS, VERSION, kernel, strict
from claude_sandbox.probe.__main__ import LONGEST, target_in
from claude_sandbox.probe.attempts import Attempt, Target, attempt, self_test
from claude_sandbox.probe.outcomes import REACHED, Code, code_of, ending

MESSAGE = Path("/dev/termination-log")
LARGEST_MESSAGE = 4096
"""Bytes that the kubelet takes (k8s.io/kubernetes, pkg/kubelet/container: MaxContainerTerminationMessageLength)."""
_AGAIN = 1.0
"""Seconds until what is not yet as it is to be is tried again."""
_LONGEST_SETTLE = 60.0
"""Seconds."""
_PR_SET_DUMPABLE = 4


@dataclass(frozen=True)
class Question:
    """What is tried, and for how long."""

    seconds: float
    settle: float
    allowed: list[Target]
    others: list[Target]
    strict: bool = False


def main(text: str) -> int:
    """Try what is asked for; the exit code."""
    begun = time.monotonic()
    try:
        asked = understood(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        print(f"probe: what was asked is not understood: {type(error).__name__}", file=sys.stderr)
        return Code.NOT_TRIED
    found, open_for = tried(asked, begun)
    # Once the threads of the attempts have ended: it forks.
    dangerous, narrow = kernel.calls(), strict.calls() if asked.strict else []
    message = json.dumps(
        {
            "version": VERSION,
            "attempts": [[one.name, one.outcome, one.error, one.milliseconds] for one in found],
            "open": open_for,
            "kernel": [[one.name, one.may, one.error] for one in dangerous],
            "strict": [[one.name, one.may, one.error] for one in narrow],
        },
        separators=(",", ":"),
    )
    # The kubelet would cut it, and half of it is nothing that can be read.
    if len(message) > LARGEST_MESSAGE:
        return Code.NOT_TRIED
    MESSAGE.write_text(message)
    allowed = {one.name for one in asked.allowed}
    reached = code_of([(one.outcome, one.name in allowed or one.name == "self") for one in found])
    return ending(reached, [one.may for one in dangerous], [one.may for one in narrow])


def understood(text: str) -> Question:
    """Raises ValueError, KeyError or TypeError for what is no question."""
    if len(text) > LARGEST:
        raise ValueError("too long")
    asked = json.loads(text)
    told = asked["targets"][:MOST_TARGETS]
    targets = [(target_in(one), bool(one["allowed"])) for one in told]
    return Question(
        min(float(asked["seconds"]), LONGEST),
        min(float(asked["settle"]), _LONGEST_SETTLE),
        [target for target, allowed in targets if allowed],
        [target for target, allowed in targets if not allowed],
        bool(asked.get("strict")),
    )


def tried(asked: Question, begun: float) -> tuple[list[Attempt], int]:
    """All attempts, what is allowed first; and for how many milliseconds something was open that is not to be."""
    ends = begun + asked.settle
    open_for = 0.0

    def until(target: Target, good: Callable[[Attempt], bool]) -> tuple[Attempt, float]:
        bad = 0.0
        while True:
            found = attempt(target, asked.seconds)
            if good(found):
                return found, bad
            bad = time.monotonic() - begun
            if time.monotonic() + _AGAIN > ends:
                return found, bad
            time.sleep(_AGAIN)

    with ThreadPoolExecutor(max(1, len(asked.allowed), len(asked.others))) as pool:
        able = self_test(asked.seconds)
        allowed = list(pool.map(lambda one: until(one, lambda found: found.outcome in REACHED), asked.allowed))
        others = list(pool.map(lambda one: until(one, lambda found: found.outcome not in REACHED), asked.others))
    open_for = max((bad for _, bad in others), default=0.0)
    return [able, *(found for found, _ in (*allowed, *others))], round(open_for * 1000)


def undumpable() -> None:
    """Let nobody of the same user look into this process. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    undumpable()
    sys.exit(main(sys.argv[1]))
