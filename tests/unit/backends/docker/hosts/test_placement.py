"""Where sandboxes are placed: only where they may be, once, and spread."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.api.docker_hosts.spec import Capacity
from claude_sandbox.api.docker_hosts.status import StayReason
from claude_sandbox.api.spec import Backend, ClaudeSandboxSpec
from claude_sandbox.api.status import Placement
from claude_sandbox.api.validate import parse_host_spec, parse_spec
from claude_sandbox.backends.docker.hosts.capacity import (
    Allocatable,
    Allocated,
    Requests,
    capacity_of,
    cores_of,
    requests_of,
)
from claude_sandbox.backends.docker.hosts.placement import (
    Candidate,
    Placed,
    PlacementRequest,
    Refusal,
    Refused,
    Stay,
    drain,
    elsewhere,
    keep,
    place,
    stay_of,
)
from claude_sandbox.backends.docker.relay import relays
from claude_sandbox.controller.docker_hosts.demand import HostAllocations, placed_on
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes, host_of

GI = 2**30
SMALL = Requests(cpu=1000, memory=GI)


def host(
    name: str,
    *,
    labels: dict[str, str] | None = None,
    answers: bool = True,
    engine: str | None = "",
    sandboxes: int | None = 10,
    memory: int | None = 16 * GI,
    cpu: int | None = None,
    taken: tuple[Requests, ...] = (),
    namespaces: dict[str, Any] | None = None,
    **spec: Any,
) -> Candidate:
    raw = {"endpoint": "unix:///var/run/docker.sock", "allowedNamespaces": namespaces or {"names": ["agents"]}, **spec}
    capacity = Allocatable(sandboxes, cpu, memory)
    return Candidate(
        name=name,
        labels=labels or {},
        spec=parse_host_spec({"spec": raw}),
        engine_id=f"engine-of-{name}" if engine == "" else engine,
        answers=answers,
        cores=8000,
        capacity=capacity,
        free=capacity.less(taken),
    )


def wish(
    requests: Requests = SMALL, namespace: str = "agents", labels: dict[str, str] | None = None, **backend: Any
) -> PlacementRequest:
    return PlacementRequest(namespace, labels, Backend.model_validate({"type": "Docker", **backend}), requests)


def chosen(found: Placement | Refused) -> str | Refusal:
    return found.refusal if isinstance(found, Refused) else found.host


def test_a_host_that_names_no_namespace_is_nobodys() -> None:
    assert chosen(place(wish(), [host("a", namespaces={"names": []})])) is Refusal.NO_HOST


@pytest.mark.parametrize(
    ("labels", "expected"), [({"team": "a"}, "a"), ({"team": "b"}, Refusal.NO_HOST), (None, Refusal.NO_HOST)]
)
def test_a_host_may_choose_namespaces_by_label(labels: dict[str, str] | None, expected: str | Refusal) -> None:
    selecting = host("a", namespaces={"selector": {"matchLabels": {"team": "a"}}})
    assert chosen(place(wish(labels=labels), [selecting])) == expected


def test_a_refusal_tells_nothing_of_hosts_that_are_not_for_the_namespace() -> None:
    hidden = [host("secret-machine", namespaces={"names": ["others"]}, unschedulable=True)]
    by_name = wish(hostRef={"name": "secret-machine"})
    absent = wish(hostRef={"name": "no-such-machine"})
    assert isinstance(found := place(wish(), hidden), Refused)
    assert "secret" not in found.message
    # Whether there is such a host must not be told either.
    assert isinstance(one := place(by_name, hidden), Refused)
    assert isinstance(other := place(absent, hidden), Refused)
    assert one.message.replace("secret-machine", "no-such-machine") == other.message


def test_a_name_and_a_selector_choose() -> None:
    hosts = [host("a", labels={"zone": "1"}), host("b", labels={"zone": "2"}), host("c")]
    assert chosen(place(wish(hostRef={"name": "c"}), hosts)) == "c"
    assert chosen(place(wish(hostSelector={"matchLabels": {"zone": "2"}}), hosts)) == "b"
    assert chosen(place(wish(hostSelector={"matchLabels": {"zone": "3"}}), hosts)) is Refusal.NO_HOST


@pytest.mark.parametrize(
    ("changes", "refusal", "says"),
    [
        ({"unschedulable": True}, Refusal.NO_ROOM, "spec.unschedulable"),
        ({"drain": True}, Refusal.NO_ROOM, "drained"),
        ({"answers": False}, Refusal.NO_ANSWER, "does not answer"),
        ({"engine": None}, Refusal.NO_ANSWER, "does not answer"),
        ({"sandboxes": 1, "taken": (SMALL,)}, Refusal.NO_ROOM, "as many sandboxes"),
        ({"memory": GI - 1}, Refusal.NO_ROOM, "1023Mi of memory left and 1024Mi"),
        ({"cpu": 500}, Refusal.NO_ROOM, "0.5 cores left and 1"),
    ],
)
def test_a_host_that_can_not_take_it_is_passed_over_and_said_why(
    changes: dict[str, Any], refusal: Refusal, says: str
) -> None:
    found = place(wish(), [host("a", **changes)])
    assert isinstance(found, Refused)
    assert (found.refusal, found.passes) == (refusal, True)
    assert says in found.message
    assert chosen(place(wish(), [host("a", **changes), host("b", taken=(SMALL,) * 9)])) == "b"


def test_app_armor_is_had_on_hosts_that_are_not_known_to_lack_it() -> None:
    asks = replace(wish(), app_armor=True)
    without, unknown, confines = (
        replace(host(name), app_armor=told) for name, told in (("a", False), ("b", None), ("c", True))
    )
    assert chosen(place(asks, [without, confines])) == "c"
    assert chosen(place(wish(), [without])) == "a"
    # One that was not asked yet is not refused for it: its engine's answer decides.
    assert chosen(place(asks, [unknown])) == "b"
    refused = place(asks, [without])
    assert isinstance(refused, Refused)
    assert (refused.refusal, refused.passes) == (Refusal.NO_APP_ARMOR, False)
    assert "a has no AppArmor" in refused.message
    assert "leave out spec.security.appArmorProfile" in refused.message
    placed = place(asks, [confines])
    assert isinstance(placed, Placement)
    assert keep(asks, confines, placed) == placed
    lost = keep(asks, replace(confines, app_armor=False), placed)
    assert isinstance(lost, Refused)
    assert lost.refusal is Refusal.NO_APP_ARMOR
    found = elsewhere(asks, "c", [without, confines])
    assert isinstance(found, Stay)
    assert found.reason is StayReason.NO_OTHER_HOST


def test_a_runtime_is_had_on_hosts_that_allow_it_and_for_as_long_as_they_do() -> None:
    asks = replace(wish(), runtime="runsc")
    plain, other, allows = host("a"), host("b", allowedRuntimes=["runc2"]), host("c", allowedRuntimes=["runsc"])
    assert chosen(place(asks, [plain, other, allows])) == "c"
    assert chosen(place(wish(), [allows])) == "c"
    refused = place(asks, [plain, other])
    assert isinstance(refused, Refused)
    assert (refused.refusal, refused.passes) == (Refusal.NO_RUNTIME, False)
    assert "a does not allow the runtime runsc (spec.allowedRuntimes)" in refused.message
    # A host that may yet take it is waited for.
    assert chosen(place(asks, [plain, host("d", allowedRuntimes=["runsc"], answers=False)])) is Refusal.NO_ANSWER
    placed = place(asks, [allows])
    assert isinstance(placed, Placement)
    assert keep(asks, allows, placed) == placed
    withdrawn = keep(asks, host("c"), placed)
    assert isinstance(withdrawn, Refused)
    assert withdrawn.refusal is Refusal.NO_RUNTIME
    assert "leave out spec.security.runtimeClassName" in withdrawn.message
    found = elsewhere(asks, "c", [plain, allows])
    assert isinstance(found, Stay)
    assert found.reason is StayReason.NO_OTHER_HOST


def stay(wish: PlacementRequest, hosts: list[Candidate], current: Placement) -> Placement | Refused:
    """What becomes of a sandbox that is placed already, beside all these hosts."""
    return keep(wish, next((one for one in hosts if one.name == current.host), None), current)


def test_more_cores_than_the_machine_has_are_never_placed() -> None:
    assert chosen(place(wish(Requests(8001, GI)), [host("a")])) is Refusal.NO_ROOM


def test_a_sandbox_stays_where_it_is() -> None:
    there = Placement(host="a", engine_id="engine-of-a")
    for changes in ({"unschedulable": True}, {"drain": True}, {"answers": False}, {"engine": None}, {"memory": 0}):
        assert stay(wish(), [host("a", **changes), host("b")], there) == there
    assert stay(wish(hostSelector={"matchLabels": {"zone": "1"}}), [host("a"), host("b")], there) == there


def test_a_host_that_is_gone_or_another_machine_is_not_replaced() -> None:
    there = Placement(host="a", engine_id="engine-of-a")
    for hosts in ([], [host("b")], [host("a", engine="another"), host("b")]):
        found = stay(wish(), hosts, there)
        assert isinstance(found, Refused)
        assert (found.refusal, found.passes) == (Refusal.HOST_GONE, False)


def test_who_is_not_allowed_any_more_is_refused() -> None:
    there = Placement(host="a", engine_id="engine-of-a")
    assert chosen(stay(wish(), [host("a", namespaces={"names": ["others"]})], there)) is Refusal.NOT_ALLOWED


def sandbox(workspace: str = "EmptyDir", update: str = "Recreate", **backend: Any) -> ClaudeSandboxSpec:
    raw = {
        "backend": {"type": "Docker", **backend},
        "credentials": {"apiKeySecretRef": {"name": "key"}},
        "workspace": {"type": workspace},
        "updateStrategy": {"type": update},
    }
    return parse_spec({"spec": raw})


@pytest.mark.parametrize(
    ("spec", "runs", "reason"),
    [
        (sandbox(), True, None),
        (sandbox(hostSelector={"matchLabels": {"zone": "1"}}), True, None),
        # What its user has not allowed to be replaced is moved only when nobody works in it.
        (sandbox(update="OnDelete"), True, StayReason.IN_USE),
        (sandbox(update="OnDelete"), False, None),
        (sandbox(workspace="PersistentVolumeClaim"), True, StayReason.WORKSPACE_ON_HOST),
        (sandbox(workspace="PersistentVolumeClaim"), False, StayReason.WORKSPACE_ON_HOST),
        (sandbox(hostRef={"name": "old"}), False, StayReason.HOST_NAMED),
    ],
)
def test_only_what_loses_nothing_may_move(spec: ClaudeSandboxSpec, runs: bool, reason: StayReason | None) -> None:
    found = stay_of(spec, runs=runs)
    assert (found.reason if found else None) == reason


def test_draining_moves_as_many_as_there_is_room_for() -> None:
    there = Placement(host="old", engine_id="engine-of-old")
    tied = Stay(StayReason.WORKSPACE_ON_HOST, "its workspace is a volume of the host")
    elsewhere = Placed("elsewhere", wish(), Placement(host="new", engine_id="engine-of-new"), None)
    hosts = [host("old", drain=True), host("new", sandboxes=1)]
    placed = [Placed("tied", wish(), there, tied), Placed("a", wish(), there, None), Placed("b", wish(), there, None)]
    result = drain([*placed, elsewhere], hosts)
    assert {key: placement.host for key, placement in result.moves.items()} == {"a": "new"}
    assert result.stays["tied"] == tied
    assert result.stays["b"].reason is StayReason.NO_ROOM
    assert "new has as many sandboxes" in result.stays["b"].message


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"unschedulable": True}, StayReason.NO_ROOM),
        ({"drain": True}, StayReason.NO_ROOM),
        ({"answers": False}, StayReason.NO_ANSWER),
        ({"namespaces": {"names": ["others"]}}, StayReason.NO_OTHER_HOST),
        ({"labels": {"zone": "2"}}, StayReason.NO_OTHER_HOST),
    ],
)
def test_a_sandbox_moves_only_where_it_could_be_placed(other: dict[str, Any], reason: StayReason) -> None:
    wished = wish(hostSelector={"matchLabels": {"zone": "1"}})
    hosts = [host("old", labels={"zone": "1"}, drain=True), host("new", **{"labels": {"zone": "1"}, **other})]
    found = elsewhere(wished, "old", hosts)
    assert isinstance(found, Stay)
    assert found.reason is reason
    # What its namespace may not use it is not told of.
    assert ("new" in found.message) is (reason is not StayReason.NO_OTHER_HOST)


def test_nothing_moves_while_nothing_is_drained() -> None:
    there = Placed("a", wish(), Placement(host="a", engine_id="engine-of-a"), None)
    assert drain([there], [host("a", unschedulable=True), host("b")]).moves == {}


names = st.sampled_from("abcdef")
amounts = st.builds(Requests, st.integers(1, 4000), st.integers(1, 4 * GI))
rooms = st.fixed_dictionaries(
    {
        "sandboxes": st.none() | st.integers(0, 20),
        "cpu": st.none() | st.integers(0, 16000),
        "memory": st.none() | st.integers(0, 32 * GI),
        "answers": st.booleans(),
        "unschedulable": st.booleans(),
        "drain": st.booleans(),
        "labels": st.sampled_from([{}, {"zone": "1"}, {"zone": "2"}]),
        "namespaces": st.sampled_from([{"names": []}, {"names": ["agents"]}, {"names": ["others"]}]),
    }
)
fleets = st.dictionaries(names, rooms, max_size=6).map(lambda found: [host(name, **how) for name, how in found.items()])
wishes = st.builds(
    lambda demand, how: wish(demand, **how),
    amounts,
    st.sampled_from([{}, {"hostRef": {"name": "a"}}, {"hostSelector": {"matchLabels": {"zone": "1"}}}]),
)


@given(fleets, wishes)
def test_a_host_is_chosen_only_where_the_sandbox_may_be_and_fits(
    fleet: list[Candidate], wished: PlacementRequest
) -> None:
    found = place(wished, fleet)
    if isinstance(found, Refused):
        assert found.message
        return
    (one,) = (candidate for candidate in fleet if candidate.name == found.host)
    assert one.answers
    assert not one.spec.unschedulable
    assert not one.spec.drain
    assert "agents" in one.spec.allowed_namespaces.names
    left = one.free.less([wished.requests])
    assert all(amount is None or amount >= 0 for amount in (left.sandboxes, left.cpu, left.memory))


@given(fleets, wishes, st.randoms())
def test_the_order_of_the_hosts_does_not_matter(fleet: list[Candidate], wished: PlacementRequest, random: Any) -> None:
    shuffled = list(fleet)
    random.shuffle(shuffled)
    assert place(wished, fleet) == place(wished, shuffled)


@given(fleets, wishes)
def test_more_room_elsewhere_never_costs_a_sandbox_its_host(fleet: list[Candidate], wished: PlacementRequest) -> None:
    first = place(wished, fleet)
    if isinstance(first, Placement):
        assert stay(wished, [*fleet, host("z", sandboxes=10_000)], first) == first


@given(fleets, st.lists(amounts, max_size=30))
def test_no_host_is_ever_given_more_than_it_has(fleet: list[Candidate], demands: list[Requests]) -> None:
    given_to: dict[str, list[Requests]] = {}
    for demand in demands:
        now = [Candidate(**{**vars(one), "free": one.free.less(given_to.get(one.name, []))}) for one in fleet]
        found = place(wish(demand), now)
        if isinstance(found, Placement):
            given_to.setdefault(found.host, []).append(demand)
    for one in fleet:
        left = one.capacity.less(given_to.get(one.name, []))
        if one.name in given_to:
            assert all(amount is None or amount >= 0 for amount in (left.sandboxes, left.cpu, left.memory))


@given(st.integers(2, 6), st.integers(1, 40))
@settings(deadline=None)
def test_equal_sandboxes_are_spread_evenly_over_equal_hosts(count: int, sandboxes: int) -> None:
    given_to = {f"host-{number}": 0 for number in range(count)}
    for _ in range(sandboxes):
        fleet = [host(name, sandboxes=50, memory=64 * GI, taken=(SMALL,) * taken) for name, taken in given_to.items()]
        found = place(wish(), fleet)
        assert isinstance(found, Placement)
        given_to[found.host] += 1
    assert max(given_to.values()) - min(given_to.values()) <= 1


def test_room_follows_from_the_engine_unless_the_administrator_says_otherwise() -> None:
    info = {"NCPU": 4, "MemTotal": 10 * GI}
    assert capacity_of(Capacity(), info) == Allocatable(None, None, 9 * GI)
    assert cores_of(info) == 4000
    said = Capacity(sandboxes=3, cpu="16", memory="64Gi")
    assert capacity_of(said, info) == Allocatable(3, 16000, 64 * GI)


def test_a_sandbox_takes_its_limits_and_what_publishes_its_ports_some_memory_more() -> None:
    fields: dict[str, Any] = {
        "backend": {"type": "Docker"},
        "credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Mounted"},
        "resources": {"cpu": "1.5", "memory": "2Gi"},
    }
    assert requests_of(parse_spec({"spec": fields})) == Requests(1500, 2 * GI)
    ports = {"network": {"ports": [{"name": "http", "containerPort": 8080}, {"name": "api", "containerPort": 8081}]}}
    assert requests_of(parse_spec({"spec": fields | ports})) == Requests(1500, 2 * GI + relays.MEMORY)


# The sums by which hosts are chosen


def _placed(name: str, host: str | None = "one", version: int = 1, **fields: Any) -> dict[str, Any]:
    metadata = {"namespace": "agents", "name": name, "uid": f"u-{name}", "generation": 1, "creationTimestamp": name}
    metadata |= {"resourceVersion": str(version)} | fields.pop("metadata", {})
    spec = {
        "credentials": {"apiKeySecretRef": {"name": "key"}},
        "backend": {"type": "Docker"},
        "resources": {"cpu": "1", "memory": "1Gi"},
    }
    status = {"placement": {"host": host, "engineID": "e"}} if host else {}
    return {"metadata": metadata, "spec": spec | fields, "status": status}


changes = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([None, "one", "two"]),
        st.integers(1, 3),
        st.sampled_from(["1", "2", "nonsense"]),
        st.sampled_from(["put", "put", "put", "let go", "remove"]),
    ),
    max_size=12,
)


@given(changes)
@settings(deadline=None)
def test_the_sums_are_those_of_all_sandboxes_counted_anew(some: list[tuple[str, str | None, int, str, str]]) -> None:
    sandboxes = Sandboxes()
    demands = HostAllocations(sandboxes)
    specs: dict[tuple[str, int], str] = {}
    for version, (name, place_, generation, cpu, what) in enumerate(some, start=1):
        if what == "remove":
            sandboxes.remove(Key("agents", name))
            continue
        # A generation has one spec.
        asked = specs.setdefault((name, generation), cpu)
        metadata: dict[str, Any] = {"generation": generation}
        if what == "let go":
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        sandboxes.put(_placed(name, place_, version, resources={"cpu": asked, "memory": "1Gi"}, metadata=metadata))
        for each in ("one", "two"):
            assert demands.taken(each) == HostAllocations(sandboxes).taken(each)
            assert {one["metadata"]["name"] for one in placed_on(sandboxes, each)} == {
                key.name
                for key in sandboxes
                if (raw := sandboxes.get(key)) is not None
                and host_of(raw) == each
                and "deletionTimestamp" not in raw["metadata"]
            }
        assert {key.name for key in sandboxes.unplaced()} == {
            key.name for key in sandboxes if (raw := sandboxes.get(key)) is not None and host_of(raw) is None
        }


def test_what_is_tried_beside_a_sandbox_takes_as_much_room_again_and_is_no_sandbox() -> None:
    sandboxes = Sandboxes()
    demands = HostAllocations(sandboxes)
    sandboxes.put(_placed("a"))
    alone = demands.taken("one")

    def tells(version: int, **canary: str) -> Allocated:
        raw = _placed("a", version=version)
        raw["status"]["image"] = {"named": "a", "digest": "d", "canary": canary} if canary else {}
        sandboxes.put(raw)
        return demands.taken("one")

    beside = tells(2, to="e", startedAt="2026-01-01T00:00:00Z")
    assert (beside.sandboxes, beside.cpu - alone.cpu, beside.memory - alone.memory) == (1, 1000, GI)
    assert tells(3, to="e", startedAt="2026-01-01T00:00:00Z", endedAt="2026-01-01T00:01:00Z") == alone
    assert tells(4, to="f", startedAt="2026-01-01T00:02:00Z") == beside
    assert tells(5) == alone
