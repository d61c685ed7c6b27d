"""What a drill shows: how long each thing took, and whatever got out."""

from typing import Any

import pytest

from claude_sandbox.cli.incident.drill import percentile, told
from claude_sandbox.cli.incident.drilling import Drilled, drill_of_host, ready
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.kubernetes_api.errors import TIMED_OUT, ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS, SANDBOXES, Resource


def test_of_one_run_the_times_are_shown_and_of_several_percentiles() -> None:
    one = Drilled("drills/drill-1", {"Quarantined: contained": 0.25})
    assert told([one]) == [
        "  Quarantined: contained    0.25 s",
        "  Nothing went on after it was said to be contained.",
    ]
    many = [Drilled(f"drills/drill-{n}", {"Quarantined: contained": n / 100}) for n in range(1, 101)]
    head, line, _ = told(many)
    assert head.split() == ["p50", "p99"]
    assert line.split()[-4:] == ["0.50", "s", "0.99", "s"]


def test_the_percentile_of_few_is_their_worst() -> None:
    assert percentile([1.0, 2.0], 99) == 2.0
    assert percentile([1.0], 50) == 1.0


def test_what_got_out_is_shown_with_the_sandbox_that_it_got_out_of() -> None:
    leaky = Drilled("drills/drill-1", {}, got_out=["3 signs of life after it was said to be contained"])
    assert told([leaky])[-1].startswith("  GOT OUT: drills/drill-1: 3 signs of life")


def test_what_a_status_says_of_an_earlier_spec_makes_nothing_ready() -> None:
    live: dict[str, Any] = {
        "metadata": {"generation": 2},
        "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True", "reason": "x"}]},
    }
    assert ready(live)
    assert not ready({**live, "metadata": {"generation": 3}})


class Server:
    """An API server that takes what is declared of a host, and whose answer to that does not come."""

    def __init__(self) -> None:
        self.declared: list[Any] = []
        self.there = False

    async def create(self, *_: Any) -> None:
        self.there = True

    async def delete(self, *_: Any) -> None:
        self.there = False

    async def get(self, resource: Resource, *_: Any) -> dict[str, Any]:
        if resource is DOCKER_HOSTS:
            return {"status": {"sandboxes": 1}}
        if not self.there:
            raise ApiError(404, "NotFound", "gone")
        ready = {"type": "Ready", "status": "True", "reason": "x"}
        return {"status": {"conditions": [ready], "placement": {"host": "spare"}}}

    async def patch(self, resource: Resource, _name: str, _namespace: str | None, body: Any) -> None:
        if resource is SANDBOXES:
            return
        self.declared.append(body["spec"]["incident"])
        if body["spec"]["incident"] is not None:
            raise ApiError(0, TIMED_OUT, "no answer")


async def test_a_host_that_was_declared_compromised_for_a_drill_is_not_left_so() -> None:
    server = Server()
    api: Any = server
    with pytest.raises(WorkError):
        await drill_of_host(api, "drills", {"backend": {"type": "Docker"}}, "spare", 5.0)
    assert server.declared == [{"state": "HostCompromised", "note": "a drill"}, None]
