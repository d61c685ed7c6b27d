"""A RuntimeClass is asked for once in a while, and what could not be read is Unknown and asked for again."""

from datetime import UTC, datetime
from typing import Any

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.kubernetes.evidence.runtime_classes import MAX_AGE, RETRY_AFTER, RuntimeClasses
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.errors import ApiError


class Server:
    """Knows one RuntimeClass, while it may be asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.allowed = True

    async def get(self, resource: Any, name: str) -> Any:
        self.asked.append(name)
        if not self.allowed:
            raise ApiError(403, "Forbidden", "no")
        if name != "gvisor":
            raise ApiError(404, "NotFound", "gone")
        return {"metadata": {"name": name}, "handler": "runsc"}


def pod(name: str | None) -> Reading[Any]:
    spec = {"runtimeClassName": name} if name else {}
    return Reading({"spec": spec}, EvidenceSource.LIVE_OBJECT, datetime.now(UTC))


async def test_it_is_asked_for_once_and_again_when_the_answer_is_old() -> None:
    server, now = Server(), [0.0]
    classes = RuntimeClasses(server, lambda: now[0])  # type: ignore[arg-type]
    assert isinstance(classes.of(pod("gvisor")), Unread)
    for _ in range(2):
        await classes.look(pod("gvisor").value)
    found = classes.of(pod("gvisor"))
    assert isinstance(found, Reading)
    assert found.value is not None
    assert found.value["handler"] == "runsc"
    now[0] = MAX_AGE
    await classes.look(pod("gvisor").value)
    assert server.asked == ["gvisor", "gvisor"]


async def test_one_that_is_not_there_or_may_not_be_read_is_unknown_and_asked_for_again_soon() -> None:
    server, now = Server(), [0.0]
    classes = RuntimeClasses(server, lambda: now[0])  # type: ignore[arg-type]
    server.allowed = False
    await classes.look(pod("gvisor").value)
    found = classes.of(pod("gvisor"))
    assert isinstance(found, Unread)
    assert "gvisor" in found.reason
    server.allowed, now[0] = True, RETRY_AFTER
    await classes.look(pod("gvisor").value)
    assert isinstance(classes.of(pod("gvisor")), Reading)
    await classes.look(pod("none").value)
    assert isinstance(classes.of(pod("none")), Unread)


async def test_a_pod_that_names_none_costs_no_request_and_a_pod_that_is_not_there_says_nothing() -> None:
    server = Server()
    classes = RuntimeClasses(server)  # type: ignore[arg-type]
    for one in (None, pod(None).value):
        await classes.look(one)
    found = classes.of(pod(None))
    assert isinstance(found, Reading)
    assert found.value is None
    assert isinstance(classes.of(Unread("there is none")), Unread)
    assert server.asked == []
