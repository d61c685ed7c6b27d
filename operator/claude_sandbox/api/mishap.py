"""What to say of an exception that nothing was prepared for."""

import traceback

_PACKAGE = "claude_sandbox/"


class Told(Exception):  # noqa: N818 - which fault it is its subclasses say
    """Its text is the operator's own, quotes nothing that was read, and may be shown, without a traceback: a clause."""


def mishap(error: BaseException) -> str:
    """Which error was raised, and where: a clause that is the same for as long as the cause is.

    The error's own text is left out: it quotes what was read, which is a sandbox's, an image's or a tenant's to choose;
    that of a `Told` doesn't.
    """
    if isinstance(error, Told):
        return str(error)
    ours = [one for one in traceback.extract_tb(error.__traceback__) if _PACKAGE in one.filename]
    where = f" in {ours[-1].name} ({ours[-1].filename.rpartition(_PACKAGE)[2]}:{ours[-1].lineno})" if ours else ""
    return f"what was read is not as expected: {type(error).__name__}{where}"
