"""RES-05 of sandboxes: an end that the spec declares counts, on both backends, and idleness is no bound."""

from dataclasses import replace

import pytest
from compliant_container import compliant as compliant_container
from compliant_sandbox import compliant as compliant_sandbox

from claude_sandbox.api.spec import ClaudeSandboxSpec, Profile
from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker.evidence.container import declared as declared_container
from claude_sandbox.backends.kubernetes.evidence.declared import expected
from claude_sandbox.blueprint.build import build
from claude_sandbox.blueprint.model import Blueprint, Identity, Image, Site
from claude_sandbox.compliance.reports.pods import findings


def blueprint(lifecycle: dict[str, str] | None) -> Blueprint:
    spec = ClaudeSandboxSpec.model_validate(
        {"credentials": {"apiKeySecretRef": {"name": "key"}}, "lifecycle": lifecycle}
    )
    return build(Identity("agents", "alice", "u"), spec, Site(Image("i", None, "Never")))


@pytest.mark.parametrize(
    ("lifecycle", "result", "value"),
    [
        ({"ttl": "8h"}, Result.PASS, "spec.lifecycle.ttl: 8h"),
        ({"shutdownTime": "2027-03-31T18:00:00Z"}, Result.PASS, "spec.lifecycle.shutdownTime: 2027-03-31T18:00:00Z"),
        ({"idleTimeout": "30m"}, Result.FAIL, "restartPolicy: Always"),
        (None, Result.FAIL, "restartPolicy: Always"),
    ],
)
def test_of_a_pod_it_goes_by_what_the_sandbox_declares(
    lifecycle: dict[str, str] | None, result: Result, value: str
) -> None:
    world = compliant_sandbox()
    del world.spec["activeDeadlineSeconds"]
    world.declare(lifetime=expected(blueprint(lifecycle), Profile.DEVELOPMENT, (), frozenset()).lifetime)
    (found,) = (one for one in findings(world.evidence()) if one.control.id == "RES-05")
    assert (found.result, found.verdict.value) == (result, value)


def test_of_a_container_it_is_said_and_excuses_no_restarts() -> None:
    world = compliant_container()
    lifetime = declared_container(blueprint({"ttl": "8h"}), Profile.DEVELOPMENT, (), None).lifetime
    world.declared = replace(world.declared, lifetime=lifetime)
    for policy, result in (("no", Result.PASS), ("always", Result.FAIL)):
        world.container["HostConfig"]["RestartPolicy"] = {"Name": policy, "MaximumRetryCount": 0}
        (found,) = (one for one in world.found() if one.control.id == "RES-05")
        assert found.result is result
        assert (found.verdict.value == "spec.lifecycle.ttl: 8h") is (result is Result.PASS)
