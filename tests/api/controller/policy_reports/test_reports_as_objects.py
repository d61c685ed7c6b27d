"""Reports as objects of a real API server that serves such kinds: what is written, when, and what is left alone."""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from report_definitions import serve, serve_no_more
from reported_sandboxes import ATTACKS, NOW, on_docker, on_kubernetes, unmeasured, with_result

from claude_sandbox.api.status import Result
from claude_sandbox.controller.metrics.evidence import ReportsWritten
from claude_sandbox.controller.policy_reports import objects
from claude_sandbox.controller.policy_reports import operator as policy_reports
from claude_sandbox.controller.policy_reports.operator import PolicyReports
from claude_sandbox.controller.sandboxes.store import Key, Raw
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.informers.informer import Timings
from claude_sandbox.kubernetes_api.resources import NAMESPACES, OPEN_REPORTS, POLICY_REPORTS, Resource
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

PLACE = "reports-as-objects"
PATIENCE = 60.0
KINDS = [OPEN_REPORTS, POLICY_REPORTS]


def sandbox(raw: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """As the API server has it."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(raw))
    found["metadata"] |= {"namespace": PLACE, "creationTimestamp": "2026-01-01T00:00:00Z", **metadata}
    return found


@dataclass
class Lab:
    """A writer of reports in this process, and what it was told of."""

    operators: Api
    users: Api
    calls: list[str]
    """The methods of the writer's requests."""
    sandboxes: dict[Key, Raw] = field(default_factory=dict)
    told: list[tuple[str, str, str]] = field(default_factory=list)
    writer: PolicyReports | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, chosen: str = "Auto", *, leads: bool = True) -> PolicyReports:
        def tell(raw: Raw, reason: str, message: str) -> None:
            self.told.append((raw["metadata"]["name"], reason, message))

        self.writer = PolicyReports(
            self.operators,
            chosen,
            (PLACE,),
            lambda: list(self.sandboxes),
            self.sandboxes.get,
            tell,
            Timings(refused=0.2),
        )
        self.tasks = [asyncio.create_task(self.writer.run())]
        self.tasks += [asyncio.create_task(self.writer.work())] if leads else []
        return self.writer

    def put(self, raw: Raw) -> None:
        """A sandbox came or changed."""
        key = Key(raw["metadata"]["namespace"], raw["metadata"]["name"])
        self.sandboxes[key] = raw
        if self.writer is not None:
            self.writer.sandbox(key, raw)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def read(self, resource: Resource, name: str = "sandbox-alice") -> Obj | None:
        try:
            return await self.users.get(resource, name, PLACE)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise

    async def until(
        self, resource: Resource, true: Callable[[Obj], bool] = lambda _: True, name: str = "sandbox-alice"
    ) -> Obj:
        """Wait until there is such an object."""
        until = time.monotonic() + PATIENCE
        while (found := await self.read(resource, name)) is None or not true(found):
            assert time.monotonic() < until, (found, self.told)
            await asyncio.sleep(0.05)
        return found

    async def served(self, resource: Resource) -> None:
        """Wait until the server serves it."""
        until = time.monotonic() + PATIENCE
        while not await policy_reports.served(self.users, resource):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)

    async def no_more(self, resource: Resource) -> None:
        """Wait until it does not."""
        until = time.monotonic() + PATIENCE
        while await policy_reports.served(self.users, resource):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)

    async def until_told(self) -> None:
        """Wait until it has said something about a sandbox."""
        until = time.monotonic() + PATIENCE
        while not self.told:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)

    async def looked(self) -> None:
        """Wait until everything that it was told of was looked at."""
        assert self.writer is not None
        await asyncio.sleep(2 * policy_reports.SETTLE)
        until = time.monotonic() + PATIENCE
        while len(self.writer.queue) or self.writer.queue.in_work():
            assert time.monotonic() < until
            await asyncio.sleep(0.05)

    def writes(self) -> list[str]:
        """What was written to reports so far."""
        return [one for one in self.calls if not one.startswith("GET")]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the long run, in moments."""
    monkeypatch.setattr(policy_reports, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(policy_reports, "SETTLE", 0.1)
    monkeypatch.setattr(policy_reports, "PATIENCE", 2)


@pytest.fixture
async def lab(control_plane: Cluster) -> AsyncIterator[Lab]:
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    calls: list[str] = []

    def observed(method: str, _code: str, _seconds: float) -> None:
        calls.append(method)

    async with Api(credentials, observer=observed) as operators, Api(credentials) as users:
        with suppress(ApiError):
            await users.create(NAMESPACES, {"metadata": {"name": PLACE}})
        found = Lab(operators, users, calls)
        yield found
        await found.stop()
        for kind in KINDS:
            with suppress(ApiError):
                await serve_no_more(users, kind)
                await found.no_more(kind)


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_what_is_written_is_what_the_kinds_schema_has_and_goes_with_the_sandbox(lab: Lab, kind: Resource) -> None:
    await serve(lab.users, kind)
    raw = with_result(sandbox(on_kubernetes()), "PRIV-01", Result.FAIL, "it is privileged", required=True)
    lab.put(raw)
    lab.start()
    found = await lab.until(kind)
    sent = objects.wanted(raw, kind, NOW)
    # What the schema does not have the server would have dropped.
    assert {name: found[name] for name in sent if name != "metadata"} == {
        name: value for name, value in sent.items() if name != "metadata"
    }
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("ClaudeSandbox", "alice", raw["metadata"]["uid"])
    assert "blockOwnerDeletion" not in owner
    assert found["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "claude-sandbox-operator"}
    (failing,) = (one for one in found["results"] if one["rule"] == "PRIV-01")
    assert (failing["result"], failing["properties"]["more"]) == ("fail", "docs/reference/controls/PRIV-01.md")
    assert found["summary"]["fail"] == 1


async def test_nothing_is_written_until_a_kind_is_served_and_then_the_chosen_one(lab: Lab) -> None:
    lab.put(sandbox(on_kubernetes()))
    lab.put(sandbox(on_docker()))
    lab.start("PolicyReports")
    await serve(lab.users, OPEN_REPORTS)
    await lab.looked()
    assert lab.writes() == []
    await serve(lab.users, POLICY_REPORTS)
    await lab.until(POLICY_REPORTS)
    await lab.until(POLICY_REPORTS, name="sandbox-dora")
    assert await lab.read(OPEN_REPORTS) is None
    assert lab.writes() == ["POST", "POST"]


async def test_what_says_the_same_is_not_written_again_by_another_process_neither(lab: Lab) -> None:
    await serve(lab.users, OPEN_REPORTS)
    raw = sandbox(on_kubernetes())
    lab.put(raw)
    lab.start()
    written = await lab.until(OPEN_REPORTS)
    # As a status that tells of something else: a session, a cost, a condition.
    other = copy.deepcopy(raw)
    other["status"]["conditions"].append({"type": "Due", "status": "False", "reason": "NothingDue", "message": ""})
    other["status"]["evaluations"] = 7
    lab.put(other)
    await lab.looked()
    await lab.stop()
    lab.start()
    await lab.looked()
    found = await lab.until(OPEN_REPORTS)
    assert found["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"]
    assert lab.writes() == ["POST"]


async def test_what_changes_in_the_status_is_written_once(lab: Lab) -> None:
    await serve(lab.users, OPEN_REPORTS)
    raw = sandbox(on_kubernetes())
    lab.put(raw)
    lab.start()
    await lab.until(OPEN_REPORTS)
    for message in ("a", "b", "c"):
        lab.put(with_result(raw, "NET-01", Result.FAIL, message, required=True))
    await lab.until(OPEN_REPORTS, lambda found: found["summary"]["fail"] == 1)
    await lab.looked()
    assert lab.writes() == ["POST", "PATCH"]
    assert lab.writer is not None
    assert (lab.writer.told.written, lab.writer.missing()) == (2, 0)
    assert any(one["message"].endswith(": c") for one in (await lab.until(OPEN_REPORTS))["results"])


async def test_what_somebody_changes_or_deletes_comes_back(lab: Lab) -> None:
    await serve(lab.users, OPEN_REPORTS)
    lab.put(with_result(sandbox(on_kubernetes()), "NET-01", Result.FAIL, "it is open", required=True))
    lab.start()
    written = await lab.until(OPEN_REPORTS)
    await lab.users.patch(OPEN_REPORTS, "sandbox-alice", PLACE, {"results": [], "summary": {"fail": 0}})
    await lab.until(OPEN_REPORTS, lambda found: found["summary"]["fail"] == 1 and bool(found["results"]))
    await lab.users.delete(OPEN_REPORTS, "sandbox-alice", PLACE)
    again = await lab.until(OPEN_REPORTS, lambda found: found["metadata"]["uid"] != written["metadata"]["uid"])
    assert again["results"] == written["results"]


@pytest.mark.parametrize("labelled", [False, True], ids=["without our label", "with our label"])
async def test_one_of_somebody_elses_is_left_alone_and_told(lab: Lab, labelled: bool) -> None:
    await serve(lab.users, OPEN_REPORTS)
    await lab.served(OPEN_REPORTS)
    labels = {"app.kubernetes.io/managed-by": "claude-sandbox-operator"} if labelled else {}
    theirs = {"metadata": {"name": "sandbox-alice", "labels": labels}, "source": "somebody else"}
    head = {"apiVersion": OPEN_REPORTS.api_version, "kind": OPEN_REPORTS.kind}
    made = await lab.users.create(OPEN_REPORTS, head | theirs, PLACE)
    lab.put(sandbox(on_kubernetes()))
    lab.start()
    await lab.until_told()
    assert lab.writer is not None
    assert (lab.writer.told, lab.writer.missing()) == (ReportsWritten(refused=1), 1)
    [(name, reason, message)] = lab.told
    assert (name, reason) == ("alice", "ReportNotWritten")
    assert "sandbox-alice" in message
    found = await lab.until(OPEN_REPORTS)
    assert found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    # Whoever takes it away gets the report.
    await lab.users.delete(OPEN_REPORTS, "sandbox-alice", PLACE)
    await lab.until(OPEN_REPORTS, lambda found: bool(found.get("results")))
    await lab.looked()
    assert (lab.writer.told.written, lab.writer.missing()) == (1, 0)


async def test_one_of_an_earlier_sandbox_of_the_name_is_waited_for(lab: Lab) -> None:
    await serve(lab.users, OPEN_REPORTS)
    lab.put(sandbox(on_kubernetes(), uid="the-first"))
    lab.start()
    first = await lab.until(OPEN_REPORTS)
    lab.put(sandbox(on_kubernetes(), uid="the-second"))
    await asyncio.sleep(1)
    assert (await lab.until(OPEN_REPORTS))["metadata"]["uid"] == first["metadata"]["uid"]
    # As the garbage collector does.
    await lab.users.delete(OPEN_REPORTS, "sandbox-alice", PLACE)
    found = await lab.until(OPEN_REPORTS, lambda found: found["metadata"]["uid"] != first["metadata"]["uid"])
    assert found["metadata"]["ownerReferences"][0]["uid"] == "the-second"


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_a_hostile_status_makes_an_object_of_bounded_size_that_the_server_takes(lab: Lab, kind: Resource) -> None:
    await serve(lab.users, kind)
    raw = sandbox(on_kubernetes())
    for number in range(500):
        text = ATTACKS[number % len(ATTACKS)].encode(errors="ignore").decode() * 200
        told = {"required": True, "remedy": text, "evidence": {"source": text, "value": text}}
        raw["status"]["compliance"]["controls"].append(
            {"id": f"X-{number}", "title": text, "result": "Fail", "severity": "High", "message": text} | told
        )
    lab.put(raw)
    lab.start()
    found = await lab.until(kind)
    assert len(orjson.dumps(found)) < 256 * 1024
    assert {one["result"] for one in found["results"]} == {"fail"}


async def test_a_status_that_is_behind_its_spec_is_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await serve(lab.users, OPEN_REPORTS)
    lab.put(sandbox(on_kubernetes(), generation=4))
    lab.put(sandbox(unmeasured()))
    writer = lab.start()
    await lab.looked()
    assert lab.writes() == []
    lab.put(sandbox(on_kubernetes()))
    assert (await lab.until(OPEN_REPORTS))["summary"]["pass"] > 0
    assert writer.resource is OPEN_REPORTS
    # The other one is said when it has been so for long: that nobody measures it is worth a report.
    monkeypatch.setattr(policy_reports, "GRACE", 0.0)
    lab.put(sandbox(unmeasured()))
    found = await lab.until(OPEN_REPORTS, name="sandbox-new")
    assert found["summary"]["error"] == len(found["results"])


async def test_who_does_not_lead_writes_nothing(lab: Lab) -> None:
    await serve(lab.users, OPEN_REPORTS)
    await lab.served(OPEN_REPORTS)
    lab.put(sandbox(on_kubernetes()))
    lab.start(leads=False)
    await asyncio.sleep(1)
    assert lab.writes() == []


async def test_a_kind_that_is_served_no_more_ends_nothing(lab: Lab) -> None:
    await serve(lab.users, OPEN_REPORTS)
    lab.put(sandbox(on_kubernetes()))
    lab.start()
    await lab.until(OPEN_REPORTS)
    await serve_no_more(lab.users, OPEN_REPORTS)
    await lab.no_more(OPEN_REPORTS)
    lab.put(with_result(sandbox(on_kubernetes()), "NET-01", Result.FAIL, "it is open", required=True))
    await asyncio.sleep(1)
    await serve(lab.users, OPEN_REPORTS)
    assert (await lab.until(OPEN_REPORTS))["summary"]["fail"] == 1
