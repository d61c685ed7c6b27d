"""What clones a sandbox's repositories before there is a container of its own: what it is, when it comes and goes."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from docker_world import CLUSTER, IDENTITY, NEW, blueprint_of, desired_of, live_of

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.backends.base import Cause, Cloning, Past
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.cloning.beside import last_outcomes
from claude_sandbox.backends.docker.cloning.plan import outcome
from claude_sandbox.backends.docker.companions import Companion
from claude_sandbox.backends.docker.engine.frames import unframed
from claude_sandbox.backends.docker.gateway.gateways import Brokering
from claude_sandbox.backends.docker.keys.delivery import settings_archive
from claude_sandbox.backends.docker.model import CLONER, CONTAINER, GATEWAY, Desired, Observed, Plan, Step, Verb
from claude_sandbox.backends.docker.objects import documents
from claude_sandbox.backends.docker.plan import plan
from claude_sandbox.backends.docker.state import being_cloned, state_of
from claude_sandbox.blueprint.model import Image
from claude_sandbox.blueprint.repositories import REPOSITORIES_VARIABLE

URL = "https://git.example.org/team/project"
SPEC = {
    "credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"},
    "repositories": [{"path": "project", "url": URL}],
}
IMAGE = {"repository": "example.org/theirs", "tag": "1"}
VOLUME = {"type": "PersistentVolumeClaim", "size": "1Gi"}
FIRST, LATER = Past(provisioned=False, ran=False, settled=False), Past(provisioned=True, ran=True, settled=True)
CLONED = ("Cloned abc",)


def desired(**spec: Any) -> Desired:
    brokering = Brokering(Image("example.org/operator:1", None, "IfNotPresent"))
    found = desired_of(**SPEC, **spec)
    return replace(found, documents=documents(blueprint_of(**SPEC, **spec), CLUSTER, NEW, brokering=brokering))


def cloner(of: Desired, **state: Any) -> dict[str, Any]:
    """One that is as it should be, and runs, unless `state` says otherwise."""
    wanted = of.documents.cloner
    assert wanted is not None
    as_agent = replace(of, documents=replace(of.documents, container=wanted))
    found = copy.deepcopy(dict(live_of(as_agent).container or {}))
    return found | {"Id": "c" * 64, "Name": f"/{of.documents.names.cloner}", "State": found["State"] | state}


ENDED = {"Status": "exited", "Running": False, "ExitCode": 0}


def at_work(of: Desired, said: tuple[str, ...] | None = None, *, keyed: bool = True, **state: Any) -> Observed:
    """No container of the sandbox's own, one that clones, and all else as desired; the gateway as well."""
    seen = live_of(of)
    gateway = of.documents.gateway
    assert gateway is not None
    beside = {"Id": "e" * 64, "Name": f"/{of.documents.names.gateway}", "Config": gateway.container}
    return replace(
        seen,
        container=None,
        delivered=None,
        image=None,
        cloner=Companion(cloner(of, **state), None, {"Config": {}}),
        cloner_said=said,
        cloner_keyed=keyed,
        gateway=Companion(beside, None, None),
    )


def steps(found: Plan, *kinds: str) -> list[tuple[Verb, str]]:
    return [(step.verb, step.kind) for step in found.steps if step.kind in (kinds or (CLONER, CONTAINER))]


MAKES, STARTS = (Verb.CREATE, CLONER), (Verb.START, CLONER)


def test_it_is_of_the_operators_image_whatever_the_sandboxs_is() -> None:
    of = desired(image=IMAGE, workspace=VOLUME | {"readOnly": True, "keepHome": {"size": "1Gi"}}, command=["make"])
    found, own = of.documents.cloner, of.documents.container
    assert found is not None
    assert (found["Image"], own["Image"]) == (blueprint_of(**SPEC).image.reference, "example.org/theirs:1")
    assert (found["User"], found["HostConfig"]["NetworkMode"]) == (own["User"], own["HostConfig"]["NetworkMode"])
    hardening = ("CapDrop", "SecurityOpt", "ReadonlyRootfs", "Memory", "PidsLimit", "Ulimits", "Dns", "Tmpfs")
    for choice in hardening:
        assert found["HostConfig"][choice] == own["HostConfig"][choice], choice
    assert "make" not in found["Entrypoint"] + found.get("Cmd", [])
    # It alone writes there, and it has no more than it needs.
    mounted = {one["Target"]: one["ReadOnly"] for one in found["HostConfig"]["Mounts"]}
    assert mounted == {"/run/claude-sandbox/api-key": True, "/etc/claude-code": True, "/workspace": False}
    assert {one["Target"]: one["ReadOnly"] for one in own["HostConfig"]["Mounts"]}["/workspace"] is True
    told = dict(entry.split("=", 1) for entry in found["Env"])
    assert json.loads(told[REPOSITORIES_VARIABLE]) == [{"path": "/workspace/project", "url": URL}]
    # The directory that is to be filled is the agent's own, though it may only read it later.
    assert b"workspace" in settings_archive(blueprint_of(**SPEC, workspace=VOLUME | {"readOnly": True}))


def test_there_is_none_where_nobody_needs_it() -> None:
    assert documents(blueprint_of(credentials=SPEC["credentials"]), CLUSTER, NEW).cloner is None


def test_it_comes_after_the_gateway_and_no_container_is_made_meanwhile() -> None:
    of = desired()
    found = plan(of, Observed(), FIRST)
    assert steps(found, CLONER, CONTAINER, GATEWAY) == [(Verb.CREATE, GATEWAY), MAKES, STARTS]
    assert steps(plan(of, at_work(of), FIRST)) == []
    assert steps(plan(of, at_work(of, ("Failed x",)), FIRST)) == []


def test_a_container_that_somebody_removed_is_a_repair_once() -> None:
    of = desired()
    gone = replace(at_work(of), cloner=Companion(), container=None)
    made = next(step for step in plan(of, gone, LATER).steps if step.kind == CLONER and step.verb is Verb.CREATE)
    assert made.cause is Cause.HEAL
    # While it is cloned none runs, and the status says so.
    again = replace(LATER, ran=False)
    assert all(step.cause is Cause.PROVISION for step in plan(of, at_work(of, CLONED, **ENDED), again).steps[:2])


def test_with_its_good_end_the_container_is_made_and_it_goes() -> None:
    of = desired()
    found = plan(of, at_work(of, CLONED, **ENDED), FIRST)
    assert steps(found) == [(Verb.CREATE, CONTAINER), (Verb.START, CONTAINER), (Verb.REMOVE, CONTAINER)]
    made = next(step for step in found.steps if step.verb is Verb.CREATE and step.kind == CONTAINER)
    assert json.loads(made.cloned) == list(CLONED)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (None, ENDED),
        (("Failed x",), ENDED),
        (CLONED, ENDED | {"ExitCode": 137}),
        (CLONED, ENDED | {"Error": "no such thing"}),
        (None, {"Status": "created", "Running": False}),
    ],
)
def test_one_that_was_cut_is_started_again(said: tuple[str, ...] | None, state: dict[str, Any]) -> None:
    of = desired()
    found = plan(of, at_work(of, said, **state), FIRST)
    assert steps(found) == [STARTS]
    assert all(step.paced for step in found.steps if step.kind == CLONER)


def test_another_key_is_brought_to_it() -> None:
    of = desired()
    assert steps(plan(of, at_work(of, keyed=False), FIRST)) == [(Verb.DELIVER, CLONER)]


def _privileged(live: dict[str, Any]) -> None:
    live["HostConfig"]["Privileged"] = True


def _more_memory(live: dict[str, Any]) -> None:
    live["HostConfig"]["Memory"] = 1


def _other_command(live: dict[str, Any]) -> None:
    live["Config"]["Entrypoint"] = ["/bin/true"]


def _elsewhere(live: dict[str, Any]) -> None:
    live["NetworkSettings"]["Networks"]["bridge"] = {"NetworkID": "9" * 64}


def _stale_network(live: dict[str, Any]) -> None:
    next(iter(live["NetworkSettings"]["Networks"].values()))["NetworkID"] = "9" * 64


def _other_wish(live: dict[str, Any]) -> None:
    live["Config"]["Labels"][names.LABEL_SPEC_HASH] = "another"


def _paused(live: dict[str, Any]) -> None:
    live["State"]["Paused"] = True


CHANGES = [_privileged, _more_memory, _other_command, _elsewhere, _stale_network, _other_wish, _paused]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("state", [{}, ENDED], ids=["running", "ended"])
def test_one_that_is_not_as_it_should_be_is_made_anew(
    change: Callable[[dict[str, Any]], None], state: dict[str, Any]
) -> None:
    of = desired()
    seen = at_work(of, CLONED, **state)
    live = copy.deepcopy(dict(seen.cloner.container or {}))
    change(live)
    found = plan(of, replace(seen, cloner=replace(seen.cloner, container=live)), FIRST)
    assert steps(found) == [(Verb.REMOVE, CONTAINER), MAKES, STARTS]


def test_it_goes_before_a_volume_that_it_has_is_made_anew() -> None:
    of = desired()
    seen = at_work(of)
    name = of.documents.names.settings
    other = {**seen.volumes[name], "Labels": {**seen.volumes[name]["Labels"], names.LABEL_FILES: "other"}}
    found = plan(of, replace(seen, volumes={**seen.volumes, name: other}), FIRST)
    assert [step.verb for step in found.steps[:2]] == [Verb.REMOVE, Verb.REPLACE]


def test_it_goes_where_the_sandbox_is_suspended_or_has_its_container() -> None:
    of = desired()
    gone = (Verb.REMOVE, CONTAINER)
    assert steps(plan(replace(of, suspended=True), at_work(of), LATER)) == [gone]
    seen = at_work(of, CLONED, **ENDED)
    both = replace(live_of(of), cloner=seen.cloner, cloner_said=CLONED, gateway=seen.gateway)
    assert steps(plan(of, both, LATER)) == [gone]


def test_one_of_another_sandbox_is_left_alone() -> None:
    of = desired()
    seen = at_work(of)
    live = copy.deepcopy(dict(seen.cloner.container or {}))
    live["Config"]["Labels"] |= names.labels_of(CLUSTER, replace(IDENTITY, uid="other"), names.CLONER)
    found = plan(of, replace(seen, cloner=Companion(live)), FIRST)
    assert not [step for step in found.steps if step.live is live]


def test_strangers_are_taken_off_the_network_and_it_is_not() -> None:
    of = desired()
    seen = at_work(of)
    members = {"c" * 64: {"Name": "cloner"}, "d" * 64: {"Name": "stranger"}, "e" * 64: {"Name": "gateway"}}
    found = plan(of, replace(seen, network={**(seen.network or {}), "Containers": members}), FIRST)
    taken = [step for step in found.steps if step.verb is Verb.DISCONNECT]
    assert [step.other for step in taken if isinstance(step, Step)] == ["d" * 64]


@pytest.mark.parametrize(
    ("said", "state", "expected"),
    [
        (None, {}, Cloning((("project", URL),))),
        (("Failed no",), {}, Cloning((("project", URL),), ("Failed no",))),
        (CLONED, ENDED, Cloning((("project", URL),), CLONED)),
        (None, ENDED | {"Error": "no space"}, Cloning((("project", URL),), waits="no space")),
    ],
)
def test_its_progress_is_the_sandboxs(said: Any, state: dict[str, Any], expected: Cloning) -> None:
    of = desired()
    found = being_cloned(cloner(of, **state), said)
    assert (found.status, found.reason, found.cloning) == (
        ConditionStatus.FALSE, Reason.REPOSITORIES_NOT_READY, expected
    )  # fmt: skip
    assert found.again


def test_how_it_was_cut_is_told() -> None:
    of = desired()
    found = being_cloned(cloner(of, **ENDED | {"ExitCode": 137}), None).cloning
    assert found is not None
    assert "exit code 137" in found.waits


def test_what_it_said_is_told_by_the_containers_label_and_the_label_is_no_drift() -> None:
    of = desired()
    live = copy.deepcopy(dict(live_of(of).container or {}))
    live["Config"]["Labels"][names.LABEL_CLONED] = outcome(at_work(of, CLONED, **ENDED))
    found = state_of(live, "local", "1", ())
    assert found.cloning == Cloning((("project", URL),), CLONED, done=True)
    assert plan(of, replace(live_of(of), container=live), LATER).drifted == ()


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (b"", None),
        (b"project: Receiving objects: 10% (1/10)\n", None),
        (b'x\n["Failed a"]\nproject: Receiving objects: 3%\n["Cloned abc"]\n', CLONED),
        (b'["Failed a"]\nproject: Receiving objects: 3%\n', ("Failed a",)),
        (b'["Cloned abc"', None),
        (b"\xff\xfe[]\n", None),
    ],
)
def test_the_last_word_of_its_log_counts(log: bytes, expected: tuple[str, ...] | None) -> None:
    assert last_outcomes(log) == expected


@pytest.mark.parametrize("cut", range(0, 30, 3))
def test_a_log_is_read_out_of_its_frames_however_it_ends(cut: int) -> None:
    parts = [b"one\n", b"", b"and two\n"]
    framed = b"".join(bytes([1, 0, 0, 0]) + len(part).to_bytes(4, "big") + part for part in parts)
    assert unframed(framed) == b"one\nand two\n"
    assert b"one\nand two\n".startswith(unframed(framed[:cut]))
