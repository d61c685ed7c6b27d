"""What users and tools see of a ClaudeSandbox on a real API server."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from contract_server import Server
from host_documents import host_document

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status import (
    MAX_CONTROLS,
    ClaudeSandboxStatus,
    Compliance,
    Condition,
    ControlStatus,
    EvidenceSource,
    EvidenceStatus,
    Heals,
    Passed,
    Result,
    Severity,
    Summary,
    Workload,
)
from claude_sandbox.api.status_fields.usage import (
    Answered,
    BudgetLeft,
    BudgetState,
    Denied,
    DeniedEntry,
    ModelUsage,
    Trouble,
    TroubleKind,
    Usage,
    UsedWindow,
)

pytestmark = pytest.mark.controlplane

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


_COUNTS: dict[str, Any] = {
    "requests": 2**62, "input_tokens": 1, "output_tokens": 2, "cache_write_tokens": 3, "cache_read_tokens": 4,
    "cost_usd": "0.000000001",
}  # fmt: skip
USAGE = Usage(
    **_COUNTS,
    window=UsedWindow(began=NOW, ends=NOW, cost_usd="1", output_tokens=2),
    models=[ModelUsage(model="claude-sonnet-5-5", **_COUNTS), ModelUsage(model="other", **_COUNTS)],
    budget=BudgetLeft(state=BudgetState.SPENT, left_usd="0", left_output_tokens=0, until=NOW),
    last_answered=Answered(time=NOW, generation="7"),
    trouble=Trouble(kind=TroubleKind.KEY_REFUSED, since=NOW, generation="7", message="401: no"),
    denials=2,
    denied=[DeniedEntry(what=Denied.MODEL, entry="claude-opus-5-5", count=2, first=NOW, last=NOW)],
    reported_at=NOW,
)


def sandbox(**spec: Any) -> dict[str, Any]:
    credentials = {"apiKeySecretRef": {"name": "anthropic-api-key"}}
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.KIND,
        "metadata": {"name": "alice"},
        "spec": {"credentials": credentials, **spec},
    }


@pytest.fixture
async def alice(server: Server) -> AsyncIterator[Server]:
    """The server, with a sandbox that only says where its key is."""
    answer = await server.create(sandbox())
    assert answer.accepted, answer.message
    yield server
    await server.delete("alice")


def status(controls: int = 1) -> ClaudeSandboxStatus:
    """A status as the operator writes one."""
    evidence = EvidenceStatus(source=EvidenceSource.LIVE_OBJECT, observed_at=NOW, value="false")
    control = ControlStatus(
        id="PRIV-01",
        title="not privileged",
        result=Result.FAIL,
        severity=Severity.CRITICAL,
        required=True,
        evidence=evidence,
    )
    counts: dict[str, Any] = {"pass": 41, "fail": 0, "unknown": 1, "notApplicable": 2, "required": "41/41"}
    return ClaudeSandboxStatus(
        observed_generation=1,
        conditions=[
            Condition(
                type=kind,
                status=ConditionStatus.FALSE if kind is ConditionType.DRIFTED else ConditionStatus.TRUE,
                observed_generation=1,
                last_transition_time=NOW,
                reason=Reason.SANDBOX_READY,
                message=f"{kind} in words.",
            )
            for kind in ConditionType
        ],
        backend=BackendType.KUBERNETES,
        workload=Workload(name="sandbox-alice", uid="u", node="node-1", started_at=NOW),
        compliance=Compliance(
            summary=Summary.model_validate(counts),
            evaluated_at=NOW,
            passed=[Passed(source=EvidenceSource.ACCESS_REVIEW, observed_at=NOW, controls=["ID-03"])],
            controls=[control] * controls,
        ),
        usage=USAGE,
        heals=Heals(count=3),
    )


def wire(written: ClaudeSandboxStatus) -> dict[str, Any]:
    return {"status": written.model_dump(mode="json", by_alias=True, exclude_none=True)}


async def test_a_minimal_sandbox_is_stored_with_every_default(alice: Server) -> None:
    stored = (await alice.get("alice"))["spec"]
    assert stored == {
        "profile": "Development",
        "backend": {"type": "Kubernetes"},
        "operatingMode": "Running",
        "command": [],
        "args": [],
        "env": [],
        "credentials": {
            "apiKeySecretRef": {"name": "anthropic-api-key", "key": "api-key"},
            "delivery": "Brokered",
        },
        "resources": {"cpu": "2", "memory": "2Gi", "ephemeralStorage": "8Gi"},
        "workspace": {"type": "PersistentVolumeClaim", "size": "10Gi"},
        "network": {
            "egress": {
                "allowedDomains": [],
                "allowedPorts": [443],
            },
            "ports": [],
        },
        "security": {"seccompProfile": {"type": "RuntimeDefault"}, "executableScratch": True, "userNamespace": False},
        "claudeCode": {"skills": []},
        "compliance": {"level": "Sandbox", "exceptions": []},
        "services": [],
        "repositories": [],
        "updateStrategy": {"type": "OnDelete"},
    }


async def test_a_fresh_sandbox_does_not_look_current(alice: Server) -> None:
    # kstatus calls an object without conditions current unless its observedGeneration is another one.
    fresh = await alice.get("alice")
    assert fresh["status"] == {"observedGeneration": -1}
    assert fresh["status"]["observedGeneration"] != fresh["metadata"]["generation"]


async def test_nobody_writes_a_status_by_creating_a_sandbox(server: Server) -> None:
    answer = await server.create(sandbox() | wire(status()), dry_run=True)
    assert answer.body["status"] == {"observedGeneration": -1}


async def test_the_columns_of_kubectl_get(alice: Server) -> None:
    assert (await alice.merge("alice", wire(status()), subresource="/status")).accepted
    names, rows = await alice.table(wide=False)
    assert names == ["Name", "Ready", "Compliant", "Controls", "Backend", "Reason", "Age"]
    assert rows[0][:-1] == ["alice", "True", "True", "41/41", "Kubernetes", "SandboxReady"]
    assert rows[0][-1].endswith("s")


async def test_the_columns_of_kubectl_get_wide(alice: Server) -> None:
    assert (await alice.merge("alice", wire(status()), subresource="/status")).accepted
    names, rows = await alice.table(wide=True)
    columns = dict(zip(names[7:], rows[0][7:], strict=True))
    # An age: it grows for as long as this test is kept.
    assert re.fullmatch(r"\d+[dy]\w*", columns.pop("Since"))
    assert columns == {
        "Profile": "Development",
        "Mode": "Running",
        "Isolated": "True",
        "Credentials": "True",
        "Drifted": "False",
        "Heals": 3,
        "Workload": "sandbox-alice",
        "Node": "node-1",
        "Host": None,
        "Message": "Ready in words.",
        "Cost": "0.000000001",
        "Budget": "Spent",
        "Ends": None,
    }


async def test_columns_are_empty_until_the_operator_has_seen_the_sandbox(alice: Server) -> None:
    _, rows = await alice.table(wide=False)
    assert rows[0][:-1] == ["alice", None, None, None, "Kubernetes", None]


async def test_a_status_with_every_control_is_stored_as_written(alice: Server) -> None:
    written = wire(status(MAX_CONTROLS))
    answer = await alice.merge("alice", written, subresource="/status")
    assert answer.accepted, answer.message
    assert answer.body["status"] == written["status"]
    assert ClaudeSandboxStatus.model_validate(answer.body["status"]) == status(MAX_CONTROLS)


async def test_a_status_of_more_controls_is_refused(alice: Server) -> None:
    written = wire(status())
    written["status"]["compliance"]["controls"] *= MAX_CONTROLS + 1
    answer = await alice.merge("alice", written, subresource="/status")
    assert "status.compliance.controls" in answer.message


@pytest.mark.parametrize(
    ("workspace", "field", "remedy"),
    [
        ({"type": "EmptyDir"}, "spec.workspace.type", "make a new sandbox"),
        ({"storageClassName": "fast"}, "spec.workspace.storageClassName", "make a new sandbox"),
        ({"size": "9Gi"}, "spec.workspace.size", "larger"),
    ],
)
async def test_what_a_claim_can_not_follow_is_refused(
    alice: Server, workspace: dict[str, str], field: str, remedy: str
) -> None:
    answer = await alice.merge("alice", {"spec": {"workspace": workspace}})
    assert answer.code == 422
    assert [cause for cause in answer.causes if cause[0] == field and remedy in cause[1]]


async def test_a_workspace_may_grow(alice: Server) -> None:
    answer = await alice.merge("alice", {"spec": {"workspace": {"size": "0.02Ti"}}})
    assert answer.accepted, answer.message


DOCKER = {"type": "Docker", "hostSelector": {"matchLabels": {"zone": "a"}}}


@pytest.mark.parametrize(
    ("made", "changed"),
    [
        ({}, {"type": "Docker"}),
        ({"type": "Docker"}, {"type": "Kubernetes"}),
        ({"type": "Docker"}, {"hostRef": {"name": "build-1"}}),
        ({"type": "Docker", "hostRef": {"name": "build-1"}}, {"hostRef": {"name": "build-2"}}),
        ({"type": "Docker", "hostRef": {"name": "build-1"}}, {"hostRef": None}),
        (DOCKER, {"hostSelector": {"matchLabels": {"zone": "b"}}}),
    ],
)
async def test_a_sandbox_stays_where_its_workspace_is(
    server: Server, made: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert (await server.create(sandbox(backend=made))).accepted
    try:
        answer = await server.merge("alice", {"spec": {"backend": changed}})
        assert answer.code == 422
        assert [cause for cause in answer.causes if cause[0] == "spec.backend" and "make a new sandbox" in cause[1]]
        # Everything else of it can still be changed.
        assert (await server.merge("alice", {"spec": {"operatingMode": "Suspended"}})).accepted
    finally:
        await server.delete("alice")


async def test_the_columns_of_a_docker_host(hosts: Server) -> None:
    document = host_document("build-1", {"endpoint": "unix:///var/run/docker.sock", "unschedulable": True})
    assert (await hosts.create(document)).accepted
    try:
        status = {"observedGeneration": 1, "sandboxes": 3, "engine": {"version": "29.1.0"}, "free": {"cpu": "500m"}}
        assert (await hosts.merge("build-1", {"status": status}, subresource="/status")).accepted
        names, rows = await hosts.table(wide=True)
        row = dict(zip(names, rows[0], strict=True))
        assert row["Sandboxes"] == 3
        assert row["Unschedulable"] is True
        assert row["Engine"] == "29.1.0"
        assert row["Free-CPU"] == "500m"
        assert row["Endpoint"] == "unix:///var/run/docker.sock"
    finally:
        await hosts.delete("build-1")


async def test_a_fresh_host_does_not_look_current(hosts: Server) -> None:
    document = host_document("build-1", {"endpoint": "unix:///var/run/docker.sock"})
    answer = await hosts.create(document, dry_run=True)
    assert answer.body["status"] == {"observedGeneration": -1}
    assert answer.body["spec"]["allowedNamespaces"] == {"names": []}


async def test_one_port_of_many_can_be_changed_by_its_name(server: Server) -> None:
    ports = [{"name": "http", "containerPort": 8080}, {"name": "mcp", "containerPort": 3000}]
    assert (await server.create(sandbox(network={"ports": ports}))).accepted
    try:
        applied = sandbox(network={"ports": [{"name": "mcp", "containerPort": 3001}]})
        answer = await server.apply(applied)
        assert answer.accepted, answer.message
        assert [port["containerPort"] for port in answer.body["spec"]["network"]["ports"]] == [8080, 3001]
    finally:
        await server.delete("alice")
