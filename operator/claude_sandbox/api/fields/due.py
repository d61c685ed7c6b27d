"""After what time what a sandbox is made of is due to be renewed."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.fields.lifecycle import duration
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.rules import matching

_DAYS = matching("[1-9][0-9]{0,3}d", "must be a number of days, from 1d to 9999d, for example 30d")
_Days = Annotated[str, Field(min_length=2, max_length=5), _DAYS]


class Due(Strict):
    """After what time what the sandbox is made of is due to be renewed. Nothing is ended or changed by it: conditions
    turn, `claude-sandbox due` lists it, and a metric can alert. Profile Production takes no longer times than the
    defaults."""

    image_max_age: _Days | None = None
    """How old the image may become, for example 30d, which is the default."""
    key_max_age: _Days | None = None
    """How old the key may become, for example 90d, which is the default."""
    backup_max_age: _Days | None = None
    """How old the last verified backup may become, for example 7d, which is the default. Needs
    spec.backup."""

    @property
    def image_lasts(self) -> timedelta:
        """How old the image may become."""
        return duration(self.image_max_age or "30d")

    @property
    def key_lasts(self) -> timedelta:
        """How old the key may become."""
        return duration(self.key_max_age or "90d")

    @property
    def backup_lasts(self) -> timedelta:
        """How old the last verified backup may become."""
        return duration(self.backup_max_age or "7d")
