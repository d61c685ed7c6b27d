"""Commands that start something, of which only what they would start is looked at."""

import pytest

from claude_sandbox.cli.operator import command
from claude_sandbox.controller.settings import Settings


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What the operator would have been started with."""
    found: list[Settings] = []

    async def start(settings: Settings) -> None:
        found.append(settings)

    monkeypatch.setattr(command, "run_operator", start)
    monkeypatch.setattr(command.logs, "configure", lambda *_: None)
    monkeypatch.setattr(command.resource, "setrlimit", lambda *_: None)
    return found
