"""Whatever an engine answers: a pass comes to its end and says that nothing is known, and events go on waking."""

import asyncio
import contextlib
import json
from typing import Any

from docker_world import CLUSTER, IDENTITY, NEW, blueprint_of, desired_of, live_of, recorded, spec_of
from hostile import JSON, TEXTS, changed
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.backends.base import KeyState, Past
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.events.expectations import container_of, unseen, until_start
from claude_sandbox.backends.docker.events.watch import Registry, event_in, sandboxes_of
from claude_sandbox.backends.pacing import Pacer

LATER = Past(provisioned=True, ran=True, settled=True)
LIVE = live_of(desired_of())
EVENT = {
    "Type": "container",
    "Action": "die",
    "Actor": {"ID": "1" * 64, "Attributes": {"name": "csb", "image": "x", "container": "2" * 64}},
}
INFO = {
    "SecurityOptions": ["name=seccomp,profile=builtin"],
    "InitCommit": {"ID": "1"},
    "KernelVersion": "6.12.1",
    "ID": "e",
}


class Answers:
    """An engine that answers what it was made with, and does nothing."""

    may_be_local = False

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    async def capabilities(self) -> EngineCapabilities:
        return NEW

    async def container(self, _: str) -> Any:
        return self._answers["container"]

    async def containers(self, _: Any) -> Any:
        return self._answers["containers"]

    async def network(self, _: str) -> Any:
        return self._answers["network"]

    async def volumes(self, *_: Any, **__: Any) -> Any:
        return self._answers["volumes"]

    async def image(self, _: str) -> Any:
        return self._answers["image"]

    async def session(self, _: str) -> Any:
        return self._answers["session"]

    async def read_file(self, *_: Any) -> Any:
        return self._answers["file"]

    def __getattr__(self, name: str) -> Any:
        async def refused(*_: Any, **__: Any) -> Any:
            raise EngineError(500, f"{name} is refused")

        return refused


class NoSecrets:
    async def state(self, *_: Any) -> KeyState:
        return KeyState(generation="7")


SESSION = {"ID": "s", "ProcessConfig": {"entrypoint": "sh", "arguments": ["-c"]}}
ANSWERS = {
    "container": {**LIVE.container, "ExecIDs": ["s"]} if LIVE.container else None,
    "containers": [],
    "network": LIVE.network,
    "volumes": list(LIVE.volumes.values()),
    "image": LIVE.image,
    "session": SESSION,
    "file": b"7",
}


@given(changed(ANSWERS) | changed({**ANSWERS, "container": recorded("29")}))
@settings(deadline=None, max_examples=120)
def test_no_answer_of_an_engine_ends_a_pass_early(answers: Any) -> None:
    told = {**ANSWERS, **answers} if isinstance(answers, dict) else ANSWERS
    backend = DockerBackend(Answers(told), CLUSTER, "host", NoSecrets(), Pacer())  # type: ignore[arg-type]

    async def passed() -> None:
        blueprint, spec = blueprint_of(), spec_of()
        outcome = await backend.ensure(blueprint, KeyState("7"), spec, LATER)
        state = await backend.state(IDENTITY)
        compliance, compliant, _ = await backend.measure(blueprint, spec, outcome)
        assert compliance.model_dump_json().isprintable()
        if state.status is ConditionStatus.UNKNOWN or outcome.failure is not None:
            assert compliant[0] is not ConditionStatus.TRUE

    asyncio.run(passed())


@given(st.one_of(changed(EVENT), JSON, st.just(EVENT)), st.sampled_from(["", "x", "[" * 100_000]))
@settings(deadline=None)
def test_no_event_ends_the_waking(event: Any, noise: str) -> None:
    registry = Registry()
    registry.put(("agents", "alice"), ["1" * 64])
    told = event_in(noise + json.dumps(event))
    if told is not None:
        list(sandboxes_of(told, CLUSTER, registry))
        container_of(told)
        until_start([told], "1" * 64)
        unseen([told], "1" * 64, "2" * 64, 0, [])


@given(st.one_of(changed(INFO), st.dictionaries(TEXTS, JSON), JSON))
@settings(deadline=None)
def test_what_an_engine_says_of_itself_is_used_or_refused(info: Any) -> None:
    class Client:
        api_version = "1.52"
        base_url = "http://x"

        def request(self, *_: Any, **__: Any) -> Any:
            class Response:
                status_code = 200
                content = json.dumps(info).encode()

            return Response()

    async def look() -> None:
        engine = Engine(Client)  # type: ignore[arg-type]
        with contextlib.closing(engine), contextlib.suppress(EngineError):
            await engine.look()

    asyncio.run(look())
