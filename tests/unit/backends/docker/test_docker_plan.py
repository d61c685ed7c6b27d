"""What is done about which state of things, and in which order: never a running container on a network not its own."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from docker_world import CLUSTER, IDENTITY, desired_of, live_of
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.docker.model import Delivered, Desired, Observed, Plan, Verb
from claude_sandbox.backends.docker.names import labels_of
from claude_sandbox.backends.docker.plan import plan

FIRST = Past(provisioned=False, ran=False, settled=False)
LATER = Past(provisioned=True, ran=True, settled=True)


def verbs(found: Plan) -> list[list[str]]:
    return [[f"{step.verb.name} {step.kind}" for step in stage] for stage in found.stages]


def changed(observed: Observed, **state: Any) -> Observed:
    """The container in another state."""
    container = copy.deepcopy(dict(observed.container or {}))
    container["State"] |= state
    return replace(
        observed, container=container, delivered=observed.delivered if container["State"]["Running"] else None
    )


def on(observed: Observed, *networks: str) -> Observed:
    """The container on other networks."""
    container = copy.deepcopy(dict(observed.container or {}))
    container["NetworkSettings"]["Networks"] = {name: {"NetworkID": name * 3} for name in networks}
    return replace(observed, container=container)


def test_at_rest_there_is_nothing_to_do() -> None:
    desired = desired_of()
    found = plan(desired, live_of(desired), LATER)
    assert (found.steps, found.foreign, found.drifted, found.spec_changed) == ((), (), (), False)


def test_network_and_volumes_come_before_the_container_and_its_start_last() -> None:
    found = plan(desired_of(), Observed(), FIRST)
    assert verbs(found) == [
        ["CREATE Network", "CREATE Volume", "CREATE Volume", "CREATE Volume"],
        ["CREATE Container"],
        ["START Container"],
    ]
    assert {step.cause for step in found.steps} == {Cause.PROVISION}


def test_what_was_there_once_is_healed() -> None:
    found = plan(desired_of(), Observed(), LATER)
    assert {step.cause for step in found.steps if step.verb is Verb.CREATE} == {Cause.HEAL}


def test_without_a_key_nothing_is_started_and_nothing_that_runs_is_ended() -> None:
    desired = replace(desired_of(), may_start=False)
    assert verbs(plan(desired, Observed(), FIRST)) == [["CREATE Network", *["CREATE Volume"] * 3]]
    assert plan(desired, live_of(desired), LATER).steps == ()
    stopped = changed(live_of(desired), Running=False, Status="exited")
    assert plan(desired, stopped, LATER).steps == ()


def test_it_leaves_other_networks_before_anything_else_and_then_joins_its_own() -> None:
    desired = desired_of()
    found = plan(desired, on(live_of(desired), "bridge"), LATER)
    assert verbs(found) == [["DISCONNECT Container"], ["CONNECT Container"]]
    assert [step.other for step in found.steps] == ["bridge", desired.documents.names.network]


def test_a_network_that_leads_out_is_left_and_replaced() -> None:
    desired = desired_of()
    observed = live_of(desired)
    found = plan(desired, replace(observed, network={**(observed.network or {}), "Internal": False}), LATER)
    assert verbs(found) == [["REPLACE Network"], ["DISCONNECT Container"], ["CONNECT Container"]]


def test_who_joins_the_network_is_taken_off() -> None:
    desired = desired_of()
    observed = live_of(desired)
    members = {"1" * 64: {"Name": "own"}, "9" * 64: {"Name": "stranger"}}
    found = plan(desired, replace(observed, network={**(observed.network or {}), "Containers": members}), LATER)
    (step,) = found.steps
    assert (step.verb, step.kind, step.other) == (Verb.DISCONNECT, "Network", "9" * 64)


def test_a_stopped_container_is_started_and_not_again_and_again() -> None:
    desired = desired_of()
    (step,) = plan(desired, changed(live_of(desired), Running=False, Status="exited"), LATER).steps
    assert (step.verb, step.cause, step.paced) == (Verb.START, Cause.HEAL, True)
    (step,) = plan(desired, changed(live_of(desired), Running=False, Status="created"), LATER).steps
    assert (step.verb, step.cause, step.paced) == (Verb.START, Cause.PROVISION, False)


def test_a_paused_container_is_resumed() -> None:
    desired = desired_of()
    (step,) = plan(desired, changed(live_of(desired), Paused=True), LATER).steps
    assert step.verb is Verb.UNPAUSE


@pytest.mark.parametrize(
    ("inside", "generation", "cause"),
    [
        (Delivered("7", "…"), "8", Cause.UPDATE),
        (Delivered(None, "…"), "7", Cause.HEAL),
        (Delivered("7", "…"), "7", None),
        (Delivered("7", "…"), None, None),
        (Delivered(None, "…", has_key=True), "7", Cause.UPDATE),
        (Delivered(None, "…", has_key=True), None, None),
    ],
)
def test_a_key_is_delivered_where_another_or_none_is(inside: Delivered, generation: str | None, cause: Cause) -> None:
    desired = replace(desired_of(), key_generation=generation)
    observed = replace(live_of(desired), delivered=replace(inside, settings=desired.settings))
    steps = plan(desired, observed, LATER).steps
    assert [(step.verb, step.cause) for step in steps] == ([(Verb.DELIVER, cause)] if cause else [])


def test_a_key_that_is_withdrawn_ends_what_runs_without_a_grace_and_makes_nothing() -> None:
    desired = replace(desired_of(updateStrategy={"type": "OnDelete"}), withdrawn=True, may_start=False)
    (step,) = plan(desired, live_of(desired), LATER).steps
    assert (step.verb, step.kind, step.at_once) == (Verb.REMOVE, "Container", True)
    left = plan(desired, replace(live_of(desired), container=None, delivered=None), LATER)
    assert not left.steps


def test_another_spec_is_told_or_carried_out_and_one_that_ended_is_made_anew() -> None:
    old = live_of(desired_of(env=[{"name": "COLOUR", "value": "red"}]))
    kept = plan(desired_of(), old, LATER)
    assert (kept.spec_changed, kept.steps) == (True, ())
    recreate = ["REMOVE Container"], ["CREATE Container"], ["START Container"]
    told = plan(desired_of(updateStrategy={"type": "Recreate"}), old, LATER)
    assert verbs(told) == list(map(list, recreate))
    assert verbs(plan(desired_of(), changed(old, Running=False, Status="exited"), LATER)) == list(map(list, recreate))


def test_a_suspended_sandbox_has_no_container_and_is_given_none() -> None:
    desired = desired_of(operatingMode="Suspended")
    assert verbs(plan(desired, live_of(desired), LATER)) == [["REMOVE Container"]]
    assert plan(desired, replace(live_of(desired), container=None), LATER).steps == ()


def test_a_key_volume_on_the_disk_is_replaced_as_soon_as_no_container_has_it() -> None:
    desired = desired_of()
    observed = live_of(desired)
    key = desired.documents.names.key
    disk = replace(observed, volumes={**observed.volumes, key: {**observed.volumes[key], "Options": {}}})
    assert plan(desired, disk, LATER).drifted[0] == f"Volume {key} Options.device"
    stopped = verbs(plan(desired, changed(disk, Running=False, Status="exited"), LATER))
    assert stopped == [["REMOVE Container"], ["REPLACE Volume"], ["CREATE Container"], ["START Container"]]


@pytest.mark.parametrize("kind", ["container", "network", "api-key", "settings", "workspace"])
def test_what_is_not_ours_is_refused_and_nothing_is_done_to_it(kind: str) -> None:
    desired = desired_of()
    observed = without_labels(live_of(desired), kind)
    found = plan(desired, observed, LATER)
    assert len(found.foreign) == 1
    touched = {(step.kind, step.name) for step in found.steps}
    kind_of, name = found.foreign[0].split()
    assert (kind_of, name) not in touched
    assert not any(step.verb in (Verb.START, Verb.CREATE) and step.kind == "Container" for step in found.steps)


def test_a_workspace_that_is_a_directory_of_the_host_is_refused() -> None:
    desired = desired_of()
    observed = live_of(desired)
    name = desired.documents.names.workspace
    host = {**observed.volumes[name], "Options": {"type": "none", "device": "/etc", "o": "bind"}}
    found = plan(desired, replace(observed, container=None, volumes={**observed.volumes, name: host}), LATER)
    assert found.foreign == (f"Volume {name}",)
    assert not any(step.kind == "Container" for step in found.steps)


def test_what_an_interrupted_pass_left_goes_first() -> None:
    desired = desired_of()
    helper = {"Id": "8" * 64, "Names": ["/left"], "State": "running", "Labels": labels_of(CLUSTER, IDENTITY, "x")}
    found = plan(desired, replace(live_of(desired), helpers=(helper,)), LATER)
    assert verbs(found) == [["REMOVE Container"]]
    assert found.steps[0].name == "left"


def without_labels(observed: Observed, kind: str) -> Observed:
    if kind == "container":
        container = copy.deepcopy(dict(observed.container or {}))
        container["Config"]["Labels"] = {}
        return replace(observed, container=container)
    if kind == "network":
        return replace(observed, network={**(observed.network or {}), "Labels": {}})
    volumes = {name: {**live, "Labels": {}} if name.endswith(kind) else live for name, live in observed.volumes.items()}
    return replace(observed, volumes=volumes)


@st.composite
def observations(draw: st.DrawFn) -> tuple[Desired, Observed]:
    """A sandbox of which anything may be missing, changed, or somebody else's."""
    mode = draw(st.sampled_from(["Running", "Suspended"]))
    update = draw(st.sampled_from(["OnDelete", "Recreate"]))
    desired = desired_of(operatingMode=mode, updateStrategy={"type": update})
    desired = replace(desired, may_start=draw(st.booleans()))
    observed = live_of(desired)
    for kind in draw(st.sets(st.sampled_from(["container", "network", "api-key", "settings", "workspace"]))):
        observed = without_labels(observed, kind)
    status = draw(st.sampled_from(["running", "exited", "created", "dead", "paused"]))
    observed = changed(observed, Status=status, Running=status in ("running", "paused"), Paused=status == "paused")
    if draw(st.booleans()):
        observed = on(observed, *draw(st.sets(st.sampled_from(["bridge", desired.documents.names.network, "x"]))))
    if draw(st.booleans()):
        observed = replace(observed, network={**(observed.network or {}), "Internal": False})
    if draw(st.booleans()):
        observed = replace(observed, network=None)
    if draw(st.booleans()):
        observed = replace(observed, container=None, delivered=None)
    gone = draw(st.sets(st.sampled_from(sorted(observed.volumes))))
    return desired, replace(observed, volumes={k: v for k, v in observed.volumes.items() if k not in gone})


@given(observations(), st.builds(Past, st.booleans(), st.booleans(), st.booleans()))
def test_whatever_is_seen_nothing_is_started_or_joined_too_early(world: tuple[Desired, Observed], past: Past) -> None:
    desired, observed = world
    found = plan(desired, observed, past)
    order = list(found.steps)
    starts = [number for number, step in enumerate(order) if step.verb in (Verb.START, Verb.UNPAUSE, Verb.DELIVER)]
    assert len(starts) <= 1
    assert not starts or starts[0] == len(order) - 1
    if any(step.verb in (Verb.START, Verb.CREATE) and step.kind == "Container" for step in order):
        assert desired.may_start
        assert not desired.suspended
        assert not found.foreign
    own = desired.documents.names.network
    assert all(step.other == own for step in order if step.verb is Verb.CONNECT)
    if f"Network {own}" in found.foreign:
        assert not any(step.verb is Verb.CONNECT for step in order)
    # Joined and started only in a stage after the one that makes the network what it should be.
    stage_of = {id(step): number for number, stage in enumerate(found.stages) for step in stage}
    makes = [stage_of[id(step)] for step in order if step.kind == "Network"]
    needs = [stage_of[id(step)] for step in order if step.verb in (Verb.CONNECT, Verb.START)]
    assert not (makes and needs) or max(makes) < min(needs)


def test_a_network_that_was_made_again_is_joined_anew() -> None:
    """It has the name that the container knows, and is another one."""
    desired = desired_of()
    found = plan(desired, on(live_of(desired), desired.documents.names.network), LATER)
    assert verbs(found) == [["DISCONNECT Container"], ["CONNECT Container"]]


@pytest.mark.parametrize("strategy", ["OnDelete", "Recreate"])
def test_replaced_settings_are_put_back_in_what_runs(strategy: str) -> None:
    desired = desired_of(updateStrategy={"type": strategy})
    found = plan(desired, replace(live_of(desired), delivered=Delivered("7", "{}")), LATER)
    (step,) = found.steps
    assert (step.verb, step.kind, step.cause, step.paced) == (Verb.DELIVER, "Volume", Cause.HEAL, True)
    assert (step.paths, found.drifted) == (("managed settings",), ("managed settings",))


def test_replaced_settings_are_drift_and_put_back_in_a_container_of_an_earlier_spec_too() -> None:
    earlier, desired = desired_of(env=[{"name": "CI", "value": "1"}]), desired_of()
    observed = replace(live_of(earlier), delivered=Delivered("7", "{}"))
    found = plan(desired, observed, LATER)
    assert found.spec_changed
    assert found.drifted == ("managed settings",)
    assert (Verb.DELIVER, ("managed settings",)) in {(step.verb, step.paths) for step in found.steps}
