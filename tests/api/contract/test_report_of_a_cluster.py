"""`claude-sandbox report` of a real API server: what it stored of a status is what is reported."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from reported_sandboxes import on_docker, on_kubernetes, with_result

from claude_sandbox.api import meta
from claude_sandbox.api.status import Result
from claude_sandbox.cli.report.command import report
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.resources import LEASES, SANDBOXES
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane
BAD = with_result(on_kubernetes(name="bob"), "PRIV-01", Result.FAIL, "it is", required=True, remedy="Do it.")
SPEC = {"credentials": {"apiKeySecretRef": {"name": "key"}}}


async def put(api: Api, namespace: str, document: Any) -> None:
    """The sandbox, with the status that the operator would have written."""
    backend = {"backend": document["spec"]["backend"]}
    body = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": document["metadata"]["name"]}}
    made = await api.create(SANDBOXES, body | {"spec": SPEC | backend}, namespace)
    status = document["status"] | {"observedGeneration": made["metadata"]["generation"]}
    await api.patch_status(SANDBOXES, made["metadata"]["name"], namespace, status)


async def run(cluster: Cluster, *arguments: str) -> Any:
    options = ("--kubeconfig", str(cluster.kubeconfig), "-o", "json", *arguments)
    return await asyncio.to_thread(CliRunner().invoke, report, options)


async def renewed(api: Api, namespace: str, age: timedelta) -> None:
    at = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": at}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": meta.LEASE}, "spec": spec}
    await api.create(LEASES, body, namespace)


async def test_what_the_server_stored_is_reported_from_there_and_from_a_file(
    with_crd: Cluster, api: Api, namespace: str, tmp_path: Path
) -> None:
    for one in (on_kubernetes(), BAD, on_docker()):
        await put(api, namespace, one)
    await renewed(api, namespace, timedelta(seconds=1))
    found = await run(with_crd, "-n", namespace, "--operator-namespace", namespace)
    assert found.exit_code == 1, found.output
    told = json.loads(found.stdout)
    assert [(one["name"], one["verdict"]) for one in told["sandboxes"]] == [
        ("alice", "Compliant"),
        ("bob", "NotCompliant"),
        ("dora", "Compliant"),
    ]
    assert "note" not in told
    file = tmp_path / "sandboxes.json"
    listed = await api.list(SANDBOXES, namespace)
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": listed.items}))
    assert json.loads(CliRunner().invoke(report, [str(file), "-o", "json"]).stdout)["sandboxes"] == told["sandboxes"]


async def test_no_pass_counts_of_a_cluster_whose_operator_is_silent(
    with_crd: Cluster, api: Api, namespace: str
) -> None:
    await put(api, namespace, on_kubernetes())
    await renewed(api, namespace, timedelta(hours=1))
    found = await run(with_crd, "-n", namespace, "--operator-namespace", namespace)
    assert found.exit_code == 3, found.output
    assert "no operator has renewed" in json.loads(found.stdout)["sandboxes"][0]["doubt"]
