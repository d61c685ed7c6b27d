"""A sandbox leaves a compromised host by one write, for a host that admits it, with a backup from before."""

from collections.abc import Mapping

from compromised_place import BACKUP, COMPROMISED, NOW, SNAPSHOT, Leaving, candidate

from claude_sandbox.controller.sandboxes.interfaces import Stays


def test_one_write_says_where_it_is_with_which_backup_which_key_is_lost_and_that_nothing_was_restored() -> None:
    place = Leaving()
    place.marked.declared()
    place.raw["status"] = {**place.raw["status"], "restore": {"state": "Restored"}, "workload": {"name": "a"}}
    moved = place.leave(workspace={"keepHome": {"size": "1Gi"}})
    assert moved is not None
    assert place.stored == [
        {
            "placement": {"host": "build-2", "engineId": "e2"},
            "workload": None,
            "endpoints": None,
            "restore": None,
            "lostKey": {"host": "build-1", "secret": "key", "generation": "7", "since": "2026-11-29T12:00:00Z"},
            "recovery": {
                "host": "build-1",
                "engineId": "e",
                "at": "2026-11-29T12:00:00Z",
                "backup": "alice-1",
                "snapshot": SNAPSHOT,
                "backedUpAt": "2026-11-29T10:30:00Z",
                "left": ["alice-workspace", "alice-home"],
            },
        }
    ]
    assert any("Moved" in one and "alice-workspace, alice-home" in one for one in place.told)
    # Where it is now, the key that it had is still lost.
    assert isinstance(moved, Mapping)
    metadata = {**moved["metadata"], "resourceVersion": "99"}
    place.marked.sandboxes.put({**moved, "metadata": metadata})
    assert place.marked.withdrawn("7")
    assert not place.marked.withdrawn("8")


def test_before_the_hosts_status_names_it_and_its_key_it_stays() -> None:
    place = Leaving()
    place.marked.host(declared=COMPROMISED)
    assert "names what was there" in place.stays()
    place.marked.declared()
    # A pass that was under way brought another key.
    status = place.raw["status"]
    place.raw["status"] = {**status, "credentials": {**status["credentials"], "generation": "8"}}
    assert "names what was there" in place.stays()
    place.raw["status"] = status
    place.first = {"build-2"}
    assert "names what was there" in place.stays()
    place.first = set()
    assert not isinstance(place.leave(), Stays)


def test_a_backup_from_after_the_time_that_somebody_declared_is_not_taken() -> None:
    place = Leaving()
    place.marked.declared()
    raw = place.marked.hosts.get("build-1")
    assert raw is not None
    place.marked.host("build-1", COMPROMISED | {"since": "2026-11-29T10:00:00Z"}, **raw["status"])
    assert "before 2026-11-29T10:00:00Z" in place.stays()
    # A later time than when it was declared says nothing.
    place.marked.host("build-1", COMPROMISED | {"since": "2027-11-29T10:00:00Z"}, **raw["status"])
    place.backups = [{**BACKUP, "status": {**BACKUP["status"], "completedAt": "2026-12-29T10:00:00Z"}}]
    assert f"before {NOW:%Y-%m-%dT%H:%M:%SZ}" in place.stays()


def test_only_another_engine_that_admits_its_namespace_and_is_not_compromised_takes_it() -> None:
    for other, why in (
        (candidate("same", "e"), "no other DockerHost"),
        (candidate("closed", "e3", allowedNamespaces={"names": ["others"]}), "no other DockerHost"),
        (candidate("drained", "e4", drain=True), "being drained"),
        (candidate("lost", "e5", incident=COMPROMISED), "compromised"),
        # Another name for an engine that is compromised, of which the host that was declared says it.
        (candidate("alias", "e6"), "no other DockerHost"),
    ):
        place = Leaving(other)
        place.marked.declared("lost-2", engine={"id": "e6"})
        place.marked.declared()
        assert why in place.stays(), other.name


def test_it_does_not_go_back_to_the_engine_that_it_left_before() -> None:
    place = Leaving(candidate("build-0", "e0"))
    place.marked.declared()
    place.raw["status"] = {**place.raw["status"], "recovery": {"engineId": "e0"}}
    assert "no other DockerHost" in place.stays()


def test_one_that_is_gone_is_told_of_nobody() -> None:
    place = Leaving()
    place.marked.declared()
    place.gone = True
    assert place.leave() is None
    assert place.told == []


def test_without_a_backup_that_can_be_trusted_it_stays_and_says_why() -> None:
    place = Leaving()
    place.marked.declared()
    place.backups = []
    assert "no backup" in place.stays()
