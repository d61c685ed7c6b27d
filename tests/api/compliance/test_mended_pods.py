"""What `check files --fix` prints is taken by the API server, also where it enforces the restricted standard."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import generated_pods
import pytest
import pytest_asyncio

from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.pods.undeclared import Declarations
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.manifests.documents import Text
from claude_sandbox.manifests.fix.mend import mend
from claude_sandbox.manifests.judged import Standard

pytestmark = pytest.mark.controlplane

STANDARD = Standard(Declared(), Declarations(), datetime(2026, 3, 1, tzinfo=UTC))
SEEDS = 250
AT_ONCE = 24


@pytest_asyncio.fixture
async def api(control_plane: Cluster) -> AsyncIterator[Api]:
    async with Api(from_kubeconfig(str(control_plane.kubeconfig), None)) as api:
        yield api


async def _namespace(api: Api, level: str) -> str:
    metadata = {"generateName": f"mended-{level}-", "labels": {"pod-security.kubernetes.io/enforce": level}}
    created = await api.create(NAMESPACES, {"metadata": metadata}, None)
    name = str(created["metadata"]["name"])
    # Admission refuses pods until there is one, which a controller would make.
    await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, name)
    return name


def _mended(pod: dict[str, Any]) -> dict[str, Any]:
    written = {"apiVersion": "v1", "kind": "Pod", **pod}
    found: dict[str, Any] = json.loads(mend(Text("pod.json", json.dumps(written)), STANDARD).text)
    return found


async def test_a_mended_pod_is_admitted_where_the_restricted_standard_is_enforced(api: Api) -> None:
    anything_goes, restricted = await _namespace(api, "privileged"), await _namespace(api, "restricted")
    gate, seen = asyncio.Semaphore(AT_ONCE), Counter[str]()

    async def judge(seed: int) -> None:
        pod = generated_pods.generate(seed)
        # Which volumes it needs, and that it is for Windows, only its author knows.
        pod["spec"].pop("volumes", None)
        for one in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            one.pop("volumeMounts", None)
        if "windows" in json.dumps(pod):
            return
        async with gate:
            try:
                await api.create(PODS, pod, anything_goes, dry_run=True)
            except ApiError:
                seen["never valid"] += 1
                return
            try:
                await api.create(PODS, pod, restricted, dry_run=True)
            except ApiError:
                seen["refused before"] += 1
            mended = _mended(pod)
            try:
                await api.create(PODS, mended, restricted, dry_run=True)
            except ApiError as error:
                pytest.fail(f"seed {seed}: {error}")

    await asyncio.gather(*map(judge, range(SEEDS)))
    assert seen["refused before"] > SEEDS / 5
