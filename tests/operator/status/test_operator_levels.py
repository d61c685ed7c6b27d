"""A sandbox chooses which controls count for it, and excepts one until a day."""

from typing import Any

import pytest
from world import World

pytestmark = pytest.mark.controlplane

PRIV_06 = {"control": "PRIV-06", "reason": "the nodes can't do it yet", "owner": "platform@example.org"}


def _control(world: World, id: str) -> Any:
    """What the status says of a control that does not pass."""
    compliance = (world.sandbox("alice") or {}).get("status", {}).get("compliance") or {}
    return next((one for one in compliance.get("controls", ()) if one["id"] == id), {})


async def test_the_level_and_the_exceptions_of_a_sandbox_count_as_soon_as_they_are_written(world: World) -> None:
    await world.operator().start()
    await world.create("alice")
    await world.ready("alice")

    def told() -> tuple[bool, str | None]:
        found = _control(world, "PRIV-06")
        return found.get("required", False), found.get("exceptedUntil")

    await world.ledger.until(lambda: bool(_control(world, "PRIV-06")), "PRIV-06 reported")
    assert told() == (False, None)
    await world.edit("alice", compliance={"level": "Hardened"})
    await world.ledger.until(lambda: told() == (True, None), "PRIV-06 required")
    exception = {"level": "Hardened", "exceptions": [PRIV_06 | {"expires": "2099-12-31"}]}
    await world.edit("alice", compliance=exception)
    await world.ledger.until(lambda: told() == (False, "2099-12-31"), "PRIV-06 excepted")
    assert _control(world, "PRIV-06")["result"] == "Fail"
    await world.edit("alice", compliance={"level": "Hardened", "exceptions": [PRIV_06 | {"expires": "2020-01-01"}]})
    await world.ledger.until(lambda: told() == (True, None), "the exception expired")
    assert "its exception by platform@example.org expired on 2020-01-01" in _control(world, "PRIV-06")["message"]
