"""A gateway that is measured without an operator: what its namespace's sandboxes name is what it is compared with."""

from types import SimpleNamespace
from typing import Any, cast

from compliant_gateway import GIVEN, WISH, Gateways, gateway

from claude_sandbox.backends.kubernetes.evidence.pod_context import now_read
from claude_sandbox.backends.kubernetes.evidence.single_gateway import read_gateway
from claude_sandbox.backends.kubernetes.gateway.objects import Wish
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import ENDPOINT_SLICES, PODS, SANDBOXES, Resource

SERVICE = {"name": "tickets", "host": "tickets.example", "header": {"name": "Authorization", "valueFrom": {
    "secretKeyRef": {"name": "tickets-token", "key": "token"}}}}  # fmt: skip
REPOSITORY = {"url": "https://git.example/a", "credentialsSecretRef": {"name": "git-token"}}


class Server:
    """Has the objects of a gateway, and the sandboxes of its namespace."""

    def __init__(self, found: Gateways, *sandboxes: dict[str, Any]) -> None:
        self._found = found
        self._listed: dict[Resource, Any] = {SANDBOXES: sandboxes, PODS: found.pods, ENDPOINT_SLICES: found.slices}

    async def get(self, resource: Resource, _name: str, _namespace: str) -> Any:
        if (live := self._found.objects.get(resource.kind)) is None:
            raise ApiError(404, "NotFound", "there is none")
        return live

    async def list(self, resource: Resource, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(items=list(self._listed.get(resource, ())))


def sandbox(name: str, *, deleted: bool = False, **spec: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "agents",
        **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}),
    }
    return {"metadata": metadata, "spec": {"credentials": {"apiKeySecretRef": {"name": "anthropic"}}, **spec}}


async def measured(wish: Wish, *sandboxes: dict[str, Any]) -> Gateway:
    """Of a gateway that was made for this wish."""
    found = gateway(wish)
    around = SimpleNamespace(
        policies=now_read(tuple(found.policies)), services=now_read(tuple(found.services)), minor=34
    )
    reading = await read_gateway(cast(Any, Server(found, *sandboxes)), "agents", cast(Any, around), GIVEN.image)
    assert isinstance(reading, Reading), reading
    assert reading.value is not None
    return reading.value


async def test_what_repositories_and_services_name_is_meant() -> None:
    secrets = frozenset({"anthropic", "git-token", "tickets-token"})
    wish = Wish("agents", secrets, mounted=False, certificate=WISH.certificate, pods=True)
    found = await measured(wish, sandbox("alice", repositories=[REPOSITORY], services=[SERVICE]))
    assert found.differences == ()
    assert found.meant.readable == secrets


async def test_that_nobody_said_how_the_key_is_delivered_is_read_as_the_operator_reads_it() -> None:
    found = await measured(WISH, sandbox("alice"))
    assert (found.differences, found.meant.readable) == ((), frozenset({"anthropic"}))


async def test_what_sandboxes_without_a_gateway_name_is_not_meant() -> None:
    """Mounted, on Docker, or on their way out: the operator's gateway has no right to read it for them."""
    own = {"credentials": {"apiKeySecretRef": {"name": "other"}}}
    others = (
        sandbox("mounted", credentials={"apiKeySecretRef": {"name": "other"}, "delivery": "Mounted"}),
        sandbox("docker", backend={"type": "Docker"}, **own),
        sandbox("gone", deleted=True, **own),
    )
    found = await measured(WISH, sandbox("alice"), *others)
    assert found.meant.readable == frozenset({"anthropic"})
    widened = Wish("agents", frozenset({"anthropic", "other"}), mounted=False, certificate=WISH.certificate)
    assert (await measured(widened, sandbox("alice"), *others)).differences == ("Role: rules",)
