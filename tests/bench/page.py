"""The results as a page for people."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.bench.account import KINDS
from tests.bench.figures import Spread
from tests.bench.results import Pair, Results, goals
from tests.bench.scenarios import Created

_PERCENTILES = ("p50", "p90", "p99")
_ORDER = {kind.name: place for place, kind in enumerate(KINDS)}


def page(results: Results) -> str:
    """Goals first, then ratios, then figures."""
    parts = (_goals(results), _latencies(results.pairs), _cost(results), _population(results))
    return "\n\n".join([results.machine["description"], *("\n".join(part) for part in parts)])


def _goals(results: Results) -> Iterator[str]:
    found = goals(results)
    width = max(len(goal.what) for goal in found)
    yield f"{'':{width}}  {'goal':24}{'measured':26}"
    for goal in found:
        yield f"{goal.what:{width}}  {goal.goal:24}{goal.measured:26}{'met' if goal.met else 'NOT MET'}"


def _latencies(by_rate: Mapping[str, Sequence[Pair]]) -> Iterator[str]:
    yield "Create to Ready: ratio to raw pods, and milliseconds. Medians of the repeats (least to most)."
    yield "'others': CPUs that were kept busy meanwhile by what does not belong to the benchmark."
    yield _row("", "", *_PERCENTILES, "Ready/s", "others")
    for rate, pairs in by_rate.items():
        ratios = (f"{Spread.of([pair.ratio(name) for pair in pairs]):.1f}" for name in _PERCENTILES)
        yield _row(rate, "ratio", *ratios)
        yield _row("", "sandbox", *_figures([pair.sandboxes for pair in pairs]))
        yield _row("", "raw pod", *_figures([pair.floor for pair in pairs]))


def _row(*cells: str) -> str:
    return "".join(f"{cell:{width}}" for cell, width in zip(cells, (12, 9, 23, 23, 23, 19, 6), strict=False)).rstrip()


def _figures(runs: Sequence[Created]) -> Iterator[str]:
    for name in _PERCENTILES:
        yield f"{_over(runs, lambda run, name=name: 1000 * float(getattr(run.latency, name))):.0f}"  # type: ignore[misc]
    yield f"{_over(runs, lambda run: run.per_second):.1f}"
    yield f"{_over(runs, lambda run: run.cpu.others / run.seconds).median:.1f}"


def _cost(results: Results) -> Iterator[str]:
    rate, pairs = next(iter(results.pairs.items()))
    yield f"What one costs, at {rate}: CPU in ms, requests of the operator."
    for label, runs in (("sandbox", [p.sandboxes for p in pairs]), ("raw pod", [p.floor for p in pairs])):
        spent = {name: _over(runs, _cpu_of(name)).median for name in runs[0].cpu.by_name if name != "load"}
        total = sum(spent.values())
        parts = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in spent.items())
        cpus = results.machine["cpus"]
        yield f"  {label}: {1000 * total:.0f} ms ({parts}); {cpus} CPUs are enough for {cpus / total:.0f}/s"
    last = pairs[-1].sandboxes
    yield f"  requests: {_counts(last.requests, last.latency.count)}"


def _cpu_of(name: str) -> Callable[[Created], float]:
    return lambda run: run.cpu.by_name[name] / run.latency.count


def _population(results: Results) -> Iterator[str]:
    healed, rest, again = results.healed, results.at_rest, results.restarted
    conditions = ", ".join(
        f"{name} {results.conditions.get(name, 0)}" for name in ("Ready=True", "Compliant=True", "Drifted=False")
    )
    yield f"{results.filled.latency.count} sandboxes, made at {results.filled.per_second:.0f}/s: {conditions}"
    yield (
        f"  NetworkPolicy deleted, there again ({healed.latency.count} times, 10/s): p50 {_ms(healed.latency.p50)}, "
        f"p90 {_ms(healed.latency.p90)}, p99 {_ms(healed.latency.p99)}"
    )
    yield f"    requests for each: {_counts(healed.requests, healed.latency.count)}"
    yield (
        f"  {rest.seconds:.0f} s at rest: {_mb(rest.memory.resident)} resident (peak {_mb(rest.memory.peak)}), "
        f"{100 * rest.cpu.by_name['operator'] / rest.seconds:.1f} % of one CPU, {rest.reconciles} reconciles, "
        f"{rest.account.writes} writes"
    )
    yield f"    requests: {_counts(rest.account.operator)}"
    yield f"    written by anyone: {_counts(rest.account.written)}; the store's revision: +{rest.account.revision}"
    yield (
        f"  restart: stopped in {again.stopped:.1f} s, leads after {again.leading:.1f} s, has looked at all after "
        f"{again.observed:.1f} s and {again.cpu:.1f} s of CPU, {_mb(again.memory.resident)}, "
        f"{again.account.writes} writes"
    )
    yield f"    requests: {_counts(again.account.operator)}"


def _over(runs: Sequence[Created], figure: Callable[[Created], float]) -> Spread:
    return Spread.of([figure(run) for run in runs])


def _counts(counts: Mapping[str, int], of: int = 1) -> str:
    found = sorted(counts.items(), key=lambda item: (_ORDER.get(item[0], 0), -item[1]))
    return ", ".join(f"{name} {count / of:.3g}" for name, count in found) or "none"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
