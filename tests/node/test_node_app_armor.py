"""AppArmor in force on a real kubelet with containerd, in a virtual machine whose kernel has it.

The kubelet has no API server, which would take a machine that translates programs a long time: its pods are files.
They are the operator's, but for what would take one. What the kubelet and the agent of the nodes tell is judged here.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from app_armor import ATTEMPT, PATIENCE, PROFILE, profile, told_by
from compliant_sandbox import NOW, World, compliant
from nodekit import report
from sandboxkit import SMALL

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.spec import AppArmorProfile
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.api.validate import parse_spec
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.backends.kubernetes.node_agents import answers
from claude_sandbox.backends.kubernetes.state import state_of
from claude_sandbox.blueprint.build import build
from claude_sandbox.blueprint.model import Identity, Image, Site
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.compliance.reports.pods import findings
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.node.parts import NEEDED
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import ensure
from claude_sandbox.localcluster.programs.tools import DEFAULT_KUBERNETES, kubernetes_release, tool

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]

ASKED: dict[str, dict[str, str] | None] = {
    "plain": None,
    "default": {"type": "RuntimeDefault"},
    "confined": {"type": "Localhost", "localhostProfile": PROFILE},
    "unconfined": None,
}
"""What sandboxes ask for; the pod of the last is changed behind the operator's back."""
_PROGRAMS = ("kubelet", "containerd", "containerd-shim-runc-v2", "runc", "pause")


def pod(name: str, uid: str, image: str) -> dict[str, Any]:
    """The operator's, without what comes by an API server, without a network, and with another command."""
    asked = ASKED[name]
    spec = {**SMALL, "security": {} if asked is None else {"appArmorProfile": asked}}
    site = Site(Image(image, None, "Never"))
    made = objects.pod(build(Identity("agents", name, uid), parse_spec({"spec": spec}), site), None)
    made["metadata"] = {"name": name, "namespace": "agents", "uid": uid}
    told = made["spec"]
    told.pop("serviceAccountName", None)
    told |= {"hostNetwork": True, "volumes": [one for one in told["volumes"] if "emptyDir" in one]}
    [agent] = told["containers"]
    there = {one["name"] for one in told["volumes"]}
    agent["volumeMounts"] = [one for one in agent["volumeMounts"] if one["name"] in there]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        agent.pop(probe)
    agent |= {"command": ["/bin/sh", "-c", f"({ATTEMPT}) 2>&1; exec sleep 3600"]}
    agent.pop("args", None)
    if name == "unconfined":
        told["securityContext"]["appArmorProfile"] = {"type": "Unconfined"}
    return made


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, tiny_image: ImageArchive) -> dict[str, Any]:
    told = tmp_path_factory.mktemp("told")
    release, programs = kubernetes_release(DEFAULT_KUBERNETES), ensure(NEEDED, report)
    built = builder.build_all([tool(name, release) for name in _PROGRAMS], report)
    pause = of_programs(
        {"/pause": built["pause"]}, told / "pause.tar", "claudesandbox.dev/pause:1", builder.goarch(), ("/pause",)
    )
    (told / "tiny.tar").write_bytes(tiny_image.path.read_bytes())
    (told / "profile").write_text(profile())
    (told / "pods").mkdir()
    for number, name in enumerate(ASKED):
        made = pod(name, f"00000000-0000-4000-8000-{number:012d}", tiny_image.reference)
        (told / "pods" / f"{name}.json").write_text(json.dumps(made))
    plan = {
        "environment": programs.environment(),
        "images": ["/run/told/pause.tar", "/run/told/tiny.tar"],
        "pause": pause.reference,
        "shim": str(built["containerd-shim-runc-v2"]),
        **{name: str(built[name]) for name in ("kubelet", "containerd", "runc")},
        **{name: str(programs.path(name)) for name in ("ip", "ctr")},
    }
    (told / "plan.json").write_text(json.dumps(plan))
    return told_by("app_armor_on_a_kubelet.py", told)


def judged(seen: Mapping[str, Any], name: str, *, kernel: bool = True) -> Finding:
    """KERN-02 of the pod as the kubelet has it, and as the agent of the node tells it."""
    world: World = compliant()
    asked = ASKED[name]
    world.declare(app_armor=None if asked is None else AppArmorProfile.model_validate(asked))
    world.runtime_class = None
    world.pod = seen["pod"]
    evidence = world.evidence()
    if kernel:
        answer = answers.read(json.dumps(seen["agent"]).encode(), seen["pod"]["metadata"]["uid"])
        processes, _, _ = answers.settled(answer, {})
        evidence = replace(evidence, kernel=Reading(processes, EvidenceSource.HOST_PROC, NOW))
    return next(one for one in findings(evidence) if one.control.id == "KERN-02")


@pytest.mark.parametrize("name", ["plain", "default"])
def test_a_pod_is_held_to_the_runtimes_own(found: dict[str, Any], name: str) -> None:
    seen = found["without"][name]
    finding = judged(seen, name)
    assert (finding.result, finding.source) == (Result.PASS, EvidenceSource.HOST_PROC)
    assert "cri-containerd.apparmor.d (enforce)" in finding.verdict.value
    assert seen["wrote"].count("written") == 1


def test_a_node_without_the_profile_is_named(found: dict[str, Any]) -> None:
    state = state_of(found["without"]["confined"]["pod"])
    assert (state.status, state.reason) == (ConditionStatus.FALSE, Reason.PROFILE_MISSING)
    for word in ("node-7", f"it has not loaded the profile {PROFILE}", "Have an administrator see to that"):
        assert word in state.message


def test_with_the_profile_the_pod_starts_and_is_refused_what_it_forbids(found: dict[str, Any]) -> None:
    seen = found["with"]["confined"]
    finding = judged(seen, "confined")
    assert (finding.result, finding.source) == (Result.PASS, EvidenceSource.HOST_PROC)
    assert f"{PROFILE} (enforce)" in finding.verdict.value
    assert "allowed" in seen["wrote"]
    assert "Permission denied" in seen["wrote"]
    assert "written" not in seen["wrote"]


def test_a_pod_that_is_unconfined_fails_by_either_witness(found: dict[str, Any]) -> None:
    seen = found["without"]["unconfined"]
    assert judged(seen, "unconfined").result is Result.FAIL
    assert judged(seen, "unconfined", kernel=False).result is Result.FAIL
    del seen["pod"]["spec"]["securityContext"]["appArmorProfile"]
    # As if its object said nothing of it.
    assert judged(seen, "unconfined", kernel=False).result is Result.PASS
    assert "unconfined" in judged(seen, "unconfined").verdict.message
