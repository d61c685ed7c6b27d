"""What the sandboxes that are placed on a Docker host may use, as their specs and statuses say."""

from collections.abc import Iterator

from claude_sandbox.api.validate import InvalidSpec, parse_spec
from claude_sandbox.backends.docker.room import Demand, demand_of
from claude_sandbox.backends.kubernetes.raw import terminating
from claude_sandbox.controller.sandboxes import Raw, Sandboxes, host_of, is_held


def placed_on(sandboxes: Sandboxes, host: str) -> Iterator[Raw]:
    """The sandboxes of a host, suspended ones too: they come back to where their workspace is."""
    for key in sandboxes:
        raw = sandboxes.get(key)
        if raw is None or host_of(raw) != host:
            continue
        # One that is being deleted and was let go has nothing there any more.
        if is_held(raw) or not terminating(raw):
            yield raw


def demands_on(sandboxes: Sandboxes, host: str) -> Iterator[Demand]:
    """One for each sandbox of the host."""
    for raw in placed_on(sandboxes, host):
        try:
            yield demand_of(parse_spec(raw))
        except InvalidSpec:
            continue
