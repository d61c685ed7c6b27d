"""What a blueprint becomes on an engine: golden, and never less than hardened whatever the spec says."""

import json
from pathlib import Path
from typing import Any

import pytest
from docker_world import CLUSTER, IDENTITY, NEW, OLD, blueprint_of, desired_of
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities, capabilities_of
from claude_sandbox.backends.docker.keys import delivery
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.objects import documents, spec_hash
from claude_sandbox.backends.docker.unsupported import unsupported_in
from claude_sandbox.blueprint.model import Image
from claude_sandbox.seccomp.profile import STRICT

_HERE = Path(__file__).parent


@pytest.mark.parametrize(("release", "capabilities"), [("29", NEW), ("20.10", OLD)])
def test_the_minimal_sandbox_is_the_golden_one(release: str, capabilities: EngineCapabilities) -> None:
    wanted = documents(blueprint_of(), CLUSTER, capabilities)
    found = {"container": wanted.container, "network": wanted.network, "volumes": list(wanted.volumes)}
    assert found == json.loads((_HERE / f"golden-{release}.json").read_text())


specs = st.fixed_dictionaries(
    {},
    optional={
        "resources": st.fixed_dictionaries(
            {"cpu": st.sampled_from(["100m", "1", "2500m"]), "memory": st.sampled_from(["256Mi", "2Gi", "64Gi"])}
        ),
        "command": st.just(["/bin/sh"]),
        "args": st.just(["-c", "exit"]),
        "env": st.just([{"name": "COLOUR", "value": "red"}]),
        "workspace": st.sampled_from(
            [
                {"type": "EmptyDir", "size": "64Mi"},
                {"type": "EmptyDir", "size": "1Ti"},
                {"readOnly": True},
                {"size": "1Gi"},
            ]
        ),
        "network": st.just({"ports": [{"name": "http", "containerPort": 8080}]}),
        "operatingMode": st.sampled_from(["Running", "Suspended"]),
        "security": st.just({"seccompProfile": {"type": "Strict"}}),
    },
)
capabilities = st.builds(
    EngineCapabilities,
    version=st.just("x"),
    api=st.sampled_from([(1, 40), (1, 41), (1, 44), (1, 48), (1, 56)]),
    has_init=st.booleans(),
    limits_swap=st.booleans(),
    remaps_users=st.booleans(),
    keeps_from_swap=st.booleans(),
)


@given(specs, capabilities)
def test_nothing_that_may_be_asked_for_loosens_anything(spec: dict[str, Any], capabilities: EngineCapabilities) -> None:
    blueprint = blueprint_of(**spec)
    wanted = documents(blueprint, CLUSTER, capabilities)
    strict = [f"seccomp={STRICT}"] if "security" in spec else []
    host = wanted.container["HostConfig"]
    assert wanted.container["User"] == "1000:1000"
    assert host["CapDrop"] == ["ALL"]
    assert not {"CapAdd", "Devices", "Binds", "PidMode", "UsernsMode", "PortBindings", "VolumesFrom"} & host.keys()
    assert host["SecurityOpt"] == ["no-new-privileges:true", *strict]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["Memory"] == blueprint.limits.memory
    assert host["MemorySwap"] == (host["Memory"] if capabilities.limits_swap else -1)
    assert 0 < host["MemoryReservation"] <= host["Memory"]
    assert host["PidsLimit"] > 0
    assert {mount["Type"] for mount in host["Mounts"]} == {"volume"}
    for options in host["Tmpfs"].values():
        assert {"nosuid", "nodev"} <= set(options.split(","))
    # Together, what is in memory can never fill the limit.
    options = [option for options in host["Tmpfs"].values() for option in options.split(",")]
    sizes = [int(option.removeprefix("size=")) for option in options if option.startswith("size=")]
    assert len(sizes) == len(host["Tmpfs"])
    assert sum(sizes) < host["Memory"]
    writable = [mount["Target"] for mount in host["Mounts"] if not mount["ReadOnly"]]
    assert writable in ([], ["/workspace"])
    assert wanted.network["Internal"] is True
    assert wanted.network["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert len(wanted.network["Options"]) == 2
    assert {"type": "tmpfs", "device": "tmpfs"}.items() <= wanted.key["DriverOpts"].items()


@given(specs)
def test_an_engines_upgrade_is_no_other_spec_but_every_wish_is(spec: dict[str, Any]) -> None:
    blueprint = blueprint_of(**spec)
    old, new = (documents(blueprint, CLUSTER, one).container["Labels"] for one in (OLD, NEW))
    assert old == new
    other = blueprint_of(**{**spec, "env": [{"name": "COLOUR", "value": "blue"}]})
    assert spec_hash(other, CLUSTER) != spec_hash(blueprint, CLUSTER)


def test_another_filter_is_another_spec_and_the_engines_own_is_what_there_was_before() -> None:
    strict, default = ({"security": {"seccompProfile": {"type": kind}}} for kind in ("Strict", "RuntimeDefault"))
    assert spec_hash(blueprint_of(**strict), CLUSTER) != spec_hash(blueprint_of(**default), CLUSTER)
    assert spec_hash(blueprint_of(**default), CLUSTER) == spec_hash(blueprint_of(), CLUSTER)


def test_a_profile_of_app_armor_is_the_hosts_by_its_name_and_the_engines_own_needs_none() -> None:
    named = {"security": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "claude"}}}
    default = {"security": {"appArmorProfile": {"type": "RuntimeDefault"}}}
    found = [documents(blueprint_of(**spec), CLUSTER, NEW).container for spec in (named, default, {})]
    options = [one["HostConfig"]["SecurityOpt"] for one in found]
    assert options == [["no-new-privileges:true", "apparmor=claude"], ["no-new-privileges:true"], options[1]]
    assert spec_hash(blueprint_of(**named), CLUSTER) != spec_hash(blueprint_of(), CLUSTER)
    assert spec_hash(blueprint_of(**default), CLUSTER) == spec_hash(blueprint_of(), CLUSTER)


def test_limits_are_no_other_spec_since_they_can_be_changed_in_place() -> None:
    before, after = ({"resources": {"cpu": cpu, "memory": memory}} for cpu, memory in (("1", "2Gi"), ("2", "3Gi")))
    assert spec_hash(blueprint_of(**before), CLUSTER) == spec_hash(blueprint_of(**after), CLUSTER)


def test_the_key_is_in_no_document_of_its_delivery() -> None:
    blueprint = blueprint_of()
    own = Image("example.org/operator@sha256:" + "b" * 64, None, "IfNotPresent")
    helper = delivery.helper(blueprint, documents(blueprint, CLUSTER, NEW), CLUSTER, "7", own, settings=False)
    assert helper["HostConfig"]["NetworkMode"] == "none"
    assert helper["HostConfig"]["LogConfig"] == {"Type": "none"}
    assert helper["HostConfig"]["CapDrop"] == ["ALL"]
    assert helper["Image"] == own.reference
    one = delivery.Key("7", bytearray(b"very-secret"))
    assert "very" not in repr(one)
    one.wipe()
    assert one.value == bytes(11)


def test_what_an_engine_cant_give_is_said() -> None:
    called = names_of(CLUSTER, IDENTITY)
    said = " ".join(unsupported_in(blueprint_of(), {called.workspace: {"Options": None}}, called))
    for word in ("allowedCIDRs", "name", "size"):
        assert word in said
    nothing = {"network": {"egress": {"allowedCIDRs": [], "dns": False}}, "workspace": {"type": "EmptyDir"}}
    assert unsupported_in(blueprint_of(**nothing), {}, called) == ()


@pytest.mark.parametrize("workspace", [{"type": "EmptyDir"}, {"type": "EmptyDir", "size": "3Gi"}, {}])
def test_a_limit_of_the_disk_is_said_to_have_no_effect_where_it_was_asked_for(workspace: dict[str, str]) -> None:
    def said(**resources: str) -> bool:
        return "spec.resources.ephemeralStorage" in " ".join(
            unsupported_in(blueprint_of(workspace=workspace, resources=resources), {}, names_of(CLUSTER, IDENTITY))
        )

    assert said(ephemeralStorage="1Gi")
    assert said(ephemeralStorage="16Gi")
    assert not said()
    assert not said(cpu="1", ephemeralStorage="8192Mi")


def test_names_are_said_not_to_be_resolved_where_that_was_asked_for() -> None:
    brokered = {"credentials": {"apiKeySecretRef": {"name": "key"}}}

    def said(**fields: Any) -> tuple[str, ...]:
        return unsupported_in(blueprint_of(**fields), {}, names_of(CLUSTER, IDENTITY))

    assert "spec.network.egress.dns" in " ".join(said(**brokered, network={"egress": {"dns": True}}))
    assert said(**brokered) == ()


@pytest.mark.parametrize(("size", "has"), [("2Gi", 1 << 30), ("1Gi", None), ("512Mi", None), ("10Gi", None)])
def test_a_workspace_in_memory_is_said_to_be_smaller_than_what_was_asked_for(size: str, has: int | None) -> None:
    fields = {"workspace": {"type": "EmptyDir", "size": size}, "resources": {"memory": "2Gi"}}
    said = " ".join(unsupported_in(blueprint_of(**fields), {}, names_of(CLUSTER, IDENTITY)))
    assert (f"its workspace has {has} bytes" in said) if has else ("its workspace has" not in said)


def test_facts_are_read_as_engines_tell_them() -> None:
    new = {
        "ServerVersion": "29.8.0",
        "KernelVersion": "6.18.44-generic",
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "InitBinary": "docker-init",
        "InitCommit": {"ID": "de40ad0"},
        "SwapLimit": True,
        "DefaultRuntime": "runc",
    }
    found = capabilities_of(new, "1.56")
    assert (found.start_interval, found.isolated_gateway, found.has_init, found.keeps_from_swap) == (True,) * 4
    old = capabilities_of({**new, "KernelVersion": "5.10.0", "InitCommit": {"ID": "N/A"}, "SwapLimit": False}, "1.41")
    assert (old.start_interval, old.isolated_gateway, old.has_init, old.keeps_from_swap) == (False,) * 4
    assert not old.limits_swap
    rootless = capabilities_of({**new, "SecurityOptions": ["name=rootless"]}, "1.56")
    assert not rootless.keeps_from_swap
    assert capabilities_of({**new, "SecurityOptions": ["name=userns"]}, "1.56").remaps_users
    assert capabilities_of({}, "nonsense").api == (0, 0)


def test_what_an_engine_takes_and_does_nothing_about_is_known() -> None:
    every = {"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "SecurityOptions": ["name=cgroupns"]}
    assert capabilities_of(every, "1.56").unenforced == capabilities_of({}, "1.56").unenforced == frozenset()
    assert capabilities_of({**every, "PidsLimit": False}, "1.56").unenforced == {"PidsLimit"}
    for option, profile in (("name=seccomp,profile=builtin", "builtin"), ("name=seccomp,profile=/a/b", "/a/b")):
        assert capabilities_of({"SecurityOptions": ["name=cgroupns", option]}, "1.56").seccomp == profile
    assert capabilities_of(every, "1.56").seccomp == ""
    assert capabilities_of({}, "1.56").seccomp is None


def test_users_that_an_engine_remaps_can_still_read_their_key() -> None:
    desired = desired_of(EngineCapabilities("29", (1, 56), remaps_users=True))
    assert "uid=" not in desired.documents.key["DriverOpts"]["o"]
    assert "mode=1777" in desired.documents.key["DriverOpts"]["o"]
