"""What answers on a sandbox's node where nothing is denied: asked in few pods, and never for what a tenant chose."""

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from test_probe_pods import IMAGE, blueprint, running

from claude_sandbox.backends.kubernetes.probing import controls
from claude_sandbox.backends.kubernetes.probing.controls import FRESH, Controls
from claude_sandbox.backends.kubernetes.probing.targets import ClusterAddresses, place_of, targets
from claude_sandbox.backends.probing.wanted import METADATA_NAMES, Wanted
from claude_sandbox.compliance.evidence.probes import Expected
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.probe import VERSION

Object = dict[str, Any]
KUBELET = Wanted("the kubelet", "192.168.1.7", 10250, Expected.DENIED_IF_THERE, elsewhere=True, by_node=True)
METADATA = Wanted("metadata", "169.254.169.254", 80, Expected.DENIED_IF_THERE, elsewhere=True, by_node=True)
SERVER = Wanted("the API server", "10.0.0.1", 6443, Expected.DENIED, elsewhere=True, by_node=True)
OTHER = Wanted("another sandbox", "10.244.0.9", 8000, Expected.DENIED_IF_THERE, elsewhere=True)
ALL = (KUBELET, METADATA, SERVER, OTHER)


@dataclass
class Node:
    """A cluster in which `there` answer, whoever may connect. `refused`: what it says to a create."""

    there: set[str] = field(default_factory=lambda: {KUBELET.host})
    refused: ApiError | None = None
    pods: dict[str, Object] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    forever: bool = False
    evicts: bool = False

    async def create(self, _resource: Any, body: Object, namespace: str) -> Object:
        await asyncio.sleep(0)
        if self.refused is not None:
            raise self.refused
        assert namespace == "probes"
        made = copy.deepcopy(body)
        made["metadata"]["uid"] = made["metadata"]["name"]
        self.pods[made["metadata"]["name"]] = made
        told = orjson.loads(body["spec"]["containers"][0]["args"][0])["targets"]
        self.asked.append([one["host"] for one in told])
        attempts = [[one["name"], "connected" if one["host"] in self.there else "timeout", "", 1] for one in told]
        message = orjson.dumps({"version": VERSION, "attempts": attempts}).decode()
        if not self.forever:
            state = {"terminated": {"exitCode": 10, "message": message}}
            made["status"] = {"phase": "Failed", "containerStatuses": [{"state": state}]}
        if self.evicts:
            made["status"] = {"phase": "Failed", "reason": "Evicted"}
        return made

    async def get(self, _resource: Any, name: str, _namespace: str) -> Object:
        return self.pods[name]

    async def list(self, _resource: Any, _namespace: str, *, label_selector: str) -> Any:
        key, _, value = label_selector.partition("=")
        found = [one for one in self.pods.values() if one["metadata"]["labels"].get(key) == value]
        return type("Listing", (), {"items": found})

    async def delete(self, _resource: Any, name: str, _namespace: str, **_: Any) -> None:
        self.pods.pop(name, None)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    async def here(wanted: tuple[Wanted, ...], _seconds: float) -> dict[str, bool]:
        return {one.name: one.name == SERVER.name for one in wanted if one.elsewhere}

    monkeypatch.setattr(controls, "tried_here", here)
    monkeypatch.setattr(controls, "LOOK", 0.001)


def of(node: Node, namespace: str | None = "probes", clock: Any = lambda: 0.0) -> Controls:
    api: Any = node
    return Controls(api, IMAGE, namespace, clock)


async def test_what_does_not_answer_the_operator_is_asked_on_the_node() -> None:
    node = Node()
    found = await of(node).answers("node-7", ALL, 1.0)
    assert found == {"the kubelet": True, "metadata": False, "the API server": True, "another sandbox": False}
    # Neither what answers the operator, nor what a tenant has chosen.
    assert node.asked == [[KUBELET.host, METADATA.host]]
    assert node.pods == {}


async def test_without_a_namespace_only_the_operator_is_the_control() -> None:
    node = Node()
    assert (await of(node, None).answers("node-7", ALL, 1.0))["the kubelet"] is False
    assert node.asked == []


async def test_sandboxes_of_a_node_share_a_pod_and_for_a_while_only() -> None:
    node, now = Node(), [0.0]
    one = of(node, clock=lambda: now[0])
    found = await asyncio.gather(*(one.answers("node-7", ALL, 1.0) for _ in range(8)))
    assert all(each["the kubelet"] for each in found)
    assert len(node.asked) == 1
    await one.answers("node-8", ALL, 1.0)
    assert len(node.asked) == 2
    now[0] = FRESH + 1
    node.there.clear()
    assert (await one.answers("node-7", ALL, 1.0))["the kubelet"] is False


async def test_of_a_node_that_is_gone_nothing_is_kept() -> None:
    node, now = Node(), [0.0]
    one = of(node, clock=lambda: now[0])
    for number in range(20):
        await one.answers(f"node-{number}", ALL, 1.0)
        now[0] += FRESH
    assert set(one._nodes) == {"node-19"}


async def test_a_node_is_not_forgotten_while_somebody_waits_for_its_turn() -> None:
    node = Node(refused=ApiError(403, "Forbidden", "no"))
    one = of(node)
    held = one._nodes["node-7"] = controls._Node(asking=1)
    await held.turn.acquire()
    waiting = asyncio.create_task(one.answers("node-7", ALL, 1.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert held.asking == 2
    held.turn.release()
    held.asking -= 1
    # It is nobody's at this moment, and nothing is known of it.
    other = asyncio.create_task(one.answers("node-8", ALL, 1.0))
    await asyncio.sleep(0)
    assert one._nodes["node-7"] is held
    await asyncio.gather(waiting, other)


async def test_a_pod_that_can_not_be_made_or_does_not_end_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Node(refused=ApiError(403, "Forbidden", "no"))
    assert (await of(refused).answers("node-7", ALL, 1.0))["the kubelet"] is False
    monkeypatch.setattr(controls, "ENOUGH", 0.05)
    stuck = Node(forever=True)
    assert (await of(stuck).answers("node-7", ALL, 1.0))["the kubelet"] is False
    assert stuck.pods == {}


async def test_of_a_pod_that_its_node_refused_nothing_is_held() -> None:
    node = Node(evicts=True)
    one = of(node)
    assert (await one.answers("node-7", ALL, 1.0))["the kubelet"] is False
    node.evicts = False
    assert (await one.answers("node-7", ALL, 1.0))["the kubelet"] is True
    assert len(node.asked) == 2
    # What it has said is held, be it that nobody answers.
    assert (await one.answers("node-7", ALL, 1.0))["metadata"] is False
    assert len(node.asked) == 2


async def test_what_an_operator_left_is_removed() -> None:
    node = Node()
    label = controls._label("node-7")
    left = controls.document("probes", "node-7", label, IMAGE, "{}")
    left["metadata"]["uid"] = "left"
    node.pods[left["metadata"]["name"]] = left
    await of(node).answers("node-7", ALL, 1.0)
    assert node.pods == {}


def test_the_page_of_its_gateway_answers_where_the_gateway_is_ready() -> None:
    sandbox = running()
    place = place_of(sandbox, ())
    assert place is not None

    def page(ready: str) -> Wanted:
        status = {"phase": "Running", "podIP": "10.244.0.8", "conditions": [{"type": "Ready", "status": ready}]}
        gateway = {"metadata": {"name": "gateway"}, "status": status}
        found = targets(blueprint(), sandbox, place, ClusterAddresses(), gateways=[gateway])
        return next(one for one in found if one.name.startswith("the page of its gateway"))

    assert (page("True").answers, page("False").answers) == (True, None)


def test_a_gateway_beside_it_is_tried_by_its_link_local_address_too() -> None:
    sandbox = running()
    place = place_of(sandbox, ())
    assert place is not None

    def tried(node: str, address: str) -> list[Wanted]:
        status = {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
        gateway = {"metadata": {"name": "gateway"}, "spec": {"nodeName": node}, "status": status}
        found = targets(blueprint(), sandbox, place, ClusterAddresses(), gateways=[gateway])
        return [one for one in found if one.protocol == "link-local"]

    assert [one.answers for one in tried(place.node, "10.244.0.8")] == [True]
    assert tried("another", "10.244.0.8") == tried(place.node, "fd00::8") == []


def test_a_metadata_service_is_tried_by_its_name_too_where_names_can_be_asked_for() -> None:
    sandbox = running()
    place = place_of(sandbox, ())
    assert place is not None
    cluster = ClusterAddresses(resolver="10.96.0.10")

    def tried(**network: Any) -> list[tuple[str, str]]:
        found = targets(blueprint(network=network), sandbox, place, cluster)
        return [(one.host, one.query) for one in found if one.protocol == "named"]

    assert tried(egress={"dns": True}) == [("10.96.0.10", name) for name in METADATA_NAMES]
    assert tried(egress={"dns": False}) == []


def test_nothing_that_a_tenant_chooses_is_tried_from_where_nothing_is_denied() -> None:
    sandbox = running()
    place = place_of(sandbox, ())
    assert place is not None
    other = running(network={"ports": [{"name": "web", "containerPort": 8000}]})
    wanted = targets(blueprint(), sandbox, place, ClusterAddresses((("10.0.0.1", 6443),)), others=[other])
    assert {one.name for one in wanted if not one.by_node} == {"its gateway", "another sandbox"}
