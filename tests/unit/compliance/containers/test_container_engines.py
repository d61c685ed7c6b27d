"""What an engine takes and does nothing about is no protection, whatever a container's document says."""

import pytest
from compliant_container import World, compliant, different

from claude_sandbox.api.status import Result


def with_engine(unenforced: frozenset[str] = frozenset(), seccomp: str | None = "builtin") -> World:
    world = compliant()
    world.unenforced, world.default_seccomp = unenforced, seccomp
    return world


@pytest.mark.parametrize(
    ("limit", "control"), [("MemoryLimit", "RES-01"), ("CpuCfsQuota", "RES-02"), ("PidsLimit", "RES-03")]
)
def test_a_limit_that_the_engine_can_not_enforce_is_none(limit: str, control: str) -> None:
    world = with_engine(frozenset({limit}))
    assert different(compliant().results(), world.results()) == {control: Result.FAIL}
    finding = {one.control.id: one for one in world.found()}[control]
    assert "HOST-06" in finding.verdict.message


def test_a_cpu_quota_of_the_older_kind_is_judged_the_same() -> None:
    world = with_engine(frozenset({"CpuCfsQuota"}))
    world.host["NanoCpus"], world.host["CpuQuota"] = 0, 50_000
    assert world.results()["RES-02"] is Result.FAIL


@pytest.mark.parametrize(
    ("profile", "result"),
    [
        ("builtin", Result.PASS),
        ("default", Result.PASS),
        (None, Result.PASS),
        ("unconfined", Result.FAIL),
        ("", Result.FAIL),
        ("/etc/docker/own.json", Result.UNKNOWN),
    ],
)
def test_the_default_filter_is_the_engines(profile: str | None, result: Result) -> None:
    assert with_engine(seccomp=profile).results()["KERN-01"] is result


def test_a_filter_of_its_own_is_its_own() -> None:
    world = with_engine(seccomp="unconfined")
    world.host["SecurityOpt"].append('seccomp={"defaultAction": "SCMP_ACT_ERRNO"}')
    assert world.results()["KERN-01"] is Result.PASS
