"""The relay that publishes a sandbox's ports: what it is, when it is made, and that nothing waits for it."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from docker_world import CLUSTER, IDENTITY, NEW, OLD, blueprint_of, desired_of, live_of

from claude_sandbox.api.spec import UpdateStrategyType
from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.documents import hardening
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.model import Desired, Observed, Plan, Verb
from claude_sandbox.backends.docker.objects import documents
from claude_sandbox.backends.docker.plan import plan
from claude_sandbox.backends.docker.relay import evidence, relays
from claude_sandbox.backends.docker.relay.relays import Publishing
from claude_sandbox.blueprint.model import Image, Port

IMAGE = Image("example.org/operator@sha256:" + "c" * 64, "sha256:" + "c" * 64, "IfNotPresent")
GIVEN = Publishing(IMAGE)
HTTP = {"name": "http", "containerPort": 8080}
FIRST = Past(provisioned=False, ran=False, settled=False)
PUBLISHED = {"http": "127.0.0.1:49153"}
LATER = Past(provisioned=True, ran=True, settled=True, endpoints=PUBLISHED)
WISH = Past(provisioned=True, ran=True, settled=False)


def wanting(
    *ports: dict[str, Any], given: Publishing = GIVEN, capabilities: EngineCapabilities = NEW, **spec: Any
) -> Desired:
    """A sandbox that declares these ports."""
    fields = {"network": {"ports": list(ports)}, **spec}
    desired = desired_of(capabilities, **fields)
    return replace(desired, documents=documents(blueprint_of(**fields), CLUSTER, capabilities, given))


def living(desired: Desired) -> Observed:
    """All as desired, the relay as well; what engines add is left out."""
    observed, relay = live_of(desired), desired.documents.relay
    assert relay is not None
    called = desired.documents.names
    config = {key: value for key, value in relay.container.items() if key not in ("HostConfig", "NetworkingConfig")}
    host = copy.deepcopy(relay.container["HostConfig"])
    for field in ("MaskedPaths", "ReadonlyPaths"):
        host[field] = (observed.container or {})["HostConfig"][field]
    container = {
        "Id": "3" * 64,
        "Name": f"/{called.relay}",
        "Image": "sha256:" + "d" * 64,
        "State": {"Status": "running", "Running": True, "Paused": False},
        "Config": copy.deepcopy(config),
        "HostConfig": host,
        "Mounts": [],
        "NetworkSettings": {
            "Networks": {called.network: {"NetworkID": "2" * 64}, called.relay: {"NetworkID": "4" * 64}},
            "Ports": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}]},
        },
    }
    outer = copy.deepcopy(relay.network) | {"Id": "4" * 64, "Scope": "local", "Containers": {"3" * 64: {"Name": "x"}}}
    own = {**(observed.network or {}), "Containers": {"1" * 64: {"Name": "a"}, "3" * 64: {"Name": called.relay}}}
    image = {"Id": container["Image"], "Config": {}}
    return replace(observed, network=own, relay=container, outer=outer, relay_image=image)


def bare(desired: Desired) -> Observed:
    """The same without the relay."""
    own = {**(living(desired).network or {}), "Containers": {"1" * 64: {"Name": "a"}}}
    return replace(living(desired), network=own, relay=None, outer=None)


def verbs(found: Plan) -> list[list[str]]:
    return [[f"{step.verb.name} {step.kind}" for step in stage] for stage in found.stages]


def with_relay(observed: Observed, change: Any) -> Observed:
    """The relay after a change of its document."""
    relay = copy.deepcopy(dict(observed.relay or {}))
    change(relay)
    return replace(observed, relay=relay)


# What it is


@pytest.mark.parametrize("capabilities", [NEW, OLD])
def test_a_relay_is_hardened_and_holds_nothing_of_the_sandboxs(capabilities: EngineCapabilities) -> None:
    desired = wanting(HTTP, capabilities=capabilities, env=[{"name": "COLOUR", "value": "red"}])
    relay = desired.documents.relay
    assert relay is not None
    host, called = relay.container["HostConfig"], desired.documents.names
    assert host["CapDrop"] == ["ALL"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["ReadonlyRootfs"]
    assert host["Mounts"] == []
    assert "Tmpfs" not in host
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["Sysctls"] == {"net.ipv4.ip_forward": "0"}
    assert 0 < host["Memory"] <= 128 << 20
    assert 0 < host["PidsLimit"] <= 64
    assert relay.container["User"] == "65532:65532"
    assert relay.container["Env"] == []
    assert relay.container["Image"] == IMAGE.reference
    assert host["NetworkMode"] == called.relay
    assert relay.container["Cmd"] == [f"8080={called.container}:8080"]
    assert not relay.network["Internal"]
    assert relay.network["Options"] == {hardening.ICC: "false", relays._MASQUERADE: "false"}


def test_the_sandboxs_own_network_stays_closed_and_lets_members_speak_only_where_there_is_a_relay() -> None:
    icc = "com.docker.network.bridge.enable_icc"
    for desired, speak in (
        (desired_of(), "false"),
        (wanting(HTTP), "true"),
        (wanting(HTTP, given=Publishing()), "false"),
    ):
        assert desired.documents.network["Internal"]
        assert desired.documents.network["Options"][icc] == speak


def test_ports_are_published_on_loopback_unless_an_administrator_allows_more() -> None:
    def bound(given: Publishing, **port: Any) -> Any:
        relay = wanting(HTTP | port, given=given).documents.relay
        return relay and relay.container["HostConfig"]["PortBindings"]

    assert bound(GIVEN) == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert bound(GIVEN, hostPort=30090) == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "30090"}]}
    assert bound(GIVEN, hostIP="::1") == {"8080/tcp": [{"HostIp": "::1", "HostPort": ""}]}
    for address in ("192.0.2.7", "0.0.0.0", "127.0.0.2"):  # noqa: S104
        assert bound(GIVEN, hostIP=address) is None
        assert bound(Publishing(IMAGE, (address,)), hostIP=address)
    assert bound(Publishing()) is None


def test_a_port_that_can_not_be_published_is_told_with_the_remedy_and_the_others_are() -> None:
    ports = (Port("http", 8080), Port("web", 9090, "192.0.2.7"))
    assert relays.refusals((), Publishing()) == ""
    assert relays.refusals(ports[:1], GIVEN) == ""
    assert "--relay-image" in relays.refusals(ports, Publishing())
    told = relays.refusals(ports, GIVEN)
    assert "web (192.0.2.7)" in told
    assert "publishAddresses" in told
    assert "http" not in told.replace("hostIP", "")


def test_where_it_is_published_is_told_in_the_order_of_the_spec() -> None:
    ports = (Port("b", 8081), Port("a", 8080), Port("none", 8082))
    bound = {
        "8080/tcp": [{"HostIp": "::1", "HostPort": "30090"}],
        "8081/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}],
        "8082/tcp": None,
    }
    live = {"State": {"Running": True}, "NetworkSettings": {"Ports": bound}}
    assert relays.endpoints(ports, live) == (("b", "127.0.0.1:49153"), ("a", "[::1]:30090"))
    assert relays.endpoints(ports, {**live, "State": {"Running": False}}) == ()
    assert relays.endpoints(ports, None) == ()
    assert [relays.host_port(one) for one in ("127.0.0.1:49153", "[::1]:30090", "")] == [49153, 30090, 0]


def test_made_again_it_asks_for_the_ports_that_it_had() -> None:
    relay = wanting(HTTP, {"name": "b", "containerPort": 8081, "hostPort": 30090}).documents.relay
    assert relay is not None
    made = relays.with_ports(relay.container, {"http": 49153, "b": 1}, relay.ports)
    asked = {port: places[0]["HostPort"] for port, places in made["HostConfig"]["PortBindings"].items()}
    assert asked == {"8080/tcp": "49153", "8081/tcp": "30090"}
    assert relay.container["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"] == ""


# When it is made


def test_it_is_made_after_everything_else() -> None:
    found = plan(wanting(HTTP), Observed(), FIRST)
    assert verbs(found)[-2:] == [["START Container"], ["CREATE Relay"]]
    assert found.steps[-1].cause is not Cause.HEAL


def test_at_rest_there_is_nothing_to_do_whichever_port_the_engine_chose() -> None:
    desired = wanting(HTTP)
    observed = living(desired)
    assert plan(desired, observed, LATER).steps == ()

    def choose(relay: Any) -> None:
        relay["HostConfig"]["PortBindings"] = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}]}

    assert plan(desired, with_relay(observed, choose), LATER).steps == ()


def test_without_a_key_or_suspended_or_with_something_in_the_way_none_is_made() -> None:
    for desired, observed in (
        (replace(wanting(HTTP), may_start=False), Observed()),
        (wanting(HTTP, operatingMode="Suspended"), Observed()),
        (wanting(HTTP), Observed(strays=("somebody",))),
    ):
        assert not any(step.kind == "Relay" for step in plan(desired, observed, FIRST).steps)


def test_a_running_sandbox_gets_one_without_being_touched() -> None:
    desired = wanting(HTTP)
    found = plan(desired, bare(desired), WISH)
    assert verbs(found) == [["CREATE Relay"]]
    assert found.steps[0].cause is Cause.UPDATE
    # One that could not be made until now was not lost; one that was published was.
    never = replace(LATER, endpoints={})
    assert plan(desired, bare(desired), never).steps[0].cause is Cause.PROVISION
    assert plan(desired, bare(desired), LATER).steps[0].cause is Cause.HEAL


def test_one_that_ran_was_lost_whatever_is_known_of_its_ports_and_one_that_never_did_is_still_being_made() -> None:
    desired, unknown = wanting(HTTP), replace(LATER, endpoints={})
    for status, cause in (("running", Cause.HEAL), ("exited", Cause.HEAL), ("created", Cause.PROVISION)):

        def change(relay: Any, status: str = status) -> None:
            relay["State"].update(Running=status == "running", Status=status)
            relay["NetworkSettings"]["Networks"]["bridge"] = {"NetworkID": "9"}

        (step,) = plan(desired, with_relay(living(desired), change), unknown).steps
        assert (step.verb, step.kind, step.cause) == (Verb.REPLACE, "Relay", cause), status


def test_with_the_last_port_it_goes_and_the_network_closes_without_the_container_being_restarted() -> None:
    before = living(wanting(HTTP))
    found = plan(wanting(), before, WISH)
    touched = [step for step in found.steps if step.kind == "Container"]
    assert {step.verb for step in touched} <= {Verb.DISCONNECT, Verb.CONNECT}
    assert verbs(found)[-1] == ["REMOVE Relay"]
    assert not any(step.cause is Cause.HEAL and step.kind != "Network" for step in found.steps)


def test_suspended_it_goes_with_the_container() -> None:
    desired = wanting(HTTP, operatingMode="Suspended")
    found = [f"{step.verb.name} {step.kind}" for step in plan(desired, living(wanting(HTTP)), WISH).steps]
    assert "REMOVE Relay" in found
    assert "REMOVE Container" in found


def test_it_is_replaced_and_never_the_sandbox_for_it() -> None:
    changes: dict[str, Any] = {
        "State.Status": lambda relay: relay["State"].update(Running=False, Status="exited"),
        "HostConfig.CapAdd": lambda relay: relay["HostConfig"].update(CapAdd=["NET_ADMIN"]),
        "HostConfig.Privileged": lambda relay: relay["HostConfig"].update(Privileged=True),
        "HostConfig.Memory": lambda relay: relay["HostConfig"].update(Memory=1 << 30),
        "HostConfig.Sysctls": lambda relay: relay["HostConfig"].update(Sysctls={"net.ipv4.ip_forward": "1"}),
        "HostConfig.PortBindings": lambda relay: relay["HostConfig"]["PortBindings"].update({"22/tcp": [{}]}),
        "Config.Cmd": lambda relay: relay["Config"].update(Cmd=["8080=192.0.2.1:8080"]),
        "Config.User": lambda relay: relay["Config"].update(User="0"),
        "Networks.bridge": lambda relay: relay["NetworkSettings"]["Networks"].update(bridge={"NetworkID": "9"}),
    }
    desired = wanting(HTTP)
    for path, change in changes.items():
        found = plan(desired, with_relay(living(desired), change), LATER)
        assert verbs(found) == [["REPLACE Relay"]], path
        assert path in found.steps[0].paths
        assert found.steps[0].cause is Cause.HEAL
        assert found.steps[0].paced


def test_what_an_administrator_changes_is_carried_out_and_no_repair() -> None:
    observed = living(wanting(HTTP))
    other = Publishing(Image("example.org/operator:2", None, "IfNotPresent"))
    found = plan(wanting(HTTP, given=other), observed, LATER)
    assert [(step.verb, step.kind, step.cause) for step in found.steps] == [(Verb.REPLACE, "Relay", Cause.UPDATE)]


def test_a_relay_that_is_there_is_mended_whatever_else_is_in_the_way() -> None:
    desired = wanting(HTTP)

    def third(relay: Any) -> None:
        relay["NetworkSettings"]["Networks"]["bridge"] = {"NetworkID": "9"}

    observed = replace(with_relay(living(desired), third), strays=("somebody",))
    assert verbs(plan(desired, observed, LATER)) == [["REPLACE Relay"]]
    keyless = replace(desired, may_start=False)
    assert verbs(plan(keyless, with_relay(living(desired), third), LATER)) == [["REPLACE Relay"]]


def test_on_another_address_or_port_than_asked_for_it_is_replaced() -> None:
    desired = wanting(HTTP | {"hostPort": 30090})
    for place in ({"HostIp": "0.0.0.0", "HostPort": "30090"}, {"HostIp": "127.0.0.1", "HostPort": "30091"}):  # noqa: S104

        def move(relay: Any, place: Any = place) -> None:
            relay["HostConfig"]["PortBindings"] = {"8080/tcp": [place]}

        assert verbs(plan(desired, with_relay(living(desired), move), LATER)) == [["REPLACE Relay"]]


def test_it_follows_the_sandboxs_network_when_that_is_made_again() -> None:
    desired = wanting(HTTP)
    observed = living(desired)
    found = plan(desired, replace(observed, network={**(observed.network or {}), "Internal": False}), LATER)
    assert verbs(found)[0] == ["REPLACE Network"]
    assert verbs(found)[-1] == ["REPLACE Relay"]
    assert verbs(plan(desired, replace(observed, outer=None), LATER)) == [["REPLACE Relay"]]


def test_nobody_else_is_on_either_network() -> None:
    desired = wanting(HTTP)
    observed = living(desired)
    outer = {**(observed.outer or {}), "Containers": {"3" * 64: {"Name": "x"}, "7" * 64: {"Name": "somebody"}}}
    found = plan(desired, replace(observed, outer=outer), LATER)
    assert verbs(found) == [["DISCONNECT Network"]]
    assert found.steps[0].other == "7" * 64
    own = {**(observed.network or {}), "Containers": {"3" * 64: {"Name": "x"}, "7" * 64: {"Name": "somebody"}}}
    found = plan(desired, replace(observed, network=own), LATER)
    assert [(step.verb, step.other) for step in found.steps] == [(Verb.DISCONNECT, "7" * 64)]


def test_what_only_calls_itself_a_relay_is_neither_let_in_nor_removed() -> None:
    desired = wanting(HTTP)

    def disown(relay: Any) -> None:
        relay["Config"]["Labels"] = {}

    found = plan(desired, with_relay(living(desired), disown), LATER)
    assert found.foreign == (f"Container {desired.documents.names.relay}",)
    assert [(step.verb, step.kind, step.other) for step in found.steps] == [(Verb.DISCONNECT, "Network", "3" * 64)]


def test_a_relay_under_another_name_goes() -> None:
    desired = wanting(HTTP)
    summary = {"Id": "5" * 64, "Names": ["/x"], "Labels": names.labels_of(CLUSTER, IDENTITY, names.RELAY)}
    found = plan(desired, replace(living(desired), other_companions=(summary,)), LATER)
    assert [(step.verb, step.name) for step in found.steps] == [(Verb.REMOVE, "x")]


def test_the_container_is_the_same_with_ports_and_without() -> None:
    one, other = wanting(), wanting(HTTP, updateStrategy={"type": "Recreate"})
    assert other.update is UpdateStrategyType.RECREATE
    assert one.documents.container == other.documents.container


# What is said of it


def test_evidence_tells_in_what_it_differs_and_that_one_should_not_be_there() -> None:
    desired = wanting(HTTP)
    observed = living(desired)
    found = evidence.of(desired.documents, observed, NEW)
    assert found is not None
    assert found.differences == ()
    assert evidence.of(desired.documents, Observed(), NEW) is None
    stray = evidence.of(wanting().documents, observed, NEW)
    assert stray is not None
    assert stray.differences
