"""The benchmark suite: `python -m tests.bench`. What it measures and what came out: docs/benchmarks.md."""
