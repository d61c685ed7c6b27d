"""What makes a sandbox begin anew elsewhere, used against others.

A sandbox that declares it leaves a compromised Docker host by itself, and begins with a backup. Who may write sandboxes
could have one brought to a host that is not for his namespace, or have it filled with what is another's; who is root on
the compromised host, and so has the password of the repository and what its server lets in, could have it filled with
what he made there, or have it come back to his engine. Closed by: the host is chosen as for any sandbox, and never the
compromised engine by whatever name; the backup is one of this very sandbox, verified by the operator's clock before the
mark, and its snapshot is named by the whole of a digest.
"""

from datetime import timedelta
from typing import Any

import pytest
from compromised_place import BACKUP, COMPROMISED, NOW, SNAPSHOT, Leaving, candidate

from claude_sandbox.controller.sandboxes.interfaces import Stays


def forged(**status: Any) -> dict[str, Any]:
    return {**BACKUP, "status": {**BACKUP["status"], **status}}


@pytest.mark.parametrize(
    "labels", [{"for": "others"}, {}], ids=["the labels of a host of others", "labels that any host has"]
)
def test_who_may_write_sandboxes_brings_none_to_a_host_that_is_not_for_his_namespace(labels: dict[str, str]) -> None:
    place = Leaving(candidate("of-others", "e2", allowedNamespaces={"names": ["others"]}))
    place.marked.declared()
    found = place.leave(
        backend={"type": "Docker", "hostSelector": {"matchLabels": labels}} if labels else {"type": "Docker"}
    )
    assert isinstance(found, Stays)
    assert "of-others" not in found.message
    assert place.stored == []


@pytest.mark.parametrize(
    "backup",
    [
        {**BACKUP, "spec": {**BACKUP["spec"], "sandboxName": "bob"}},
        # Of whoever had the name before.
        {**BACKUP, "metadata": {**BACKUP["metadata"], "creationTimestamp": "2026-10-31T00:00:00Z"}},
    ],
    ids=["of another sandbox", "of an earlier one by the name"],
)
def test_no_sandbox_is_filled_with_what_is_anothers(backup: dict[str, Any]) -> None:
    place = Leaving()
    place.marked.declared()
    place.backups = [backup]
    assert "no backup" in place.stays()


@pytest.mark.parametrize(
    "backup",
    [
        # Verified by a helper on the host, after it was somebody else's.
        forged(completedAt=f"{NOW + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"),
        # Of eight digits another snapshot is found that begins with them, within hours.
        forged(snapshot=SNAPSHOT[:8]),
        {**BACKUP, "spec": {**BACKUP["spec"], "target": {"type": "HostDirectory"}}},
    ],
    ids=["made afterwards", "by a name that can be made again", "kept on the host"],
)
def test_who_has_the_host_chooses_nothing_of_what_the_sandbox_begins_with(backup: dict[str, Any]) -> None:
    place = Leaving()
    place.marked.declared()
    place.backups = [backup]
    place.stays()
    place.backups = [BACKUP, backup]
    assert not isinstance(place.leave(), Stays)
    (written,) = place.stored
    assert written["recovery"]["snapshot"] == SNAPSHOT


def test_no_sandbox_comes_back_to_the_compromised_engine_by_another_name() -> None:
    place = Leaving(candidate("alias", "e"), candidate("alias-of-another", "e6"))
    place.marked.declared("build-2", engine={"id": "e6"})
    place.marked.declared()
    place.stays()
    place.others.append(candidate("lost", "e7", incident=COMPROMISED))
    place.stays()
