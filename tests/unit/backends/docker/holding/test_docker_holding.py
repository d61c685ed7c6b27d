"""What holds an EmptyDir in memory: what it is, and when it comes and goes."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from docker_world import CLUSTER, NEW, blueprint_of, desired_of, live_of, spec_of

from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.docker.companions import Companion
from claude_sandbox.backends.docker.gateway.gateways import Brokering
from claude_sandbox.backends.docker.hosts.capacity import requests_of
from claude_sandbox.backends.docker.model import CONTAINER, HOLDER, Desired, Observed, Verb
from claude_sandbox.backends.docker.objects import documents
from claude_sandbox.backends.docker.plan import plan
from claude_sandbox.blueprint.model import Image

FIRST, LATER = Past(provisioned=False, ran=False, settled=False), Past(provisioned=True, ran=True, settled=True)
SPEC = {"workspace": {"type": "EmptyDir", "size": "1Gi"}}
GIT = {
    "credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"},
    "repositories": [{"path": "project", "url": "https://git.example.org/team/project"}],
}
BROKERING = Brokering(Image("example.org/operator:1", None, "IfNotPresent"))
ENDED = {"Status": "exited", "Running": False, "ExitCode": 137}


def desired(**spec: Any) -> Desired:
    wanted = SPEC | spec
    return replace(desired_of(**wanted), documents=documents(blueprint_of(**wanted), CLUSTER, NEW, brokering=BROKERING))


def seen(of: Desired, **state: Any) -> Observed:
    """All as desired, what holds the files as well, unless `state` says otherwise of it."""
    assert of.documents.holder is not None
    as_agent = replace(of, documents=replace(of.documents, container=of.documents.holder.container))
    live = copy.deepcopy(dict(live_of(as_agent).container or {}))
    live |= {"Id": "d" * 64, "Name": f"/{of.documents.names.holder}", "State": live["State"] | state}
    live["NetworkSettings"] = {"Networks": {"none": {"NetworkID": "9" * 64}}}
    return replace(live_of(of), holder=Companion(live, None, {"Config": {}}))


def steps(of: Desired, observed: Observed, past: Past = LATER) -> list[tuple[Verb, str, Cause]]:
    """Of the holder and of the sandbox's container, in their order."""
    found = plan(of, observed, past).steps
    return [(step.verb, step.kind, step.cause) for step in found if step.kind in (HOLDER, CONTAINER)]


def test_a_steady_state_needs_nothing() -> None:
    assert plan(desired(), seen(desired()), LATER).steps == ()


def test_it_is_there_before_anything_that_uses_the_files() -> None:
    of = desired(**GIT)
    kinds = [step.kind for step in plan(of, Observed(), FIRST).steps]
    assert kinds.index("Volume") < kinds.index(HOLDER) < kinds.index("Cloner")
    made = [step.kind for step in plan(desired(), Observed(), FIRST).steps]
    assert made.index("Volume") < made.index(HOLDER) < made.index(CONTAINER)


def test_there_is_none_for_a_volume_on_a_disk_and_none_without_an_image() -> None:
    assert desired(workspace={"type": "PersistentVolumeClaim", "size": "1Gi"}).documents.holder is None
    assert documents(blueprint_of(**SPEC), CLUSTER, NEW).holder is None


def test_it_has_the_files_read_only_and_nothing_else() -> None:
    wanted = desired().documents.holder
    assert wanted is not None
    host = wanted.container["HostConfig"]
    assert [(mount["Type"], mount["ReadOnly"]) for mount in host["Mounts"]] == [("volume", True)]
    assert (host["NetworkMode"], host["CapDrop"], host["ReadonlyRootfs"]) == ("none", ["ALL"], True)
    assert wanted.container["Env"] == []


@pytest.mark.parametrize("state", [ENDED, {"Paused": True}])
def test_while_the_sandbox_runs_it_is_made_good_at_once(state: dict[str, Any]) -> None:
    found = steps(desired(), seen(desired(), **state))
    assert [(kind, cause) for _, kind, cause in found] == [(HOLDER, Cause.HEAL)]


def test_of_another_image_it_is_made_anew_while_the_sandbox_runs_and_else_left_for_the_files_sake() -> None:
    of = desired()
    running = seen(of)
    other = copy.deepcopy(dict(running.holder.container or {}))
    other["Config"]["Image"] = "example.org/operator:0"
    running = replace(running, holder=Companion(other, None, {"Config": {}}))
    assert steps(of, running) == [(Verb.REPLACE, HOLDER, Cause.UPDATE)]
    ended = replace(running, container=dict(running.container or {}) | {"State": ENDED}, delivered=None)
    assert steps(of, ended) == [(Verb.START, CONTAINER, Cause.HEAL)]


def test_with_a_suspension_it_goes_after_the_sandboxs_own() -> None:
    of = desired()
    found = steps(replace(of, suspended=True), seen(of))
    assert [(verb, kind) for verb, kind, _ in found] == [(Verb.REMOVE, CONTAINER), (Verb.REMOVE, HOLDER)]


def test_where_both_have_ended_what_was_cloned_is_cloned_again() -> None:
    plain, git = desired(), desired(**GIT)
    for of, expected in ((plain, [(Verb.START, HOLDER), (Verb.START, CONTAINER)]), (git, [(Verb.REMOVE, CONTAINER)])):
        observed = seen(of, **ENDED)
        observed = replace(observed, container=dict(observed.container or {}) | {"State": ENDED}, delivered=None)
        assert [(verb, kind) for verb, kind, _ in steps(of, observed)][: len(expected)] == expected


def test_another_size_takes_another_volume_which_nothing_may_have_mounted() -> None:
    of = desired(workspace={"type": "EmptyDir", "size": "512Mi"}, updateStrategy={"type": "Recreate"})
    found = plan(of, seen(desired()), replace(LATER, settled=False)).stages
    verbs = [(step.verb, step.kind) for stage in found for step in stage if step.kind != "Network"]
    assert verbs[:4] == [
        (Verb.REMOVE, CONTAINER), (Verb.REMOVE, HOLDER), (Verb.REPLACE, "Volume"), (Verb.CREATE, HOLDER),
    ]  # fmt: skip


def test_somebody_elses_under_its_name_is_in_the_way() -> None:
    of = desired()
    foreign = {"Id": "f" * 64, "Name": f"/{of.documents.names.holder}", "Config": {"Labels": {}}}
    found = plan(of, replace(seen(of), holder=Companion(foreign)), LATER)
    assert found.foreign == (f"Container {of.documents.names.holder}",)
    assert not [step for step in found.steps if step.kind == HOLDER]


def test_room_is_counted_for_what_is_in_it_beside_the_agents_own() -> None:
    on_disk = requests_of(spec_of(resources={"memory": "1Gi"}))
    in_memory = requests_of(spec_of(resources={"memory": "1Gi"}, **SPEC))
    assert in_memory.memory - on_disk.memory == (512 + 16) << 20
