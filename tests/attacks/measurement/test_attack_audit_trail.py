"""An agent, or who may write sandboxes in one namespace, against the audit trail.

What it would gain: to fill the disk; to have so much recorded that what matters is left out; to write a line of its own
by what a line quotes; to get a secret that it knows into a log that others read. Closed by: a bound for each kind of
record of each object and of each namespace, whose excess is told; JSON in one line of ASCII, chained and signed; and
redaction before anything is kept.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.controller.trail.recorder import Recorder
from claude_sandbox.trail.keys import PUBLIC, public_key
from claude_sandbox.trail.limits import NAMESPACE_BURST, OBJECT_BURST
from claude_sandbox.trail.records import Kind
from claude_sandbox.trail.settings import TrailSettings, writer_of
from claude_sandbox.trail.verification import verify


class Place:
    """A recorder with a real trail."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writer = writer_of(TrailSettings(directory))
        self.recorder = Recorder(self.writer)
        self.recorder.begin({"version": "1"})

    async def records(self) -> list[dict[str, Any]]:
        """All there are, once the operator has ended; they are genuine."""
        await self.recorder.end()
        assert verify(self.directory, [public_key((self.directory / PUBLIC).read_text())]).ok
        data = b"".join(path.read_bytes() for path in sorted(self.directory.glob("segment-*")))
        return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "trail")


def sandbox(name: str = "alice", uid: str = "one", generation: int = 1, **status: Any) -> dict[str, Any]:
    metadata = {"namespace": "agents", "name": name, "uid": uid, "generation": generation}
    return {"apiVersion": "claudesandbox.dev/v1alpha1", "kind": "ClaudeSandbox", "metadata": metadata, "status": status}


def denied(entry: str) -> dict[str, Any]:
    return {"usage": {"denied": [{"what": "Destination", "entry": entry}]}}


async def test_what_an_agent_causes_by_the_thousand_keeps_nothing_else_out(place: Place) -> None:
    for number in range(3000):
        place.recorder.status(sandbox(), denied(f"{number}.example.org"))
        ready = "True" if number % 2 else "False"
        place.recorder.status(sandbox(), {"conditions": [{"type": "Ready", "status": ready}]})
    place.recorder.told(sandbox(), "Healed", "NetworkPolicy sandbox-alice was changed")
    place.recorder.append(Kind.INCIDENT, sandbox(), {"message": "isolated"})
    found = await place.records()
    kinds = [one["kind"] for one in found]
    assert kinds.count("Healed") == kinds.count("Incident") == 1
    assert kinds.count("Denied") < 2 * OBJECT_BURST
    left = [one["data"]["leftOut"] for one in found if one["kind"] == "LeftOut"]
    assert sum(one.get("Denied", 0) for one in left) + kinds.count("Denied") == 3000


async def test_who_deletes_a_sandbox_and_makes_it_again_has_no_more_room(place: Place) -> None:
    for number in range(2000):
        place.recorder.sandbox("agents", "alice", sandbox(uid=f"uid-{number}"))
        place.recorder.sandbox("agents", "alice", None)
    kinds = [one["kind"] for one in await place.records()]
    assert kinds.count("SandboxCreated") < 2 * OBJECT_BURST
    assert "LeftOut" in kinds


async def test_a_namespace_has_a_bound_whatever_its_sandboxes_are_called(place: Place) -> None:
    for number in range(8000):
        place.recorder.told(sandbox(f"s-{number}", f"uid-{number}"), "Refused", "m")
        if number % 500 == 0:
            place.writer.settled(30)
    kinds = [one["kind"] for one in await place.records()]
    assert kinds.count("Refused") < 1.2 * NAMESPACE_BURST


@pytest.mark.parametrize(
    "text",
    ['"}\n{"trail":1,"seq":9,"kind":"SandboxDeleted"}', "\r\n", "\u2028\u2029\x85", "\ud800", '\\"},"kind":"Incident'],
)
async def test_what_a_line_quotes_is_no_line(place: Place, text: str) -> None:
    place.recorder.told(sandbox(), "Refused", text)
    place.recorder.status(sandbox(), denied(text))
    kinds = [one["kind"] for one in await place.records()]
    assert kinds.count("Refused") == kinds.count("Denied") == 1
    assert not {"SandboxDeleted", "Incident"} & set(kinds)


async def test_a_secret_that_an_agent_or_a_user_writes_somewhere_is_in_no_record(place: Place) -> None:
    secret = "sk-ant-api03-aBcDeFgHiJkLmNoPqRsTuVwX0123456789"
    exception = {"control": "IMG-01", "reason": f"token={secret}", "owner": secret, "expires": "2026-12-01"}
    spec = {"compliance": {"exceptions": [exception]}, "env": [{"name": "A", "value": secret}]}
    place.recorder.sandbox("agents", "alice", sandbox() | {"spec": spec})
    place.recorder.sandbox("agents", "alice", sandbox(generation=2) | {"spec": {secret: 1}})
    place.recorder.status(sandbox(), denied(secret))
    found = await place.records()
    assert {"SandboxCreated", "SpecChanged", "ExceptionsChanged", "Denied"} <= {one["kind"] for one in found}
    assert "aBcDeFgHiJ" not in json.dumps(found)
