"""When a sandbox's time is over, and whether it is: the models of `ClaudeSandbox.status.lifecycle`."""

from datetime import datetime

from claude_sandbox.api.model import Choice, Model


class End(Choice):
    """The field of spec.lifecycle by which a sandbox ends."""

    TTL = "TTL"
    SHUTDOWN_TIME = "ShutdownTime"
    IDLE_TIMEOUT = "IdleTimeout"


class Ended(Model):
    """Why a sandbox is at its end, and since when."""

    by: End
    """The field of spec.lifecycle that says so."""
    at: datetime
    """When its time was over."""


class CpuState(Choice):
    """What the CPU of a sandbox's container did between the last two looks."""

    BUSY = "Busy"
    """It used a quarter of a core or more."""
    QUIET = "Quiet"
    UNKNOWN = "Unknown"
    """Nothing tells: idleness goes by the other signs alone."""


class CpuActivity(Model):
    """What the CPU says of a sandbox that shows no other sign of activity for half of its idleTimeout, or more."""

    state: CpuState
    """Whether it is busy."""
    busy_at: datetime | None = None
    """When it was seen busy last, since lastActive: it counts as a sign of activity, for one more idleTimeout at most.
    It may be a tenth of the idleTimeout behind."""


class LifecycleStatus(Model):
    """What is known of a sandbox's time; only where spec.lifecycle says something of it."""

    ends_at: datetime | None = None
    """When its time is over whatever it does, by ttl or shutdownTime."""
    last_active: datetime | None = None
    """The last sign of activity, of a sandbox with an idleTimeout: its start, an answered request, or somebody's."""
    ended: Ended | None = None
    """Why and since when it is suspended, or to be deleted; not there while its time lasts."""
    warned: datetime | None = None
    """The end that a warning Event has told of, while it is near."""
    cpu: CpuActivity | None = None
    """Whether it works on without asking the model, of a sandbox with an idleTimeout."""
