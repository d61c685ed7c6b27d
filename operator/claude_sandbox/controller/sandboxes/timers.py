"""When a sandbox is worth another look, or a write, though nothing tells: what one pass remembers for the next.

Holds, for each sandbox for which it is so, since when it has been on its way to Ready, since when a new key has been on
its way into its workload, since when its Secret can't be used, and when what it has used was written last. Each entry
goes with what it is about, and all of them with the sandbox (`forget`): who is looked at has at most one of each.
Called by the passes, on the event loop. A crash begins each wait anew, which makes a report or a look later by its
length, and nothing wrong.
"""

import random
from collections.abc import Callable

from claude_sandbox.api.spec import BackendType
from claude_sandbox.backends.base import KeyState, Outcome
from claude_sandbox.controller.sandboxes.gateways.usage import EVERY
from claude_sandbox.controller.sandboxes.reporting.conditions import on_its_way
from claude_sandbox.controller.sandboxes.reporting.findings import Findings
from claude_sandbox.controller.sandboxes.store import Key

# How long a sandbox may be on its way to Ready before that is worth a write of its own: most are there sooner.
# An engine does not check before a second has passed whether a container is healthy.
PROGRESS_AFTER = {BackendType.KUBERNETES: 1.0, BackendType.DOCKER: 3.0}
# While others are in line: a write that only says "not yet" would make all of them later, and so more of its kind.
PROGRESS_AFTER_WHEN_BUSY = 10.0
# How long the kubelet takes to bring a changed key, once told: measured at 0.9 s, promised within 2.
KEY_SETTLES_AFTER = 2.0
# Seconds until a Secret that can't be used is looked at again, at first and at most: only those that opted in are
# followed, so that nothing tells of another that is made or taken away.
SECRET_AGAIN = 10.0
SECRET_AGAIN_AT_MOST = 60.0


class Timers:
    """Of one operator. `clock` in seconds; `busy`: whether other sandboxes are in line."""

    def __init__(self, clock: Callable[[], float], busy: Callable[[], bool]) -> None:
        self._clock = clock
        self._busy = busy
        # Since when a sandbox has been on its way without that having been reported.
        self._progressing: dict[Key, float] = {}
        # Since when a new generation of the key has been on its way to a running workload.
        self._key_sent: dict[Key, float] = {}
        # Since when the Secret can't be used, and nothing tells when that changes.
        self._keyless: dict[Key, float] = {}
        # When what a sandbox has used was written last.
        self._used: dict[Key, float] = {}

    def forget(self, key: Key) -> None:
        """The sandbox is gone, or is to go."""
        for since in (self._progressing, self._key_sent, self._keyless, self._used):
            since.pop(key, None)

    def report_in(self, key: Key, findings: Findings) -> float:
        """Seconds for which it is not worth a write yet that the sandbox is on its way to Ready."""
        if findings.outcome.healed or not on_its_way(findings):
            self._progressing.pop(key, None)
            return 0.0
        now = self._clock()
        patience = PROGRESS_AFTER_WHEN_BUSY if self._busy() else PROGRESS_AFTER[findings.backend]
        wait = self._progressing.setdefault(key, now) + patience - now
        # The wait is over and it is reported: being on the way again later is another wait.
        if wait <= 0:
            del self._progressing[key]
        return wait

    def key_settles_in(self, key: Key, outcome: Outcome) -> float | None:
        """Seconds until a key that was sent can be taken to be there; None where none is on its way."""
        now = self._clock()
        if outcome.key_sent:
            self._key_sent[key] = now
        left = self._key_sent.get(key, float("-inf")) + KEY_SETTLES_AFTER - now
        if left > 0:
            return left
        self._key_sent.pop(key, None)
        return None

    def usage_in(self, key: Key, may_wait: Callable[[float], bool]) -> float | None:
        """Seconds for which what a sandbox has used is not worth a write yet; None where it is written now.

        `may_wait`: whether it may, so many seconds after the last one.
        """
        now = self._clock()
        age = now - self._used.get(key, float("-inf"))
        if may_wait(age):
            return max(0.0, EVERY - age)
        self._used[key] = now
        return None

    def secret_again(self, key: Key, state: KeyState) -> float | None:
        """Seconds until the Secret is worth another look, the longer the longer it lasts; None where that is told."""
        if state.followed:
            self._keyless.pop(key, None)
            return None
        now = self._clock()
        # Half of the time that it has lasted: who is about to make the Secret is noticed soon, who forgot it costs
        # little.
        lasts = now - self._keyless.setdefault(key, now)
        return min(max(SECRET_AGAIN, lasts / 2), SECRET_AGAIN_AT_MOST) * random.uniform(0.9, 1.1)  # noqa: S311
