"""What is known of where the cluster's own services are, while the API server answers and while it does not."""

from typing import Any

from claude_sandbox.backends.kubernetes.probing.cluster import AGAIN, SOON, Cluster
from claude_sandbox.kubernetes_api.errors import TIMED_OUT, ApiError

SILENT = ApiError(0, TIMED_OUT, "no answer")
FORBIDDEN = ApiError(403, "Forbidden", "no")
FRONT, RESOLVER, BEHIND = "10.96.0.1", "10.96.0.10", "192.0.2.7"


class Server:
    """An API server that says `wrong` to all reads, unless that is None."""

    host = "127.0.0.1:6443"

    def __init__(self, wrong: ApiError | None = None) -> None:
        self.wrong = wrong
        self.asked = 0
        self.now = 0.0
        api: Any = self
        self.cluster = Cluster(api, lambda: self.now)

    async def get(self, _resource: Any, name: str, _namespace: str) -> dict[str, Any]:
        self.asked += 1
        if self.wrong is not None:
            raise self.wrong
        return {"spec": {"clusterIP": FRONT if name == "kubernetes" else RESOLVER}}

    async def list(self, _resource: Any, _namespace: str, **_: Any) -> Any:
        if self.wrong is not None:
            raise self.wrong
        items = [{"endpoints": [{"addresses": [BEHIND]}], "ports": [{"port": 6443}]}]
        return type("Listing", (), {"items": items})

    async def known(self) -> tuple[set[str], str]:
        found = await self.cluster.addresses()
        return {host for host, _ in found.api_server}, found.resolver


OWN = "127.0.0.1"
ALL = {OWN, FRONT, BEHIND}, RESOLVER
NONE = {OWN}, ""


async def test_what_was_not_told_is_asked_for_again_in_seconds() -> None:
    server = Server(SILENT)
    assert await server.known() == NONE
    server.wrong = None
    # Not at each probe: one that does not answer would be asked by all of them.
    assert await server.known() == NONE
    server.now = SOON
    assert await server.known() == ALL


async def test_what_was_known_stays_while_nobody_answers() -> None:
    server = Server()
    assert await server.known() == ALL
    server.now, server.wrong = AGAIN, SILENT
    assert await server.known() == ALL


async def test_what_it_may_not_know_or_is_gone_is_not_asked_for_all_the_time() -> None:
    server = Server()
    assert await server.known() == ALL
    server.now, server.wrong = AGAIN, FORBIDDEN
    assert await server.known() == NONE
    asked = server.asked
    server.now += AGAIN - 1
    assert await server.known() == NONE
    assert server.asked == asked
