"""What was on a compromised Docker host is used by nobody, and is not forgotten with its sandboxes."""

from datetime import UTC, datetime, timedelta
from typing import Any

from compromised_place import COMPROMISED, NOW
from compromised_place import Marked as Place

from claude_sandbox.api.docker_hosts.incident import MOST_SECRETS, HostSecretUse
from claude_sandbox.api.status_fields.incident import Revocation, RevocationState
from claude_sandbox.backends.base import KeyState
from claude_sandbox.controller.docker_hosts.compromised import CompromisedHosts
from claude_sandbox.controller.sandboxes.incidents.revocation import CompromisedKey
from claude_sandbox.controller.sandboxes.store import Key
from claude_sandbox.gateway.kubernetes.declared import is_compromised, read_compromised

LATER = datetime(2026, 11, 29, 13, tzinfo=UTC)


def test_its_keys_are_used_by_nobody_from_the_moment_on_at_which_the_watch_told() -> None:
    place = Place()
    place.host()
    place.sandbox("alice")
    place.sandbox("bob", host=None)
    assert not place.withdrawn()
    place.host(declared=COMPROMISED)
    # Nothing was written yet.
    assert place.withdrawn()
    assert not place.withdrawn(named="another")
    assert not place.withdrawn(namespace="others")
    assert place.severed == ["build-1"]
    assert place.woken == ["agents/alice"]
    assert place.users == {"agents/key"}
    assert "build-1" in str(place.found.refusal("build-1"))


def test_another_generation_is_another_key_and_the_old_one_put_back_is_not() -> None:
    place = Place()
    place.sandbox("alice")
    place.declared()
    assert not place.withdrawn("8")
    assert place.withdrawn("7")
    # Who may not look at Secrets can't tell them apart.
    assert place.withdrawn(None)


def test_a_sandbox_that_is_deleted_takes_none_of_its_keys_along() -> None:
    place = Place()
    place.sandbox("alice")
    raw = place.declared()
    place.sandboxes.remove(Key("agents", "alice"))
    assert place.withdrawn()
    told = place.found.status(raw, LATER)
    assert told is not None
    assert (told.since, told.sandboxes, told.ran) == (NOW, 1, ["agents/alice"])
    assert [(one.name, one.generation) for one in told.secrets] == [("key", "7")]
    # After a restart of the operator the same.
    again = CompromisedHosts(place.hosts, place.sandboxes)
    assert again.judged("agents", "key", KeyState("7"))[0].withdrawn


def test_a_key_that_was_on_its_way_when_it_was_declared_is_lost_too() -> None:
    place = Place()
    place.sandbox("alice")
    raw = place.declared()
    place.sandbox("alice", credentials={"secret": "key", "generation": "8", "mountedGeneration": "7"})
    assert place.withdrawn("8")
    told = place.found.status(raw, LATER)
    assert told is not None
    assert {one.generation for one in told.secrets} == {"7", "8"}


def test_a_label_on_its_secret_makes_no_other_key_of_it_and_the_gateway_hears_since_when_that_is() -> None:
    place = Place()
    place.sandbox("alice")
    place.declared()
    assert place.found.lost_key("agents", "key", KeyState("8", changed=NOW + timedelta(minutes=1))) is None
    labelled = KeyState("8", changed=NOW - timedelta(hours=1))
    lost = place.found.lost_key("agents", "key", labelled)
    assert lost is not None
    told = {"spec": {}, "status": {"lostKey": lost.model_dump(mode="json", by_alias=True)}}
    ((secret, *mark),) = read_compromised(told)
    assert (secret, mark) == ("key", ["7", NOW])
    assert is_compromised("8", labelled.changed, "7", NOW)


def test_the_keys_of_repositories_and_services_are_named_with_what_is_known_of_them() -> None:
    place = Place()
    place.sandbox("alice")
    raw: Any = place.sandboxes.get(Key("agents", "alice"))
    repositories = [{"url": "https://git.example.org/a", "credentialsSecretRef": {"name": "git"}}]
    metadata = place.meta("alice", namespace="agents")
    place.sandboxes.put({**raw, "metadata": metadata, "spec": {**raw["spec"], "repositories": repositories}})
    told = place.found.status(place.host(declared=COMPROMISED), NOW)
    assert told is not None
    assert [(one.name, one.use, one.generation) for one in told.secrets] == [
        ("git", HostSecretUse.OTHER, "of-git"),
        ("key", HostSecretUse.MODEL, "7"),
    ]
    # Nothing stops their use, and nothing says so.
    assert not place.withdrawn("of-git", named="git")


def test_of_more_keys_than_a_status_can_name_those_who_share_them_remember_each() -> None:
    place = Place()
    for number in range(MOST_SECRETS + 1):
        place.sandbox(f"s{number}", named=f"key-{number:03}")
    raw = place.declared()
    told = place.found.status(raw, LATER)
    assert told is not None
    assert (len(told.secrets), told.more_secrets) == (MOST_SECRETS, 1)
    last = f"key-{MOST_SECRETS:03}"
    assert place.withdrawn(named=last)
    lost = place.found.lost_key("agents", last, KeyState("7"))
    assert lost is not None
    place.sandbox("shares", host=None, named=last, lostKey=lost.model_dump(mode="json", by_alias=True))
    place.sandboxes.remove(Key("agents", f"s{MOST_SECRETS}"))
    assert place.withdrawn(named=last)


def test_who_shares_a_key_is_told_since_when_also_of_one_that_the_status_does_not_name() -> None:
    place = Place()
    for number in range(MOST_SECRETS + 1):
        place.sandbox(f"s{number}", named=f"key-{number:03}")
    last = f"key-{MOST_SECRETS:03}"
    raw = place.host(declared=COMPROMISED)
    lost = place.found.lost_key("agents", last, KeyState("7"))
    assert lost is not None
    assert lost.since is None
    place.users.clear()
    told = place.found.status(raw, NOW)
    assert told is not None
    place.host(declared=COMPROMISED, incident=told.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert f"agents/{last}" in place.users
    lost = place.found.lost_key("agents", last, KeyState("7"))
    assert lost is not None
    assert lost.since == NOW


def test_lifted_or_gone_it_holds_no_longer_and_all_are_woken() -> None:
    place = Place()
    place.sandbox("alice")
    place.declared()
    place.woken.clear()
    place.users.clear()
    place.host()
    assert not place.withdrawn()
    assert place.found.refusal("build-1") is None
    assert (place.woken, place.users) == (["agents/alice"], {"agents/key"})
    raw = place.declared()
    assert place.withdrawn()
    place.hosts.lose(raw)
    assert not place.withdrawn()


def test_a_host_whose_spec_is_refused_for_something_else_is_compromised_all_the_same() -> None:
    place = Place()
    place.sandbox("alice")
    raw = {"metadata": place.meta("build-1"), "spec": {"endpoint": 3, "incident": COMPROMISED}}
    place.hosts.put(raw)
    assert place.withdrawn()


async def test_what_the_status_calls_revoked_is_not_asked_for_again_and_of_others_no_key_is() -> None:
    class Hook:
        def __init__(self) -> None:
            self.asked, self.forgotten = list[CompromisedKey](), list[str]()

        def ask(self, _asker: str, key: CompromisedKey, *_: Any) -> Revocation:
            self.asked.append(key)
            return Revocation(state=RevocationState.REVOKED if key.secret == "key" else RevocationState.FAILED, at=NOW)

        def forget(self, asker: str) -> None:
            self.forgotten.append(asker)

    place, hook = Place(), Hook()
    place.found = CompromisedHosts(place.hosts, place.sandboxes, revocations=hook)  # type: ignore[arg-type]
    place.sandbox("alice")
    place.sandbox("bob")
    place.sandbox("carol", named="other")
    raw = place.declared()
    assert sorted(one.secret for one in hook.asked) == ["key", "other"]
    told = place.found.status(raw, LATER)
    # What failed is asked for again.
    assert [one.secret for one in hook.asked[2:]] == ["other"]
    assert told is not None
    states = {one.name: one.revocation and one.revocation.state for one in told.secrets}
    assert states == {"key": RevocationState.REVOKED, "other": RevocationState.FAILED}
    place.host()
    assert hook.forgotten == ["build-1"]
