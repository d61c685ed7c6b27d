"""Waiting for something, with a word to whoever waits as well."""

import time
from collections.abc import Callable

Say = Callable[[str], None]

# Seconds without a word after which a sign of life is due.
SIGN_OF_LIFE = 15.0


def wait(look: Callable[[], str | None], say: Say, limit: float, pause: float = 0.5) -> bool:
    """Call `look` until it gives None; say what it gives when that changes, and now and then when it doesn't.

    Whether it gave None within `limit` seconds.
    """
    began = said_at = time.monotonic()
    said: str | None = None
    while (state := look()) is not None:
        now = time.monotonic()
        if now - began > limit:
            return False
        # The first look is often too early to be worth a word.
        if (state != said and now - began > 1) or now - said_at > SIGN_OF_LIFE:
            say(state if state != said else f"{state} ({now - began:.0f} s)")
            said, said_at = state, now
        time.sleep(pause)
    return True
