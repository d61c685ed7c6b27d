"""What holds for every document: what it leaves out or garbles is never a pass, and no secret gets out."""

import copy
import json
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from compliant_container import NOW, World, changed, compliant, paths_of
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_container_mutations import MUTATIONS, PERMITTED

from claude_sandbox.api.status import Compliance, EvidenceSource, Result
from claude_sandbox.compliance.catalogue import CONTAINER_CONTROLS, CONTROLS, FAMILIES, POD_CONTROLS
from claude_sandbox.compliance.evidence.containers import Declared, DockerEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.containers import evaluate, findings

# How long an example takes says nothing about what is tested.
unhurried = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])

FINE = (Result.PASS, Result.NOT_APPLICABLE)

Path = tuple[Any, ...]

ABSENCE_IS_A_DEFAULT: tuple[Path, ...] = (
    ("HostConfig", "Mounts"),  # no `--mount` was given
    ("HostConfig", "Tmpfs"),  # no tmpfs
    ("HostConfig", "Sysctls"),  # none is set
    ("Config", "Healthcheck"),  # neither the command line nor the image has one; then OPS-01 fails
)
"""What every engine from 20.10 on leaves out when it is empty, and what that means."""

ENTRIES: tuple[Path, ...] = (
    ("HostConfig", "Mounts"),
    ("HostConfig", "PortBindings"),
    ("HostConfig", "Sysctls"),
    ("HostConfig", "Tmpfs"),
    ("Config", "Labels"),
    ("Config", "Healthcheck"),
    ("NetworkSettings", "Networks"),
    ("NetworkSettings", "Ports"),
)
"""Below these are not fields that a version of the engine has or has not, but what the container is made of."""


def fields(document: Any) -> list[Path]:
    """The fields whose absence does not mean a default."""
    return [
        path
        for path in paths_of(document)
        if isinstance(path[-1], str)
        and path not in ABSENCE_IS_A_DEFAULT
        and not any(path[: len(entries)] == entries and path != entries for entries in ENTRIES)
    ]


def take(document: Any, path: Path) -> None:
    """Remove what is at `path`."""
    for key in path[:-1]:
        document = document[key]
    del document[path[-1]]


def garble(document: Any, path: Path) -> None:
    """Put something at `path` that no field of the engine's has: a broken number."""
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = 0.5


def became_fine(before: World, after: World) -> dict[str, str]:
    """The controls that were not fine and are."""
    earlier, later = before.results(), after.results()
    return {id: later[id] for id in later if later[id] in FINE and earlier[id] not in FINE}


worlds = st.sampled_from([lambda _: None, *(mutate for mutate, _ in MUTATIONS.values()), *PERMITTED.values()])


@pytest.mark.parametrize("path", fields(compliant().container), ids=lambda path: ".".join(map(str, path)))
def test_of_a_compliant_container_a_field_that_is_missing_passes_nothing_new(path: Path) -> None:
    world = changed(lambda world: take(world.container, path))
    assert became_fine(compliant(), world) == {}


@unhurried(max_examples=300)
@given(worlds, st.data())
def test_whatever_is_wrong_removing_a_field_never_makes_a_control_pass(mutate: Any, data: Any) -> None:
    world = changed(mutate)
    path = data.draw(st.sampled_from(fields(world.container)))
    less = replace(world, container=copy.deepcopy(world.container))
    take(less.container, path)
    assert became_fine(world, less) == {}, path


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_of_each_thing_that_is_wrong_no_field_that_is_removed_makes_a_control_pass(mutation: str) -> None:
    world = changed(MUTATIONS[mutation][0])
    for path in fields(world.container):
        less = replace(world, container=copy.deepcopy(world.container))
        take(less.container, path)
        assert became_fine(world, less) == {}, path


@unhurried()
@given(worlds, st.data())
def test_a_field_of_the_wrong_type_is_no_answer(mutate: Any, data: Any) -> None:
    world = changed(mutate)
    path = data.draw(
        st.sampled_from(
            [
                path
                for path in paths_of(world.container)
                if path[:2] not in (("HostConfig", "Mounts"), ("Config", "Labels"))
            ]
        )
    )
    garbled = replace(world, container=copy.deepcopy(world.container))
    garble(garbled.container, path)
    assert became_fine(world, garbled) == {}, path


@unhurried()
@given(worlds, st.data())
def test_what_is_missing_of_a_network_s_document_passes_nothing_new(mutate: Any, data: Any) -> None:
    world = changed(mutate)
    names = [name for network in world.networks for name in network]
    if not names:
        return
    less = replace(world, networks=copy.deepcopy(world.networks))
    less.networks[0].pop(data.draw(st.sampled_from(names)), None)
    assert became_fine(world, less) == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@unhurried()
@given(st.data())
def test_no_document_makes_it_break(data: Any) -> None:
    world = compliant()
    for path in data.draw(st.lists(st.sampled_from(paths_of(world.container)), max_size=5, unique=True)):
        target: Any = world.container
        try:
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = data.draw(json_values)
        except (KeyError, IndexError, TypeError):
            continue  # it was below something that was replaced
    assert len(world.found()) == len(CONTAINER_CONTROLS)


secrets = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"\\'), min_size=12, max_size=40
)


@unhurried()
@given(
    secrets.filter(lambda text: not text.startswith("/")),
    st.sampled_from(
        ["ANTHROPIC_API_KEY={}", "X=sk-ant-{}", "sk-ant-{}", "DB_PASSWORD={}", "U=https://u:{}@example.org"]
    ),
    st.sampled_from(["Env", "Cmd", "Entrypoint", "Labels", "Healthcheck"]),
)
def test_a_secret_is_in_nothing_that_is_said(secret: str, how: str, where: str) -> None:
    # What is said whatever the secret is, a name such as ANTHROPIC_API_KEY, tells nothing of it.
    assume(secret not in _said_of(how.format("unlike-any-other"), where))
    assert secret not in _said_of(how.format(secret), where)


def _said_of(text: str, where: str) -> str:
    world = compliant()
    world.config[where] = {"Labels": {text: text}, "Healthcheck": {"Test": ["CMD", text]}}.get(where, [text])
    return json.dumps([[f.verdict.message, f.verdict.value, f.remedy] for f in world.found()])


def test_a_container_that_could_not_be_read_passes_nothing() -> None:
    evidence = DockerEvidence(Declared(), Unread("the engine does not answer"), NOW)
    found = findings(evidence)
    assert {finding.result for finding in found} == {Result.UNKNOWN}
    told = [finding.verdict.message for finding in found]
    assert "the container could not be read: the engine does not answer" in told


def test_what_is_known_too_long_passes_nothing() -> None:
    reading = Reading(compliant().container, EvidenceSource.INSPECT, NOW - timedelta(seconds=61))
    evidence = DockerEvidence(Declared(), reading, NOW, max_age=timedelta(seconds=60))
    assert {finding.result for finding in findings(evidence)} == {Result.UNKNOWN}


def test_the_status_says_the_same_within_its_bounds() -> None:
    world = changed(MUTATIONS["the host's root"][0], MUTATIONS["a user by name"][0])
    reading = Reading(world.container, EvidenceSource.INSPECT, NOW)
    drift = Reading((), EvidenceSource.INSPECT, NOW)
    status = evaluate(
        DockerEvidence(world.declared, reading, NOW, tuple(world.networks), tuple(world.volumes), drift=drift)
    )
    passed = {id: Result.PASS for group in status.passed for id in group.controls}
    assert passed | {control.id: control.result for control in status.controls} == world.results()
    assert Compliance.model_validate(status.model_dump(by_alias=True)) == status


def test_a_shared_control_is_one_entry_of_the_catalogue() -> None:
    own = {control.id: control for control in POD_CONTROLS}
    assert {*POD_CONTROLS, *CONTAINER_CONTROLS} == set(CONTROLS)
    for control in CONTAINER_CONTROLS:
        assert (control.pod is not None) == (control.id in own)
        if shared := own.get(control.id):
            assert (control.title, control.severity, control.level, control.mappings) == (
                shared.title,
                shared.severity,
                shared.level,
                shared.mappings,
            )
        assert control.id.partition("-")[0] in FAMILIES


def test_controls_are_in_order_and_their_texts_fit_a_status() -> None:
    ids = [control.id for control in CONTAINER_CONTROLS]
    assert len(ids) == len(set(ids))
    families = [id.partition("-")[0] for id in ids]
    assert ids == sorted(ids, key=lambda id: (families.index(id.partition("-")[0]), id))
    for control in CONTAINER_CONTROLS:
        assert control.container is not None
        assert len(control.container.remedy) <= 108, control.id
        assert len(control.title) <= 48, control.id
