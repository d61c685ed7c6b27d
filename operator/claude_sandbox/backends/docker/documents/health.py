"""What an engine's health check tells of a container. Pure.

An engine has one check, and keeps its last five outcomes. Sandboxes' check asks for liveness first and tells by its
exit code that it was that which failed: a container without a key is not ready, and restarting it would not help.
"""

import math

from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.blueprint.model import Probe

NOT_ALIVE = 100
"""The check's exit code where Claude Code can't run at all."""
# What a shell says of a program that it can't run; above are those that a signal ended. The engine says -1 of a check
# that took too long, or that it could not start.
_NO_PROGRAM = 126
_SECOND = 1_000_000_000
# The engine's own, where none is said.
_DEFAULT_INTERVAL = 30.0


def status(container: Object) -> str:
    """`starting`, `healthy` or `unhealthy`; empty where nothing is checked."""
    return str(_health(container).get("Status") or "")


def interval(container: Object) -> float:
    """Seconds between two checks of a container that has started."""
    check = (container.get("Config") or {}).get("Healthcheck") or {}
    return (check.get("Interval") or 0) / _SECOND or _DEFAULT_INTERVAL


def answers(container: Object) -> bool:
    """Whether Claude Code could run when that was checked last; so it is taken to be before the first check."""
    log = _health(container).get("Log") or ()
    return not log or _is_alive(log[-1])


def is_lost(container: Object, liveness: Probe) -> bool:
    """Whether Claude Code has not answered for as long as liveness allows. Neither while it is paused nor starting."""
    health = _health(container)
    if not running(container) or container.get("State", {}).get("Paused") or status(container) != "unhealthy":
        return False
    # In checks: the engine checks at the pace of readiness, and liveness allows for so many seconds.
    needed = math.ceil(liveness.period * liveness.failures / interval(container))
    last = (health.get("Log") or ())[-needed:]
    # The streak as well as the log: an engine keeps five outcomes, and liveness may allow for more.
    return (health.get("FailingStreak") or 0) >= needed and bool(last) and not any(map(_is_alive, last))


def _health(container: Object) -> Object:
    found: Object = container.get("State", {}).get("Health") or {}
    return found


def _is_alive(outcome: Object) -> bool:
    code = outcome.get("ExitCode")
    return isinstance(code, int) and 0 <= code < _NO_PROGRAM and code != NOT_ALIVE
