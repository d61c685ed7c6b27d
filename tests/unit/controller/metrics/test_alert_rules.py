"""The alerts that are shipped: each is about series that the operator shows, and comes when it should.

Prometheus itself says what its rules do: they are run by its `promtool`, of the distribution's packages.
"""

import asyncio
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.metrics.evidence import ReportsWritten
from claude_sandbox.controller.metrics.metrics import Metrics
from claude_sandbox.localcluster.programs import os_packages
from claude_sandbox.trail.writer import Written

FILE = Path(__file__).parents[4] / "manifests" / "monitoring" / "alerts.yaml"
SPEC = yaml.safe_load(FILE.read_text())["spec"]
RULES = [rule for group in SPEC["groups"] for rule in group["rules"]]
# Shown with informers and engines at work only: what they are called is in their modules.
WATCHES = {"resource", "namespace", "selector"}
LABELS = {
    "claudesandbox_watch_readable": WATCHES,
    "claudesandbox_watch_age_seconds": WATCHES,
    "claudesandbox_docker_engine_errors_total": {"host", "code"},
}


async def shown() -> dict[str, set[str]]:
    """The labels of each series that an operator with a sandbox and a host shows."""
    metrics = Metrics(version="1")
    metrics.watch_hosts()
    metrics.watch_trail(Written())
    metrics.watch_reports(ReportsWritten(), lambda: 1)
    metrics.watch_node_agents(lambda: {"node-1": True}, lambda: datetime.now(UTC))
    conditions = [
        {"type": kind, "status": "True", "reason": "Any"} for kind in ("Ready", "Compliant", "Contained", "Stalled")
    ]
    summary = {"pass": 1, "fail": 0, "unknown": 0, "notApplicable": 0, "required": "1/1"}
    usage = {"requests": 1, "costUSD": "1", "denials": 2}
    due = [{"what": "Key", "at": "2026-03-01T00:00:00Z"}]
    image = {"last": {"result": "Rolled", "at": "2026-03-01T00:00:00Z"}}
    told = {"conditions": conditions, "usage": usage, "compliance": {"summary": summary}, "due": due, "image": image}
    metrics.sandboxes.put("agents", "alice", told)
    of_host = {"conditions": conditions, "due": [{**due[0], "name": "tls.crt"}], "incident": {"since": "2026-03-01"}}
    metrics.hosts.put("build-1", of_host, datetime.now(UTC))
    metrics.watch_certificates(lambda: {"agents": datetime.now(UTC)})
    metrics.watch_leading("claude-sandbox-operator", lambda: True)
    metrics.healed("Pod", "deleted")
    metrics.watch_sessions(lambda: {"agents": 1}, 64, lambda: datetime.now(UTC))
    observer = metrics.queue_observer()
    queue: WorkQueue[str] = WorkQueue(observer=observer)
    metrics.watch_queue(queue, observer, workers=1)
    found: dict[str, set[str]] = dict(LABELS)
    for family in text_string_to_metric_families(metrics.render().body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


SHOWN = asyncio.run(shown())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_series_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    expression = rule["expr"]
    names = set(re.findall(r"\b(?:claudesandbox|leader|workqueue)_[a-z_]+", expression))
    assert names, "it is about no series of the operator"
    assert names <= SHOWN.keys()
    labels = set.intersection(*(SHOWN[name] for name in names))
    assert set(re.findall(r"([a-z]+)(?:=|!=|=~)\"", expression)) <= labels
    kept = re.search(r"by \(([a-z, ]+)\)", expression)
    of = labels if kept is None else set(kept[1].split(", "))
    assert of <= labels
    told = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.([a-z]+)", told)) <= of
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}


def test_the_page_for_administrators_names_every_alert() -> None:
    page = (FILE.parents[2] / "docs" / "operations.md").read_text()
    assert [rule["alert"] for rule in RULES if f"`{rule['alert']}`" not in page] == []


SANDBOXES = 'claudesandbox_sandboxes{namespace="agents",ready="True",compliant="%s"}'
DUE = 'claudesandbox_due_timestamp_seconds{namespace="agents",name="alice",what="%s"}'
STALLED = 'claudesandbox_stalled{namespace="agents",name="%s",reason="%s"}'
CHANGED = 'claudesandbox_image_change_timestamp_seconds{namespace="agents",name="alice",result="%s"}'
CERTIFICATE = 'claudesandbox_gateway_certificate_end_timestamp_seconds{namespace="agents"}'
AGENTS = "claudesandbox_node_agents_certificate_end_timestamp_seconds"
SILENT = 'claudesandbox_node_agent_silent{node="%s"}'
LEADERS = 'leader_election_master_status{name="claude-sandbox-operator",pod="%s"}'
# Series, a moment, and the alerts that come by then, by a label that tells of whom.
CASES = {
    "all is well": ({SANDBOXES % "True": "3x20", LEADERS % "a": "1x20", LEADERS % "b": "0x20"}, "20m", {}),
    "one fails": ({SANDBOXES % "False": "1x20"}, "3m", {"ClaudeSandboxNotCompliant": {"namespace": "agents"}}),
    "one failed for a minute": ({SANDBOXES % "False": "1 0x20"}, "5m", {}),
    "not known for long": (
        {SANDBOXES % "Unknown": "2x20"},
        "16m",
        {"ClaudeSandboxNotVerified": {"namespace": "agents"}},
    ),
    "nobody leads": (
        {LEADERS % "a": "0x20", LEADERS % "b": "0x20"},
        "5m",
        {"ClaudeSandboxOperatorWithoutLeader": {"name": "claude-sandbox-operator"}},
    ),
    "healed again and again": (
        {'claudesandbox_heals_total{kind="NetworkPolicy",reason="changed"}': "0+1x40"},
        "30m",
        {"ClaudeSandboxHealedOften": {"kind": "NetworkPolicy", "reason": "changed"}},
    ),
    "healed once": ({'claudesandbox_heals_total{kind="Pod",reason="deleted"}': "0x5 1x40"}, "30m", {}),
    "a full disk": ({"claudesandbox_trail_unwritable": "1x20"}, "10m", {"ClaudeSandboxTrailUnwritable": {}}),
    "a disk that was full": ({"claudesandbox_trail_unwritable": "1x3 0x20"}, "10m", {}),
    "a trail that somebody changed": (
        {"claudesandbox_trail_damaged": "1x20"},
        "1m",
        {"ClaudeSandboxTrailDamaged": {}},
    ),
    "reports that can't be written": (
        {"claudesandbox_reports_not_written": "2x40"},
        "20m",
        {"ClaudeSandboxReportsNotWritten": {}},
    ),
    "reports that could not be written for a moment": ({"claudesandbox_reports_not_written": "2x5 0x40"}, "20m", {}),
    "a silent agent on one of two nodes": (
        {SILENT % "node-1": "1x40", SILENT % "node-2": "0x40"},
        "20m",
        {"ClaudeSandboxNodeAgentSilent": {"node": "node-1"}},
    ),
    "a key is due": (
        {DUE % "Key": "60x200"},
        "90m",
        {"ClaudeSandboxDue": {"namespace": "agents", "name": "alice", "what": "Key"}},
    ),
    "an exception ends in a day": (
        {DUE % "Exception": "86400x200"},
        "90m",
        {"ClaudeSandboxDueSoon": {"namespace": "agents", "name": "alice", "what": "Exception"}},
    ),
    "no backup was verified for as long as the spec allows": (
        {DUE % "Backup": "60x200"},
        "100m",
        {"ClaudeSandboxBackupDue": {"namespace": "agents", "name": "alice", "what": "Backup"}},
    ),
    "in quarantine and not contained": (
        {'claudesandbox_quarantined{namespace="agents",name="alice",contained="Unknown"}': "1x20"},
        "2m",
        {"ClaudeSandboxNotContained": {"namespace": "agents", "name": "alice", "contained": "Unknown"}},
    ),
    "in quarantine and contained": (
        {'claudesandbox_quarantined{namespace="agents",name="alice",contained="True"}': "1x20"},
        "10m",
        {},
    ),
    "the certificate of the port for sessions ends in six days": (
        {"claudesandbox_sessions_certificate_end_timestamp_seconds": "518400x200"},
        "90m",
        {"ClaudeSandboxSessionsCertificateEnds": {}},
    ),
    "it ends in eight days": ({"claudesandbox_sessions_certificate_end_timestamp_seconds": "691200x200"}, "90m", {}),
    "a compromised key": (
        {STALLED % ("alice", "KeyCompromised"): "1x20", STALLED % ("bob", "KeyCompromised"): "1x20"},
        "1m",
        {"ClaudeSandboxKeyCompromised": {"namespace": "agents"}},
    ),
    "a compromised host": (
        {
            'claudesandbox_docker_host_compromised{host="build-1"}': "1x20",
            STALLED % ("alice", "HostCompromised"): "1x20",
        },
        "16m",
        {"ClaudeSandboxDockerHostCompromised": {"host": "build-1"}, "ClaudeSandboxHostLost": {"namespace": "agents"}},
    ),
    "a policy refuses its image": (
        {STALLED % ("alice", "ImageNotAllowed"): "1x20", STALLED % ("bob", "SecretNotFound"): "1x20"},
        "6m",
        {"ClaudeSandboxRefused": {"namespace": "agents", "name": "alice", "reason": "ImageNotAllowed"}},
    ),
    "an image that was rolled back": (
        {CHANGED % "RolledBack": "60x20"},
        "10m",
        {"ClaudeSandboxImageRolledBack": {"namespace": "agents", "name": "alice", "result": "RolledBack"}},
    ),
    "an image that did not work beside the workload": (
        {CHANGED % "NotRolled": "60x20"},
        "10m",
        {"ClaudeSandboxImageRolledBack": {"namespace": "agents", "name": "alice", "result": "NotRolled"}},
    ),
    "an image that works": ({CHANGED % "Rolled": "60x20"}, "10m", {}),
    "a gateway's certificate that should have been renewed": (
        {CERTIFICATE: "1500000x200"},
        "90m",
        {"ClaudeSandboxCertificateNotRenewed": {"namespace": "agents"}},
    ),
    "a gateway's certificate that is about to be renewed": ({CERTIFICATE: "2600000x200"}, "90m", {}),
    "the certificate of the nodes' agents was not renewed": (
        {AGENTS: "1500000x200"},
        "90m",
        {"ClaudeSandboxNodeAgentsCertificateNotRenewed": {}},
    ),
    "the certificate of the nodes' agents is about to be renewed": ({AGENTS: "2600000x200"}, "90m", {}),
    "a host's certificate ends": (
        {'claudesandbox_docker_host_due_timestamp_seconds{host="build-1",name="tls.crt"}': "60x200"},
        "90m",
        {"ClaudeSandboxDockerHostCertificateDue": {"host": "build-1", "name": "tls.crt"}},
    ),
    "a sandbox ends, and a key is due in a month": (
        {DUE % "Lifetime": "60x200", DUE % "Key": "2600000x200"},
        "90m",
        {},
    ),
    "a silent engine": (
        {'claudesandbox_docker_host_contact_age_seconds{host="build-1"}': "0+60x20"},
        "10m",
        {"ClaudeSandboxDockerHostSilent": {"host": "build-1"}},
    ),
    "sessions nearly full": (
        {
            'claudesandbox_sessions_open{namespace="a"}': "8x40",
            'claudesandbox_sessions_open{namespace="b"}': "50x40",
            "claudesandbox_sessions_most": "64x40",
        },
        "20m",
        {"ClaudeSandboxSessionsNearlyFull": {}},
    ),
    "some sessions": (
        {'claudesandbox_sessions_open{namespace="a"}': "8x40", "claudesandbox_sessions_most": "64x40"},
        "20m",
        {},
    ),
}


@pytest.fixture(scope="module")
def promtool() -> Path:
    return os_packages.ensure(os_packages.Needed(("prometheus",), ("promtool",)), print).path("promtool")


@pytest.mark.parametrize("case", CASES)
def test_an_alert_comes_when_it_should_and_no_other(case: str, promtool: Path, tmp_path: Path) -> None:
    series, moment, expected = CASES[case]
    info = {'claudesandbox_info{version="1"}': "1x200"}
    alerts = {rule["alert"]: rule for rule in RULES}
    tests = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in (series | info).items()],
                "alert_rule_test": [
                    {
                        "eval_time": moment,
                        "alertname": name,
                        **(
                            {"exp_alerts": [{"exp_labels": alerts[name]["labels"] | expected[name]}]}
                            if name in expected
                            else {}
                        ),
                    }
                    for name in alerts
                ],
            }
        ],
    }
    # Only whether and of whom an alert comes is compared: its words are left out.
    for rule in (plain := yaml.safe_load(yaml.safe_dump(SPEC)))["groups"]:
        for one in rule["rules"]:
            del one["annotations"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(plain))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    checked = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
