"""The API server's own PodSecurity admission is the truth that `pss` is measured against, pod by pod."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import generated_pods
import pytest
import pytest_asyncio

from claude_sandbox.compliance.pods import pod_security
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

LEVELS: tuple[pod_security.Level, ...] = ("baseline", "restricted")
AT_ONCE = 24

# What the admission says for each check; several checks share a sentence, of which only one is made at a time.
_REASONS = {
    "allowPrivilegeEscalation != false": ("allowPrivilegeEscalation",),
    "forbidden AppArmor profile": ("appArmorProfile",),
    "forbidden AppArmor profiles": ("appArmorProfile",),
    "forbidden sysctls": ("sysctls",),
    "host namespaces": ("hostNamespaces",),
    "hostPath volumes": ("hostPathVolumes",),
    "hostPort": ("hostPorts",),
    "hostProcess": ("windowsHostProcess",),
    "non-default capabilities": ("capabilities_baseline",),
    "privileged": ("privileged",),
    "probe or lifecycle host": ("hostProbesAndHostLifecycle",),
    "procMount": ("procMount", "procMount_restricted"),
    "restricted volume types": ("restrictedVolumes",),
    "runAsNonRoot != true": ("runAsNonRoot",),
    "runAsUser=0": ("runAsUser",),
    "seLinuxOptions": ("seLinuxOptions",),
    "seccompProfile": ("seccompProfile_baseline", "seccompProfile_restricted"),
    "unrestricted capabilities": ("capabilities_restricted",),
}


@pytest_asyncio.fixture
async def api(control_plane: Cluster) -> AsyncIterator[Api]:
    async with Api(from_kubeconfig(str(control_plane.kubeconfig), None)) as api:
        yield api


async def test_every_generated_pod_is_judged_as_the_api_server_judges_it(api: Api) -> None:
    await _agree(api, minor=34, seeds=range(2400))


async def test_so_it_is_on_a_newer_kubernetes(newer_control_plane: Cluster) -> None:
    async with Api(from_kubeconfig(str(newer_control_plane.kubeconfig), None)) as api:
        await _agree(api, minor=37, seeds=range(10_000, 10_500))


async def test_debug_containers_are_judged_as_the_api_server_judges_them(api: Api) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    for level in LEVELS:
        namespace = await _namespace(api, level)
        pod = await api.create(PODS, generated_pods.restricted("host"), namespace)

        async def judge(seed: int, pod: dict[str, Any] = pod, level: pod_security.Level = level) -> str:
            changed = pod | {"spec": pod["spec"] | {"ephemeralContainers": [generated_pods.ephemeral_container(seed)]}}
            async with gate:
                answer = await _dry_run_ephemeral(api, changed)
            if answer is None:
                return "invalid"
            assert answer == _ours(changed, level, 34), f"seed {seed} at {level}"
            return "refused" if answer else "admitted"

        outcomes = Counter(await asyncio.gather(*(judge(seed) for seed in range(150))))
        assert outcomes["refused"] >= 20
        assert outcomes["admitted"] >= 20
        assert outcomes["invalid"] <= 15


async def _agree(api: Api, minor: int, seeds: Sequence[int]) -> None:
    namespaces = {level: await _namespace(api, level) for level in LEVELS}
    anything_goes = await _namespace(api, "privileged")
    gate = asyncio.Semaphore(AT_ONCE)
    seen: Counter[str] = Counter()

    async def judge(seed: int) -> None:
        pod = generated_pods.generate(seed)
        async with gate:
            try:
                # As it would live: with what the API server fills in.
                live = await api.create(PODS, pod, anything_goes, dry_run=True)
            except ApiError:
                seen["invalid"] += 1
                return
            for level in LEVELS:
                theirs = await _dry_run(api, pod, namespaces[level], minor)
                ours = _ours(live, level, minor)
                assert ours == theirs, f"seed {seed} at {level} on 1.{minor}"
                seen[f"{level} {'refused' if theirs else 'admitted'}"] += 1
                seen.update(f"{level} {check_id}" for check_id in ours)

    async with asyncio.TaskGroup() as group:
        for seed in seeds:
            group.create_task(judge(seed))
    print(dict(seen))
    # The comparison is worth as much as it compares.
    assert seen["invalid"] < 0.1 * len(seeds)
    for level in LEVELS:
        assert seen[f"{level} admitted"] > 0.05 * len(seeds)
        assert seen[f"{level} refused"] > 0.2 * len(seeds)
        missing = {check_id for check_id, _ in pod_security.checks(level, minor) if not seen[f"{level} {check_id}"]}
        if minor >= 35:
            # Only pods in a user namespace may set it at all, and those the baseline excuses.
            missing.discard("procMount")
        assert not missing, f"no generated pod ever violates {missing}"


def _ours(pod: dict[str, Any], level: pod_security.Level, minor: int) -> frozenset[str]:
    return frozenset(violation.check_id for violation in pod_security.violations(pod, level, minor))


async def _dry_run(api: Api, pod: dict[str, Any], namespace: str, minor: int) -> frozenset[str]:
    """The checks for which the API server refuses the pod; empty if it admits it."""
    try:
        await api.create(PODS, pod, namespace, dry_run=True)
    except ApiError as error:
        return _checks_in(error.message, minor)
    return frozenset()


async def _dry_run_ephemeral(api: Api, pod: dict[str, Any]) -> frozenset[str] | None:
    """As `_dry_run`, for ephemeral containers added to a pod that exists; None where they are invalid."""
    metadata = {field: pod["metadata"][field] for field in ("name", "namespace")}
    spec = {"ephemeralContainers": pod["spec"]["ephemeralContainers"]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    try:
        await api.apply(PODS, body, subresource="ephemeralcontainers", dry_run=True)
    except ApiError as error:
        return None if error.is_invalid else _checks_in(error.message, 34)
    return frozenset()


def _checks_in(message: str, minor: int) -> frozenset[str]:
    """The identifiers of the checks in a refusal: `violates PodSecurity "baseline:latest": reason (detail), …`."""
    found = re.search(r'violates PodSecurity "(baseline|restricted):latest": (.*)$', message)
    assert found, f"refused for another reason: {message}"
    level, reasons = found.groups()
    made = {check_id for check_id, _ in pod_security.checks(level, minor)}
    return frozenset(
        check_id
        for reason in re.sub(r" \([^()]*\)", "", reasons).split(", ")
        for check_id in _REASONS[reason]
        if check_id in made
    )


async def _namespace(api: Api, level: str) -> str:
    """A namespace that enforces `level`. There is no controller that would make the default ServiceAccount."""
    name = f"enforces-{level}"
    labels = {"pod-security.kubernetes.io/enforce": level}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
    for resource, manifest, namespace in ((NAMESPACES, body, None), (SERVICE_ACCOUNTS, account, name)):
        try:
            await api.create(resource, manifest, namespace)
        except ApiError as error:
            if not error.is_already_exists:
                raise
    return name
