"""A Secret is withdrawn from sandboxes, and the agent goes on with it, or with what somebody puts in its place.

Gained before: 100 s after the label was taken away the agent read the value that the Secret was given since, with all
controls passing; and on Docker the Secret that was read need not have been the one that had opted in. Closed by ending
at once what runs with a Secret that may certainly not be used any more (`backends/kubernetes/watches/secrets.py`, both
planners), and by asking the document that was read whether it may be used (`backends/docker/keys/secrets.py`; its tests
are in `test_docker_secrets.py`, those of pods in `test_operator_keys.py`).
"""

import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from dockerkit import KEY, Sandbox, sandbox

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.docker.keys.delivery import KeyUnavailableError
from claude_sandbox.backends.kubernetes.watches import secret_opt_in
from claude_sandbox.backends.kubernetes.watches.secrets import GONE_AFTER, SecretStates
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.localcluster.engine import EngineDescription

IDENTITY = Identity("agents", "alice", "1")
ALICE = ("agents", "anthropic")
OPTED = {"metadata": {"name": "anthropic", "resourceVersion": "7", "labels": {"claudesandbox.dev/api-key": "true"}}}
PLAIN: dict[str, Any] = {"metadata": {"name": "anthropic", "resourceVersion": "8"}}


@dataclass
class Cluster:
    """What watches have told, and what the API server answers."""

    seen: dict[str, Any] | None = None
    live: dict[str, Any] | None = None
    typed: bool = False
    readable: bool = True
    look_at_secrets: bool = True
    annotation: str | None = ""
    asked: list[str] = field(default_factory=list)

    def opted_in(self, namespace: str, name: str) -> tuple[bool, Any]:
        return self.readable, self.seen

    def namespace(self, name: str) -> tuple[None, Any]:
        told = {"metadata": {"annotations": {"claudesandbox.dev/api-key-secrets": self.annotation}}}
        return None, None if self.annotation is None else told

    async def get(self, resource: Any, name: str, namespace: str, *, metadata_only: bool) -> Any:
        assert metadata_only, "its data is nobody's business here"
        if self.live is None:
            raise ApiError(404, "NotFound", "gone")
        return self.live

    async def list(self, resource: Any, namespace: str, *, field_selector: str, metadata_only: bool) -> Any:
        assert metadata_only
        items = [self.live] if self.typed and "type=claudesandbox.dev/api-key" in field_selector else []
        return type("Listing", (), {"items": items})


def states(cluster: Cluster, clock: list[float]) -> SecretStates:
    return SecretStates(cluster, cluster, lambda: clock[0])  # type: ignore[arg-type]


async def of(found: SecretStates) -> Any:
    return await found.of(IDENTITY, "anthropic", "api-key")


async def test_one_that_is_there_without_its_opt_in_is_withdrawn_at_once() -> None:
    cluster, clock = Cluster(seen=OPTED, live=OPTED), [0.0]
    found = states(cluster, clock)
    assert (await of(found)).problem is None
    cluster.seen, cluster.live = None, PLAIN
    state = await of(found)
    assert (state.problem, state.withdrawn) == (Reason.SECRET_NOT_OPTED_IN, True)


async def test_one_that_was_made_again_is_recognized_before_a_watch_tells_of_it() -> None:
    clock = [0.0]
    for cluster in (Cluster(live=OPTED), Cluster(live=PLAIN, typed=True)):
        state = await of(states(cluster, clock))
        assert state.problem is None
        assert not state.withdrawn


async def test_one_that_is_gone_is_withdrawn_when_that_has_lasted_a_moment() -> None:
    cluster, clock = Cluster(seen=OPTED, live=OPTED), [0.0]
    found = states(cluster, clock)
    cluster.seen = cluster.live = None
    first = await of(found)
    assert (first.problem, first.withdrawn) == (Reason.SECRET_NOT_FOUND, False)
    assert first.again is not None
    assert first.again <= GONE_AFTER
    clock[0] += first.again
    assert (await of(found)).withdrawn
    cluster.live = OPTED
    assert (await of(found)).problem is None
    cluster.live = None
    assert not (await of(found)).withdrawn, "it was there in between"


@pytest.mark.parametrize(
    ("look", "listed_before", "annotation", "withdrawn"),
    [
        (False, False, "another", True),
        (False, True, "", True),
        (True, True, "another", True),
        # The operator may only have lost a right: that ends nobody's work.
        (True, False, "another", False),
        (False, True, None, False),
    ],
)
async def test_an_annotation_withdraws_where_it_is_what_decides(
    look: bool, listed_before: bool, annotation: str | None, withdrawn: bool
) -> None:
    cluster, clock = Cluster(readable=False, look_at_secrets=look, annotation="anthropic"), [0.0]
    found = states(cluster, clock)
    if listed_before:
        assert (await of(found)).problem is None
    cluster.annotation = annotation
    state = await of(found)
    assert (state.problem, state.withdrawn) == (Reason.SECRET_NOT_OPTED_IN, withdrawn)


async def test_what_cant_be_looked_at_ends_nothing() -> None:
    cluster, clock = Cluster(), [0.0]

    async def refused(*_: Any, **__: Any) -> Any:
        raise ApiError(503, "ServiceUnavailable", "later")

    cluster.get = refused  # type: ignore[method-assign]
    state = await of(states(cluster, clock))
    assert (state.problem, state.withdrawn) == (Reason.OBSERVATION_FAILED, False)


async def ended(one: Sandbox) -> None:
    assert not one.running
    assert not (await one.once()).wrote, "it is not started again"
    assert one.sdk.api.containers(all=True, filters={"name": one.names.container}) == []


@pytest.mark.by_turns
@pytest.mark.engine
@pytest.mark.parametrize("strategy", ["OnDelete", "Recreate"])
async def test_a_container_ends_at_once_whose_secret_is_withdrawn(host: EngineDescription, strategy: str) -> None:
    async with sandbox(host, updateStrategy={"type": strategy}) as one:
        await one.made()
        one.secrets.problem = secret_opt_in.not_opted_in(*ALICE)
        began = time.monotonic()
        outcome = await one.once()
        took = time.monotonic() - began
        print(f"ended within {took:.2f} s")
        assert outcome.removed == (f"Container {one.names.container}",)
        await ended(one)
        # Without the ten seconds that an agent gets otherwise.
        assert took < 5
        one.secrets.problem = None
        one.clock.now += 60
        await one.settled()
        assert one.key_in_place() == KEY


@pytest.mark.by_turns
@pytest.mark.engine
@pytest.mark.parametrize("reason", [Reason.SECRET_NOT_OPTED_IN, Reason.SECRET_KEY_MISSING, Reason.RETRYING])
async def test_what_reading_it_shows_counts_as_much(host: EngineDescription, reason: Reason) -> None:
    """Another Secret of the name is there by now, or it has no key any more; or it merely can't be read."""
    async with sandbox(host) as one:
        await one.made()
        one.secrets.generation = "2"
        one.clock.now += 60

        async def refused(identity: Identity, secret: str, key: str) -> Any:
            raise KeyUnavailableError(reason, "not this one")

        one.secrets.read = refused  # type: ignore[method-assign]
        outcome = await one.once()
        assert outcome.failure is not None
        assert outcome.failure.reason is reason
        assert one.running is (reason is Reason.RETRYING)
