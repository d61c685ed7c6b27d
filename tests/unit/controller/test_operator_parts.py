"""The parts of one operator process, put together: what is made once is told of each change once."""

import asyncio
from typing import Any
from unittest.mock import MagicMock

import pytest

from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.model import Site
from claude_sandbox.controller import operator
from claude_sandbox.controller.docker_hosts.operator import HostsOperator
from claude_sandbox.controller.machinery.events import EventRecorder
from claude_sandbox.controller.metrics.metrics import Metrics
from claude_sandbox.controller.operator import Operator, PassTooLongError
from claude_sandbox.controller.sandboxes.store import Key
from claude_sandbox.controller.settings import Settings

DOCKER: dict[str, Any] = {
    "metadata": {"namespace": "agents", "name": "alice", "uid": "u", "resourceVersion": "1"},
    "spec": {"backend": {"type": "Docker"}},
}


async def _ends_of_itself(_key: Key) -> Any:
    raise TimeoutError("a read")


async def _hangs(_key: Key) -> Any:
    await asyncio.sleep(3600)


async def test_only_a_pass_that_was_ended_is_said_to_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    api = MagicMock(host="127.0.0.1:6443")
    settings = Settings(Site(parse_image("example.org/sandbox:1", "Never")), docker=True)
    one = Operator(settings, api, MagicMock(), Metrics(), 34)
    one.sandboxes.put(DOCKER)
    monkeypatch.setattr(one, "reconciler", _ends_of_itself)
    with pytest.raises(TimeoutError, match="a read"):
        await one.reconcile(Key("agents", "alice"))
    monkeypatch.setattr(one, "reconciler", _hangs)
    monkeypatch.setattr(operator, "PASS_LIMIT", 0.01)
    with pytest.raises(PassTooLongError):
        await one.reconcile(Key("agents", "alice"))


async def test_of_a_compromised_key_the_users_are_woken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[tuple[str, str]] = []
    monkeypatch.setattr(Operator, "_wake_users", lambda _, *secret: woken.append(secret))
    api, metrics = MagicMock(host="127.0.0.1:6443"), Metrics()
    events = EventRecorder(api, "tests")
    settings = Settings(Site(parse_image("example.org/sandbox:1", "Never")), docker=True)
    made = Operator(settings, api, MagicMock(), metrics, 34)
    made.use_hosts(HostsOperator(api, events, "system", resync=300.0, metrics=metrics.hosts), "cluster")
    made.backups(events)
    sandbox: dict[str, Any] = {
        "metadata": {"namespace": "agents", "name": "alice", "uid": "u", "resourceVersion": "1"},
        "spec": {
            "credentials": {"oauthTokenSecretRef": {"name": "key"}},
            "incident": {"state": "KeyCompromised"},
        },
    }
    made.sandboxes.put(sandbox)
    assert woken == [("agents", "key")]
