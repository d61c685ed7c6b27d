"""A sandbox that rests for longer than evidence is good for is asked about anew, and stays what it was."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.backends.kubernetes.evidence import access_reviews
from claude_sandbox.backends.kubernetes.watches import watches
from claude_sandbox.compliance.evidence.readings import Reading


class Answers:
    """An API server whose authorizers allow nothing."""

    async def create(self, resource: Any, body: Any, namespace: str) -> dict[str, Any]:
        return {"status": {"allowed": False}}


async def test_at_every_age_an_answer_is_fresh_or_due(monkeypatch: pytest.MonkeyPatch) -> None:
    reviews = access_reviews.AccessReviews(Answers(), [("get", "", "pods", "")])  # type: ignore[arg-type]
    begun = access_reviews.time.monotonic()
    await reviews.ask("agents", "sandbox-alice")
    found = reviews.known("agents", "sandbox-alice")
    assert isinstance(found, Reading)
    for age in range(0, 1200, 5):
        monkeypatch.setattr(access_reviews.time, "monotonic", lambda age=age: begun + age)
        fresh = datetime.now(UTC) + timedelta(seconds=age) - found.observed_at <= watches.MAX_AGE
        assert fresh or reviews.due("agents", "sandbox-alice")
