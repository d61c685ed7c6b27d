"""Values of options that several commands take: how they are read, and what is said of one that is none."""

from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network

import click

from claude_sandbox.api.fields.lifecycle import duration


def moment(text: str, now: datetime) -> datetime:
    """A moment: an age such as 90s, 10m, 2h, 7d, or a time of ISO 8601, UTC if it says no zone.

    Raises ValueError, and OverflowError for an age from before there were years.
    """
    with suppress(ValueError):
        return now - duration(text)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """Of --since: the moment from which on."""
    try:
        return None if value is None else moment(value, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter("write an age such as 10m, 2h or 7d, or a time such as 2026-01-31T12:00:00Z") from None


def networks(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[IPv4Network | IPv6Network, ...]:
    """Of an option that may be repeated, each time with a network."""
    try:
        return tuple(ip_network(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write a network such as 10.1.0.0/16") from None
