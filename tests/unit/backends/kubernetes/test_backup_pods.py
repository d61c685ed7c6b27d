"""The pod that makes a backup: what it may, what it has, and what its end says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answering_server import Cluster, serving

from claude_sandbox.api import meta
from claude_sandbox.api.kinds.targets import BackupTarget
from claude_sandbox.backends.backups import Wanted
from claude_sandbox.backends.kubernetes.backups.helpers import (
    KubernetesBackups,
    helper_of,
    name_of,
    network_policy,
    pod,
)
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig

WANTED = Wanted(
    "agents", "one", "11111111-2222-3333-4444-555555555555", Identity("agents", "alice", "s"),
    BackupTarget.model_validate({"type": "VolumeClaim", "claimName": "backups"}), "secret", "password",
    {"action": "backup", "sandbox": "alice", "uid": "s"},
)  # fmt: skip
POD = pod(WANTED, Image("example.org/operator@sha256:1", None, "Never"), "node-1", [{"requests": {"storage": "3Gi"}}])


def test_the_workspace_is_read_only_and_the_password_is_not_beside_it() -> None:
    (work,), (first,) = POD["spec"]["containers"], POD["spec"]["initContainers"]
    mounts = {one["mountPath"]: one for one in work["volumeMounts"]}
    assert mounts["/source/workspace"]["readOnly"]
    assert "password" not in {one["name"] for one in work["volumeMounts"]}
    assert {one["name"] for one in first["volumeMounts"]} == {"password", "handed"}


def test_with_the_home_that_is_read_only_too_and_there_is_room_for_a_copy_of_both() -> None:
    image, claims = Image("example.org/operator@sha256:1", None, "Never"), ("3Gi", "1Gi")
    made = pod(replace(WANTED, home=True), image, None, [{"requests": {"storage": size}} for size in claims])["spec"]
    mounts = {one["mountPath"]: one for one in made["containers"][0]["volumeMounts"]}
    assert mounts["/source/home"] == {"name": "home", "mountPath": "/source/home", "readOnly": True}
    volumes = {one["name"]: one for one in made["volumes"]}
    assert volumes["home"]["persistentVolumeClaim"] == {"claimName": "sandbox-alice-home"}
    assert volumes["scratch"]["emptyDir"] == {"sizeLimit": str(4 << 30)}


def test_nothing_gets_in_or_out_and_it_is_no_sandboxes_pod() -> None:
    policy = network_policy(WANTED)["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= POD["metadata"]["labels"].items()
    assert (policy["ingress"], policy["egress"], len(policy["policyTypes"])) == ([], [], 2)
    assert meta.LABEL_SANDBOX not in POD["metadata"]["labels"]
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert len(POD["metadata"]["name"]) <= 63


SERVER = {"kind": "S3", "host": "s3.example.org", "port": 443, "address": "192.0.2.7", "path": "a", "region": "r"}


def test_to_a_server_elsewhere_it_reaches_one_address_and_no_resolver() -> None:
    target = BackupTarget.model_validate({
        "type": "S3", "s3": {"endpoint": "https://s3.example.org", "bucket": "abc"},
        "credentialsSecretRef": {"name": "lets-in"},
    })  # fmt: skip
    wanted = replace(WANTED, target=target, order={**WANTED.order, "server": SERVER})
    to = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}
    policy = network_policy(wanted)["spec"]
    assert (policy["ingress"], policy["egress"]) == ([], [to])
    made = pod(wanted, Image("example.org/operator@sha256:1", None, "Never"), None, [{"requests": {}}])["spec"]
    assert (made["dnsPolicy"], made["dnsConfig"]) == ("None", {"nameservers": ["192.0.2.1"]})
    assert len(made["hostname"]) <= 63
    (work,), (first,) = made["containers"], made["initContainers"]
    secrets = {one["name"] for one in made["volumes"] if "secret" in one}
    assert secrets == {"password", "credentials"}
    assert secrets <= {one["name"] for one in first["volumeMounts"]}
    assert not (secrets | {"repository"}) & {one["name"] for one in work["volumeMounts"]}


def test_it_goes_with_its_backup_and_runs_where_the_sandbox_does() -> None:
    (owner,) = POD["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("ClaudeSandboxBackup", WANTED.uid)
    assert "node-1" in str(POD["spec"]["affinity"])


def ended(message: str | None, code: int = 0) -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": code, "reason": "Error", **({"message": message} if message else {})}}}


@pytest.mark.parametrize(
    ("phase", "first", "work", "over", "outcome"),
    [
        ("Succeeded", ended(None), ended('{"outcome": "Done"}'), True, "Done"),
        ("Failed", ended(None), ended(None, 137), True, None),
        ("Failed", ended(None, 1), {"state": {"waiting": {"reason": "PodInitializing"}}}, True, None),
        ("Failed", ended('{"outcome": "Done"}', 1), {"state": {}}, True, None),
        ("Running", ended(None), {"state": {"running": {}}}, False, None),
        ("Pending", {"state": {"waiting": {"reason": "A", "message": "no image"}}}, {"state": {}}, False, None),
    ],
)
def test_what_its_status_says(phase: str, first: Any, work: Any, over: bool, outcome: str | None) -> None:
    status = {"phase": phase, "initContainerStatuses": [first], "containerStatuses": [work]}
    found = helper_of({"status": status})
    assert found.ended is over
    assert (found.result or {}).get("outcome") == outcome
    assert found.message


async def nobody_asks(_: Wanted) -> None: ...


async def test_how_far_it_is_the_last_word_of_its_log_says(tmp_path: Path) -> None:
    cluster = Cluster(
        gateways={name_of(WANTED): '{"progress": {"phase": "List"}}\n{"progress": {"phase": "Save"}}\n?\n'}
    )
    with serving(cluster, tmp_path) as kubeconfig:
        async with Api(from_kubeconfig(kubeconfig)) as api:
            helpers = KubernetesBackups(api, None, nobody_asks)
            assert await helpers.progress(WANTED) == {"phase": "Save"}
            for said in ("", '{"outcome": "Done"}', '{"progress": 3}'):
                cluster.gateways = {name_of(WANTED): said}
                assert await helpers.progress(WANTED) is None


async def test_an_installation_that_may_read_no_logs_does_without_and_does_not_ask_on(tmp_path: Path) -> None:
    cluster = Cluster(refused=("log",))
    with serving(cluster, tmp_path) as kubeconfig:
        async with Api(from_kubeconfig(kubeconfig)) as api:
            helpers = KubernetesBackups(api, None, nobody_asks)
            assert [await helpers.progress(WANTED) for _ in range(3)] == [None, None, None]
    assert len(cluster.asked) == 1
