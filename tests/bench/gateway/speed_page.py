"""What was measured of the gateway as text, and what of it was promised. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.bench.gateway.load import IDLE, Percentiles
from tests.bench.gateway.speed import DIRECT, ENVOY, OURS, Measured
from tests.bench.results import Goal


def goals(found: Measured) -> list[Goal]:
    """What was promised and what came of it."""
    requests, events = found.requests, found.events
    p50, p99 = (getattr(requests[OURS], which) - getattr(requests[DIRECT], which) for which in ("p50", "p99"))
    event = events[OURS].p50 - events[DIRECT].p50
    rows = [
        ("a request of 2 KB, p50 above direct", 0.6, p50, "ms"),
        ("a request of 2 KB, p99 above direct", 5.0, p99, "ms"),
        ("an event of a stream, p50 above direct", 0.15, event, "ms"),
    ]
    if ENVOY in requests:
        rows.append(("a request of 2 KB above Envoy, p50", 0.4, requests[OURS].p50 - requests[ENVOY].p50, "ms"))
    rows.append((f"memory with {IDLE} idle streams", 50.0, found.memory[OURS], "MB"))
    reached = [
        ("requests a second, 32 at once", 1000.0, found.rates[OURS], "/s"),
        ("a tunnel without TLS", 500.0, found.raw[OURS], "MB/s"),
    ]
    return [
        *(Goal(what, f"at most {most:g} {unit}", f"{value:.2f} {unit}", value <= most)
          for what, most, value, unit in rows),
        *(Goal(what, f"at least {least:g} {unit}", f"{value:.0f} {unit}", value >= least)
          for what, least, value, unit in reached),
    ]  # fmt: skip


def page(found: Measured, machine: str) -> str:
    """The figures as a table, and the goals."""
    names = list(dict.fromkeys([*found.requests, *found.openings]))
    lines = [machine, "", f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {what} | {' | '.join(cells)} |" for what, cells in _rows(found, names)]
    lines += [f"Not tried: {name}: {why}" for name, why in found.not_tried.items()]
    lines += ["", "| goal | | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {one.what} | {one.goal} | {one.measured} | {'met' if one.met else '**missed**'} |" for one in goals(found)
    ]
    return "\n".join(lines)


def document(found: Measured, machine: str) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "machine": machine,
        "goals": [dataclasses.asdict(one) for one in goals(found)],
        **dataclasses.asdict(found),
    }


def _rows(found: Measured, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    for what, of in (
        ("a request of 2 KB", found.requests),
        ("lag of an event", found.events),
        ("a new connection with TLS", found.openings),
    ):
        yield f"{what}, p50 / p99, ms", [_both(of.get(name)) for name in names]
    for what, values, form in (
        ("requests a second, 32 at once", found.rates, "{:.0f}"),
        ("a download over TLS, MB/s", found.secure, "{:.0f}"),
        ("a download without TLS, MB/s", found.raw, "{:.0f}"),
        ("its CPU for a request, ms", found.cpu, "{:.2f}"),
        (f"its memory with {IDLE} idle streams, MB", found.memory, "{:.0f}"),
    ):
        yield what, _each(values, names, form)


def _both(one: Percentiles | None) -> str:
    return f"{one.p50:.2f} / {one.p99:.2f}" if one is not None else ""


def _each(values: Mapping[str, float], names: Sequence[str], form: str) -> list[str]:
    return [form.format(values[name]) if name in values else "" for name in names]
