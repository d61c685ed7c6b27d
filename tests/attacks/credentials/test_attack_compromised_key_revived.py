"""The attack: somebody who may edit a sandbox, and may not lift its incident, has its compromised key used again.

He names another Secret in the sandbox that declared it, or quarantines that sandbox, both of which an editor may do.
Then the key was used again by every other sandbox of the namespace that shares the Secret, and the status said that the
incident was over. What closes it: the status says which Secret was meant, and that counts, whatever the spec names
since; a quarantine takes it over. The operator and the namespace's gateway judge by the same documents.

Nor does it take an attack: a label on the Secret, which anything in a cluster may write, made another generation of it,
and the same key was used again. What counts is when its data was written.
"""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import KeyState
from claude_sandbox.backends.kubernetes.watches.secret_opt_in import opted_in
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.sandboxes.incidents.keys import CompromisedKeys
from claude_sandbox.controller.sandboxes.incidents.quarantine import Quarantines
from claude_sandbox.controller.sandboxes.store import Sandboxes
from claude_sandbox.gateway.config.cluster import SecretKey
from claude_sandbox.gateway.kubernetes.credentials import read
from claude_sandbox.gateway.kubernetes.declared import is_compromised, read_compromised

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
DECLARED = {"state": "KeyCompromised"}
EDITS = {
    "another Secret": ("other", DECLARED),
    "quarantined": ("key", {"state": "Quarantined"}),
    "both": ("other", {"state": "Quarantined"}),
}


class Place:
    """A sandbox whose key, generation 7 of Secret `key`, was declared compromised, as the operator has written it."""

    def __init__(self) -> None:
        self.sandboxes, self.version = Sandboxes(), 0
        self.keys = CompromisedKeys(self.sandboxes)
        self.raw = self.put("key", DECLARED, {})
        told = self.keys.status(self.raw, "key", KeyState("7"), NOW)
        assert told is not None
        self.raw = self.put("key", DECLARED, told.model_dump(mode="json", by_alias=True, exclude_none=True))

    def put(self, secret: str, incident: Any, said: Any) -> Any:
        self.version += 1
        metadata = {"namespace": "agents", "name": "alice", "uid": "u-1", "resourceVersion": str(self.version)}
        spec = {"credentials": {"apiKeySecretRef": {"name": secret}}, "incident": incident}
        raw = {"metadata": metadata, "spec": spec, "status": {"incident": said} if said else {}}
        self.sandboxes.put(raw)
        return raw

    def edited(self, secret: str, incident: Any) -> Any:
        self.raw = self.put(secret, incident, self.raw["status"]["incident"])
        return self.raw

    def used_again(self, generation: str = "7") -> bool:
        """By another sandbox with the same Secret, of the operator or of the namespace's gateway."""
        judged = self.keys.judged("agents", "key", KeyState(generation)).problem is None
        return judged or not self.gateways_word(generation, None)

    def gateways_word(self, generation: str, changed: datetime | None) -> bool:
        """Whether the key in Secret `key` is compromised, as the namespace's gateway says."""
        marks = [mark for secret, *mark in read_compromised(self.raw) if secret == "key"]
        return any(is_compromised(generation, changed, *mark) for mark in marks)


@pytest.mark.parametrize("edit", EDITS)
async def test_what_an_editor_writes_has_a_compromised_key_used_by_nobody(edit: str) -> None:
    place = Place()
    assert not place.used_again()
    secret, incident = EDITS[edit]
    raw = place.edited(secret, incident)
    assert not place.used_again()
    # As the next passes write it.
    if incident == DECLARED:
        said = place.keys.status(raw, place.keys.secret_of(raw, secret), KeyState("7"), NOW)
    else:
        said = (await Quarantines(lambda: NOW).of(raw, Identity("agents", "alice", "u-1"), None)).status
    assert said is not None
    assert said.ended_at is None
    place.raw = place.put(secret, incident, said.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert not place.used_again()
    # The Secret that is named since has another key, of which nobody said anything.
    assert place.keys.judged("agents", "other", KeyState("9")).problem is None
    # Another key in the first one is another key; and who lifts it has the last word.
    assert place.used_again("8")
    place.edited(secret, {"state": "None"})
    assert place.used_again()


def labelled(changed: datetime | None, *more: Any) -> Any:
    """A Secret as the API server has it after somebody wrote a label: another version, by another manager."""
    label = {"manager": "kubectl-label", "time": "2026-12-01T13:00:00Z", "fieldsV1": {"f:metadata": {}}}
    wrote = [] if changed is None else [{"time": changed.isoformat(), "fieldsV1": {"f:data": {}}}]
    metadata = {"name": "key", "resourceVersion": "8", "managedFields": [*wrote, label, *more]}
    data = {"api-key": base64.b64encode(b"not-a-real-key").decode()}
    return {"metadata": metadata, "type": meta.SECRET_TYPE, "data": data}


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (NOW - timedelta(days=1), True),
        (NOW - timedelta(minutes=2), True),
        # The clocks of two machines: of so little the generation has to tell.
        (NOW - timedelta(seconds=30), False),
        (NOW + timedelta(minutes=5), False),
        (None, False),
    ],
)
def test_a_label_makes_no_other_key_and_another_key_does(changed: datetime | None, same: bool) -> None:
    place, written = Place(), labelled(changed)
    key = opted_in(written)
    assert (place.keys.judged("agents", "key", key).problem is Reason.KEY_COMPROMISED) is same
    said = place.keys.status(place.raw, "key", key, NOW + timedelta(hours=1))
    assert said is not None
    assert (said.ended_at is None) is same
    found = read(written, SecretKey("key", "api-key"))
    assert found.text
    assert place.gateways_word(str(found.generation), found.changed) is same


def test_what_is_no_record_of_who_wrote_a_secret_is_none() -> None:
    by = {"fieldsV1": {"f:data": {}}}
    odd = labelled(None, {}, "x", {"time": 7, **by}, {"time": "today", **by}, by)
    assert read(odd, SecretKey("key", "api-key")).changed is None
    odd["metadata"]["managedFields"] = "none"
    assert read(odd, SecretKey("key", "api-key")).changed is None


async def test_of_a_status_that_names_no_secret_as_an_earlier_operator_wrote_it_the_specs_one_counts() -> None:
    place = Place()
    del place.raw["status"]["incident"]["secret"]
    for incident in (DECLARED, {"state": "Quarantined"}):
        place.edited("key", incident)
        assert not place.used_again()
        assert place.used_again("8")
