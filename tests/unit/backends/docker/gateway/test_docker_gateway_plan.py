"""A sandbox's gateway on Docker: what it is, when it is made, told and put back."""

import base64
import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from docker_world import CLUSTER, NEW, OLD, blueprint_of, desired_of, live_of

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.spec import UpdateStrategyType
from claude_sandbox.backends.base import Cause, KeyState, Past
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.companions import Companion
from claude_sandbox.backends.docker.documents import hardening
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.gateway import accounts, evidence, gateways
from claude_sandbox.backends.docker.gateway.gateways import Brokering, Gateway
from claude_sandbox.backends.docker.gateway.settings import GatewaySettingsError, gateway_settings
from claude_sandbox.backends.docker.keys.gateway_secrets import with_generations
from claude_sandbox.backends.docker.keys.gateway_texts import GatewayTexts
from claude_sandbox.backends.docker.model import Delivered, Desired, Observed, Plan, Verb
from claude_sandbox.backends.docker.objects import documents
from claude_sandbox.backends.docker.plan import desire, plan
from claude_sandbox.backends.docker.relay.relays import Publishing
from claude_sandbox.blueprint.model import Image
from claude_sandbox.gateway.budget.ledger import Budget
from claude_sandbox.gateway.config.cluster import GitSecret, ServiceSecret
from claude_sandbox.gateway.config.config import parse
from claude_sandbox.gateway.git.push.rules import PushRules
from claude_sandbox.gateway.services.declared import Header
from claude_sandbox.localcluster.pki.certificates import new_ca

IMAGE = Image("example.org/operator@sha256:" + "c" * 64, "sha256:" + "c" * 64, "IfNotPresent")
FIRST = Past(provisioned=False, ran=False, settled=False)
LATER = Past(provisioned=True, ran=True, settled=True)
BROKERED = {"credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}}


def wanting(capabilities: EngineCapabilities = NEW, **spec: Any) -> Desired:
    fields = BROKERED | spec
    desired = desired_of(capabilities, **fields)
    made = documents(blueprint_of(**fields), CLUSTER, capabilities, brokering=Brokering(IMAGE))
    return replace(desired, documents=made, brokered=True)


def gateway_in(desired: Desired) -> Gateway:
    assert desired.documents.gateway is not None
    return desired.documents.gateway


def living(desired: Desired) -> Observed:
    """All as desired, the gateway as well; what engines add is left out."""
    observed, gateway, called = live_of(desired), gateway_in(desired), desired.documents.names
    config = {key: value for key, value in gateway.container.items() if key not in ("HostConfig", "NetworkingConfig")}
    host = copy.deepcopy(gateway.container["HostConfig"])
    for field in ("MaskedPaths", "ReadonlyPaths"):
        host[field] = (observed.container or {})["HostConfig"][field]
    container = {
        "Id": "3" * 64,
        "Name": f"/{called.gateway}",
        "Image": "sha256:" + "d" * 64,
        "State": {"Status": "running", "Running": True, "Paused": False, "StartedAt": "2026-03-01T12:00:00Z"},
        "Config": copy.deepcopy(config),
        "HostConfig": host,
        "Mounts": [
            {"Type": "volume", "Name": called.accounts, "Destination": accounts.DIRECTORY, "RW": True},
        ],
        "NetworkSettings": {
            "Networks": {
                called.network: {"NetworkID": "2" * 64, "Aliases": ["claude-sandbox-gateway"]},
                called.gateway: {"NetworkID": "4" * 64},
            }
        },
    }
    outer = copy.deepcopy(gateway.network) | {"Id": "4" * 64, "Scope": "local", "Containers": {"3" * 64: {"Name": "x"}}}
    own = {**(observed.network or {}), "Containers": {"1" * 64: {"Name": "a"}, "3" * 64: {"Name": called.gateway}}}
    return replace(
        observed,
        network=own,
        delivered=Delivered(desired.word, desired.settings),
        gateway=Companion(container, outer, {"Id": container["Image"], "Config": {}}),
        gateway_revision=gateway.revision("7"),
    )


def changed(observed: Observed, change: Any) -> Observed:
    container = copy.deepcopy(dict(observed.gateway.container or {}))
    change(container)
    return replace(observed, gateway=replace(observed.gateway, container=container))


def verbs(found: Plan) -> list[str]:
    return [f"{step.verb.name} {step.kind}" for step in found.steps]


@pytest.mark.parametrize("capabilities", [NEW, OLD])
def test_it_is_hardened_and_holds_nothing_that_is_worth_stealing(capabilities: EngineCapabilities) -> None:
    desired = wanting(capabilities, env=[{"name": "COLOUR", "value": "red"}])
    gateway = gateway_in(desired)
    host = gateway.container["HostConfig"]
    assert (host["CapDrop"], host["Privileged"], host["ReadonlyRootfs"]) == (["ALL"], False, True)
    # Nothing but its accounts, which no other container has; and no file of them gets large.
    (mounted,) = host["Mounts"]
    assert (mounted["Type"], mounted["Source"]) == ("volume", desired.documents.names.accounts)
    assert mounted["VolumeOptions"]["Labels"] == gateway.accounts["Labels"]
    assert all(one["Source"] != mounted["Source"] for one in desired.documents.container["HostConfig"]["Mounts"])
    assert {"Name": "fsize", "Soft": 1 << 20, "Hard": 1 << 20} in host["Ulimits"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert (gateway.container["User"], gateway.container["Env"], gateway.container["Cmd"]) == ("65532:65532", [], [])
    assert "PortBindings" not in host
    assert host["Sysctls"] == {"net.ipv4.ip_forward": "0"}
    assert not gateway.network["Internal"]
    assert gateway.network["Options"] == {hardening.ICC: "false"}
    # The sandbox stays where it was: on a network that leads nowhere.
    assert desired.documents.network["Internal"]
    assert desired.documents.container["HostConfig"]["NetworkMode"] == desired.documents.names.network


def test_what_it_is_told_is_a_configuration_that_it_takes_with_the_key_beside_it() -> None:
    spec = {"model": {"allowed": ["claude-sonnet-*"]}, "network": {"egress": {"allowedDomains": ["github.com"]}}}
    gateway = gateway_in(wanting(**spec))
    message = json.loads(base64.b64decode(gateways.message(gateway, b"the-key", "7", b"csb-1")))
    assert (message["credential"], message["revision"]) == ("the-key", gateway.revision("7"))
    assert "the-key" not in json.dumps(message["configuration"])
    (sandbox,) = parse(json.dumps(message["configuration"])).sandboxes
    assert (sandbox.models, [str(one) for one in sandbox.allowed]) == (("claude-sonnet-*",), ["github.com"])
    assert (sandbox.anonymous_proxy, sandbox.oauth, sandbox.budget) == (True, False, Budget())
    assert str(parse(json.dumps(message["configuration"])).ledger) == accounts.DIRECTORY


def test_it_is_told_of_services_and_of_another_generation_of_what_opens_them() -> None:
    header = {"prefix": "Bearer ", "valueFrom": {"secretKeyRef": {"name": "issues"}}}
    service = {"name": "issues", "host": "issues.example.org:443", "header": header, "paths": ["/api/*"],
               "methods": ["POST"], "requestsPerMinute": 7, "registry": {"type": "NPM"}}  # fmt: skip
    gateway = gateway_in(wanting(services=[service]))
    others = GatewayTexts({"issues": bytearray(b"the-token")})
    line = gateways.message(gateway, b"the-key", "7", b"csb-1", others)
    message = json.loads(base64.b64decode(line))
    assert message["secrets"] == {"issues": "the-token"}
    assert "the-token" not in json.dumps(message["configuration"])
    (one,) = parse(json.dumps(message["configuration"])).sandboxes[0].services
    assert one.header == Header("authorization", "Bearer ", ServiceSecret("issues", "token", "issues.example.org"))
    assert ([str(path) for path in one.paths], one.methods, one.per_minute, one.registry) == (
        ["/api/*"], frozenset(("POST",)), 7, "NPM"
    )  # fmt: skip
    assert gateway.revision("7") != gateway_in(wanting()).revision("7")


@pytest.mark.parametrize(("given", "most"), [({}, 96), ({"pushBytes": 8 << 20}, 8), ({"pushBytes": 1 << 40}, 96)])
def test_a_push_is_in_its_memory_which_has_the_room(given: dict[str, int], most: int) -> None:
    settings = {"limits": {"connections": 7, **given}}
    gateway = documents(blueprint_of(**BROKERED), CLUSTER, NEW, brokering=Brokering(IMAGE, settings)).gateway
    assert gateway is not None
    read = parse(json.dumps(json.loads(base64.b64decode(gateways.message(gateway, b"k", "7", b"p")))["configuration"]))
    assert read.spool is None
    assert (read.limits.push_bytes, read.limits.spool_bytes, read.limits.pushes) == (most << 20, most << 20, 1)
    assert read.limits.connections == 7
    assert gateway.container["HostConfig"]["Memory"] >= (256 + most) << 20


def test_it_is_told_of_repositories_and_of_another_generation_of_what_opens_them() -> None:
    push = {"branches": ["claude/*"], "force": True, "protectedPaths": [".github/**"]}
    secret = {"credentialsSecretRef": {"name": "git"}}
    declared = [
        {"path": "project", "url": "git@git.example.org:team/project.git", "push": push, **secret},
        {"path": "open", "url": "https://git.example.org/open"},
    ]
    gateway = gateway_in(wanting(repositories=declared))
    others = GatewayTexts(git={"git": {"host": bytearray(b"git.example.org"), "token": bytearray(b"the-token")}})
    message = json.loads(base64.b64decode(gateways.message(gateway, b"the-key", "7", b"csb-1", others)))
    assert message["git"] == {"git": {"host": "git.example.org", "token": "the-token"}}
    assert "the-token" not in json.dumps(message["configuration"])
    first, second = parse(json.dumps(message["configuration"])).sandboxes[0].repositories
    assert (first.at, first.credential) == ("git.example.org/team/project", GitSecret("git"))
    assert first.push == PushRules(("claude/*",), force=True, delete=False, protected=(".github/**",))
    assert (second.credential, second.push) == (None, None)

    blueprint = blueprint_of(**BROKERED, repositories=declared)
    assert blueprint.gateway is not None
    told = []
    for generation in ("1", "2", None):
        known = with_generations(blueprint.gateway, lambda secret, use, found=generation: f"{found}{secret}{use}")
        made = documents(replace(blueprint, gateway=known), CLUSTER, NEW, brokering=Brokering(IMAGE))
        assert made.gateway is not None
        told.append(made.gateway.revision("7"))
    assert len(set(told)) == 3


def test_it_is_told_of_a_subscriptions_token_and_of_a_budget() -> None:
    credentials = {"oauthTokenSecretRef": {"name": "subscription"}, "delivery": "Brokered"}
    budget = {"maxCostUSD": "0.50", "window": "24h"}
    gateway = gateway_in(wanting(credentials=credentials, budget=budget))
    message = json.loads(base64.b64decode(gateways.message(gateway, b"the-token", "7", b"csb-1")))
    (sandbox,) = parse(json.dumps(message["configuration"])).sandboxes
    assert (sandbox.oauth, sandbox.generation) == (True, "7")
    assert sandbox.budget == Budget(500_000_000, None, 86400.0)
    # Another budget is told to the gateway that runs; a kind of credential too.
    other = gateway_in(wanting(credentials=credentials, budget=budget | {"maxOutputTokens": 9}))
    assert other.revision("7") != gateway.revision("7")
    assert other.container == gateway.container
    assert gateway_in(wanting(budget=budget)).revision("7") != gateway.revision("7")


def test_it_comes_after_the_sandbox_and_a_sandbox_that_holds_its_key_has_none() -> None:
    desired = wanting()
    made = plan(desired, Observed(), FIRST)
    assert verbs(made)[-3:] == ["CREATE Container", "START Container", "CREATE Gateway"]
    assert desired_of().documents.gateway is None
    assert plan(desired, living(desired), LATER).stages == ()


def test_one_that_is_missing_ended_or_loosened_is_put_back() -> None:
    desired = wanting()
    seen = living(desired)
    alone = {**(seen.network or {}), "Containers": {"1" * 64: {"Name": "a"}}}
    gone = replace(seen, gateway=Companion(), gateway_revision=None, network=alone)
    (step,) = plan(desired, gone, LATER).steps
    assert (step.verb, step.kind, step.cause) == (Verb.CREATE, "Gateway", Cause.HEAL)
    for change, path in (
        (lambda live: live["State"].update(Running=False, Status="exited"), "State.Status"),
        (lambda live: live["State"].update(Health={"Status": "unhealthy"}), "State.Health"),
        (lambda live: live["HostConfig"].update(Privileged=True), "HostConfig.Privileged"),
        (lambda live: live["Config"].update(OpenStdin=False), "Config.OpenStdin"),
        (lambda live: live["NetworkSettings"]["Networks"].update(other={"NetworkID": "9"}), "Networks.other"),
        (
            lambda live: live["NetworkSettings"]["Networks"][desired.documents.names.network].update(Aliases=[]),
            "Aliases",
        ),
    ):
        (step,) = plan(desired, changed(seen, change), LATER).steps
        assert (step.verb, step.kind, step.cause, path in step.paths) == (Verb.REPLACE, "Gateway", Cause.HEAL, True)
        assert step.paced


def test_another_key_or_wish_is_told_to_the_one_that_runs() -> None:
    desired = wanting()
    seen = living(desired)
    renewed = replace(desired, key_generation="8")
    # The gateway first: it has to know a placeholder that comes to it.
    assert verbs(plan(renewed, seen, LATER)) == ["DELIVER Gateway", "DELIVER Volume"]
    wish = wanting(network={"egress": {"allowedDomains": ["pypi.org"]}})
    assert verbs(plan(wish, seen, LATER)) == ["DELIVER Gateway"]
    # Whatever the generation is, where that is not known.
    assert plan(replace(desired, key_generation=None), seen, LATER).stages == ()


def test_it_goes_with_what_it_is_for() -> None:
    desired = wanting()
    seen = living(desired)
    mounted = replace(desired_of(), key_generation="7")
    assert "REMOVE Gateway" in verbs(plan(mounted, seen, LATER))
    suspended = wanting(operatingMode="Suspended")
    assert "REMOVE Gateway" in verbs(plan(suspended, seen, LATER))


def test_somebody_elses_under_its_name_is_in_the_way_and_is_not_touched() -> None:
    desired = wanting()
    found = plan(desired, changed(living(desired), lambda live: live["Config"].update(Labels={})), LATER)
    assert f"Container {desired.documents.names.gateway}" in found.foreign
    assert not any(step.kind == "Gateway" and step.live is not None for step in found.steps)


def test_who_joins_its_outer_network_is_taken_off() -> None:
    desired = wanting()
    seen = living(desired)
    outer = copy.deepcopy(dict(seen.gateway.network or {}))
    outer["Containers"]["9" * 64] = {"Name": "stranger"}
    found = plan(desired, replace(seen, gateway=replace(seen.gateway, network=outer)), LATER)
    assert [(step.verb, step.other) for step in found.steps] == [(Verb.DISCONNECT, "9" * 64)]


def test_what_is_measured_of_it_is_in_what_it_differs() -> None:
    desired = wanting()
    seen = living(desired)
    found = evidence.of(desired.documents, seen, NEW)
    assert found is not None
    assert found.differences == ()
    loose = changed(seen, lambda live: live["HostConfig"].update(Privileged=True))
    found = evidence.of(desired.documents, loose, NEW)
    assert found is not None
    assert found.differences == ("HostConfig.Privileged",)
    assert names.GATEWAY in gateway_in(desired).container["Labels"].values()


def test_its_accounts_come_before_it_outlive_it_and_are_lost_to_nobody_silently() -> None:
    desired = wanting()
    called = desired.documents.names
    steps = plan(desired, Observed(), FIRST).steps
    order = [(step.kind, step.name) for step in steps]
    assert order.index(("Volume", called.accounts)) < order.index(("Gateway", called.gateway))
    seen = living(desired)
    without = replace(seen, volumes={name: one for name, one in seen.volumes.items() if name != called.accounts})
    # Who gets a gateway gets them with it; of one that had them, it is told that they were lost.
    for past, cause in ((FIRST, Cause.PROVISION), (replace(LATER, settled=False), Cause.UPDATE), (LATER, Cause.HEAL)):
        (step,) = (one for one in plan(desired, without, past).steps if one.name == called.accounts)
        assert (step.verb, step.cause) == (Verb.CREATE, cause)
    # A sandbox that holds its key itself for a while, or is suspended, keeps what was used.
    for wish in (replace(desired_of(), key_generation="7"), wanting(operatingMode="Suspended")):
        assert all(step.name != called.accounts for step in plan(wish, seen, LATER).steps)


@pytest.mark.parametrize("change", [{"Labels": {}}, {"Options": {"type": "none", "device": "/etc", "o": "bind"}}])
def test_a_volume_that_is_not_the_sandboxs_own_is_never_given_to_its_gateway(change: dict[str, Any]) -> None:
    desired = wanting()
    called, seen = desired.documents.names, living(desired)
    foreign = replace(seen, volumes={**seen.volumes, called.accounts: {**seen.volumes[called.accounts], **change}})
    found = plan(desired, foreign, LATER)
    assert f"Volume {called.accounts}" in found.foreign
    assert found.steps == ()
    # What would have to be made again is taken away instead, and nothing is made in its place.
    ended = changed(foreign, lambda live: live["State"].update(Running=False, Status="exited"))
    assert verbs(plan(desired, ended, LATER)) == ["REMOVE Gateway"]
    gone = replace(foreign, gateway=Companion(), gateway_revision=None)
    assert all(step.kind != "Gateway" for step in plan(desired, gone, LATER).steps)


def test_whoever_else_has_its_accounts_is_measured() -> None:
    desired = wanting()
    called, seen = desired.documents.names, living(desired)
    (gateway,) = (evidence.of(desired.documents, replace(seen, accounts_elsewhere=2), NEW),)
    assert gateway is not None
    assert (gateway.volume, gateway.differences) == (called.accounts, ("Volume is in 2 other containers",))
    labelled = {**seen.volumes[called.accounts], "Labels": {}}
    gateway = evidence.of(desired.documents, replace(seen, volumes={**seen.volumes, called.accounts: labelled}), NEW)
    assert gateway is not None
    assert all(path.startswith("Volume.Labels.") for path in gateway.differences)
    assert gateway.differences


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "no JSON"), ("[]", "provider, egress, limits"), ('{"sandboxes":[]}', "provider, egress, limits"),
        ('{"provider":{"baseURL":"ftp://x"}}', "provider.baseURL"), ('{"provider":{"caFile":"/x"}}', "provider.caFile"),
        ('{"provider":{"caFile":7}}', "provider.caFile"), ('{"provider":{"caBundle":"x"}}', "caBundle: it has no"),
        ('{"egress":{"caFile":"/x"}}', "egress.caFile"), ('{"egress":{"caBundle":"x"}}', "egress.caBundle: it has no"),
        ('{"egress":{"deniedDomains":["*"]}}', "egress.deniedDomains"),
        ('{"limits":{"requests":0}}', "limits.requests"),
    ],
)  # fmt: skip
def test_settings_that_can_not_be_followed_are_refused_with_the_field(text: str, told: str) -> None:
    with pytest.raises(GatewaySettingsError, match=told.replace("[", "\\[")):
        gateway_settings(text)
    assert gateway_settings('{"provider":{"baseURL":"https://llm.example.org"}}')


def a_certificate() -> str:
    return new_ca("a company", datetime(2026, 1, 1, tzinfo=UTC)).certificate.decode()


def test_the_bundle_that_a_file_holds_goes_into_the_gateways_memory() -> None:
    given = {
        "provider": {"baseURL": "https://llm.example.org", "caFile": "ca.pem"}, "egress": {"caFile": "others.pem"}
    }  # fmt: skip
    asked: list[str] = []
    pem = a_certificate()

    def read(name: str) -> str:
        asked.append(name)
        return f"# Tanúsítvány, and more for people\n{pem}\n{pem}"

    found = gateway_settings(json.dumps(given), read)
    assert asked == ["ca.pem", "others.pem"]
    bundle = found["provider"].pop("caBundle")
    assert found.pop("egress") == {"caBundle": bundle}
    assert (bundle.count("BEGIN CERTIFICATE"), "people" in bundle) == (2, False)
    assert found == {"provider": {"baseURL": "https://llm.example.org"}}
    # As it came out it goes in again: it is what `install` writes down for the operator.
    settings = {"provider": {"caBundle": bundle}, "egress": {"deniedDomains": ["*.paste.example"], "caBundle": pem}}
    assert gateway_settings(json.dumps(settings)) == settings
    fields = BROKERED
    made = documents(blueprint_of(**fields), CLUSTER, NEW, brokering=Brokering(IMAGE, settings)).gateway
    assert made is not None
    message = json.loads(base64.b64decode(gateways.message(made, b"the-key", "7", b"csb-1")))
    config = parse(json.dumps(message["configuration"]))
    assert (config.provider.bundle, config.egress.bundle) == (bundle, settings["egress"]["caBundle"])
    assert [str(one) for one in config.egress.denied] == ["*.paste.example"]
    # Other settings are told to the gateway that runs.
    plain = gateway_in(wanting())
    assert made.container == plain.container
    assert made.revision("7") != plain.revision("7")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no certificate"), ("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", "a private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "can't be read"),
        ("-----BEGIN CERTIFICATE-----\n" + "A" * (65 << 10) + "\n-----END CERTIFICATE-----", "64 are taken"),
    ],
    ids=["empty", "a key", "broken", "too large"],
)  # fmt: skip
@pytest.mark.parametrize("section", ["provider", "egress"])
def test_a_bundle_that_can_not_be_used_is_refused(section: str, text: str, told: str) -> None:
    with pytest.raises(GatewaySettingsError, match=rf"{section}\.caFile: ca\.pem: .*{told}"):
        gateway_settings(json.dumps({section: {"caFile": "ca.pem"}}), lambda _: text)
    with pytest.raises(GatewaySettingsError, match=rf"{section}\.caBundle: .*{told}"):
        gateway_settings(json.dumps({section: {"caBundle": text}}))


def keyless() -> Desired:
    """Of a sandbox whose key is compromised."""
    return replace(wanting(), may_start=False, keyless=True)


def test_a_compromised_key_is_taken_from_the_gateway_and_what_runs_waits() -> None:
    desired = keyless()
    taken, gateway = plan(desired, living(desired), LATER), gateway_in(desired)
    assert verbs(taken) == ["DELIVER Gateway"]
    waits = replace(living(desired), gateway_revision=gateway.revision(gateways.KEYLESS))
    assert verbs(plan(desired, waits, LATER)) == []
    # One that ended meanwhile is made again, for no key either.
    ended = changed(waits, lambda one: one.update(State={"Status": "exited", "Running": False}))
    assert verbs(plan(desired, ended, LATER)) == ["REPLACE Gateway"]
    # With another key it gets that, also where no generation is known.
    for generation in ("8", None):
        again = replace(wanting(), key_generation=generation)
        assert "DELIVER Gateway" in verbs(plan(again, waits, LATER))


def test_what_a_gateway_without_a_key_is_told_has_none() -> None:
    gateway = gateway_in(keyless())
    line = gateways.message(gateway, None, gateways.KEYLESS, b"placeholder")
    message = json.loads(base64.b64decode(bytes(line)))
    assert message["credential"] is None
    assert message["revision"] == gateway.revision(gateways.KEYLESS)


def test_only_what_holds_the_key_itself_ends_with_one_that_is_compromised() -> None:
    key = KeyState("7", Reason.KEY_COMPROMISED, "no", withdrawn=True)
    gone = KeyState("7", Reason.SECRET_NOT_OPTED_IN, "no", withdrawn=True)
    for state, fields, ended, waits in (
        (key, BROKERED, False, True),
        (gone, BROKERED, True, False),
        (key, {}, True, False),
    ):
        made = desire(
            blueprint_of(**fields), CLUSTER, state, NEW, Publishing(None), Brokering(IMAGE), UpdateStrategyType.RECREATE
        )
        assert (made.withdrawn, made.keyless, made.may_start) == (ended, waits, False)
