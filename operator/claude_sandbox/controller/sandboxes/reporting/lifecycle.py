"""What is said of a sandbox's time: in its status, in its condition Ready, and as Events. Pure."""

from datetime import datetime

from claude_sandbox.api.status_fields.lifecycle import End, LifecycleStatus
from claude_sandbox.api.status_fields.usage import Usage
from claude_sandbox.controller.sandboxes.lifecycle.life import Looked

_FIELDS = {End.TTL: "ttl", End.SHUTDOWN_TIME: "shutdownTime", End.IDLE_TIMEOUT: "idleTimeout"}
_BACK = {
    End.TTL: "a longer ttl, or none, brings it back",
    End.SHUTDOWN_TIME: "a later shutdownTime, or none, brings it back",
    End.IDLE_TIMEOUT: "`claude-sandbox resume NAME` brings it back",
}
_KEEPS = {
    End.TTL: "write a longer ttl, or none",
    End.SHUTDOWN_TIME: "write a later shutdownTime, or none",
    End.IDLE_TIMEOUT: "use it, or `claude-sandbox resume NAME`",
}


def reported(looked: Looked | None, usage: Usage | None) -> LifecycleStatus | None:
    """For the status. `usage`: as the status will say it, so that one write tells both."""
    if looked is None:
        return None
    active = looked.active
    if looked.asked.idle_timeout is not None:
        answered = usage.last_answered.time if usage is not None and usage.last_answered is not None else None
        active = max((one for one in (active, answered) if one is not None), default=None)
    near, ended = looked.life.near, looked.life.ended
    return LifecycleStatus(
        ends_at=looked.life.ends,
        last_active=active,
        ended=ended,
        warned=near.at if near is not None else None,
        cpu=looked.cpu,
    )


def over(looked: Looked) -> str:
    """That its time is over, why and since when, and what comes of it."""
    ended = looked.life.ended
    assert ended is not None  # noqa: S101 - who calls has looked
    why = f"Its time is over since {_clock(ended.at)} by spec.lifecycle.{_FIELDS[ended.by]}"
    if looked.asked.deletes:
        return f"{why}: it is deleted."
    return f"{why}: suspended; {_workspace(looked)}; {_BACK[ended.by]}."


def near(looked: Looked) -> str:
    """That its time will soon be over, and what keeps it."""
    ended = looked.life.near
    assert ended is not None  # noqa: S101 - who calls has looked
    what = "it is deleted" if looked.asked.deletes else f"it is suspended ({_workspace(looked)})"
    why = f"At {_clock(ended.at)} its time is over by spec.lifecycle.{_FIELDS[ended.by]}"
    return f"{why}: {what}. To keep it, {_KEEPS[ended.by]}."


def _workspace(looked: Looked) -> str:
    return "the workspace is kept" if looked.workspace else "its workspace, an EmptyDir, is not kept"


def _clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
