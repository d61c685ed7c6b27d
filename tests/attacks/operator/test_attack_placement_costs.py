"""Sandboxes that wait for a host make each other wait: for each of them the specs of all placed ones were parsed anew.

With 500 placed and as many waiting that was a quarter of a million parses at each change of a host. Closed by sums for
each host, kept up to date by what changes; a spec is understood once for each UID and generation.
"""

from typing import Any

import pytest

from claude_sandbox.api import validate
from claude_sandbox.controller.docker_hosts import demand
from claude_sandbox.controller.docker_hosts.demand import HostAllocations
from claude_sandbox.controller.sandboxes.store import Sandboxes

PLACED = 200


def _sandbox(number: int, version: int, generation: int = 1, **status: Any) -> dict[str, Any]:
    metadata = {"namespace": "agents", "name": f"s{number}", "uid": f"u{number}", "generation": generation}
    spec = {"credentials": {"apiKeySecretRef": {"name": "key"}}, "backend": {"type": "Docker"}}
    placement = {"placement": {"host": "one", "engineID": "e"}}
    return {"metadata": metadata | {"resourceVersion": str(version)}, "spec": spec, "status": placement | status}


def test_a_choice_costs_nothing_for_those_that_are_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def counted(raw: Any) -> Any:
        parsed.append(raw["metadata"]["name"])
        return validate.parse_spec(raw)

    monkeypatch.setattr(demand, "parse_spec", counted)
    sandboxes = Sandboxes()
    demands = HostAllocations(sandboxes)
    for number in range(PLACED):
        sandboxes.put(_sandbox(number, version=1))
    assert len(parsed) == PLACED
    assert demands.taken("one").sandboxes == PLACED
    for _ in range(1000):
        demands.taken("one")
    # A status that changes changes no spec.
    for number in range(PLACED):
        sandboxes.put(_sandbox(number, version=2, workload={"name": "x", "uid": "y"}))
    assert len(parsed) == PLACED
    sandboxes.put(_sandbox(0, version=3, generation=2))
    assert parsed[PLACED:] == ["s0"]
