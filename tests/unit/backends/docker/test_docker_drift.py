"""Everything that can be changed about a live container is noticed, and nothing that engines fill in by themselves."""

import copy
from typing import Any

import pytest
from docker_world import NEW, OLD, desired_of, recorded

from claude_sandbox.backends.docker import drift
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.model import Desired
from claude_sandbox.seccomp.profile import STRICT

RELEASES = [("29", NEW), ("20.10", OLD)]


@pytest.mark.parametrize(("release", "capabilities"), RELEASES)
def test_what_engines_answer_about_the_desired_objects_is_no_drift(
    release: str, capabilities: EngineCapabilities
) -> None:
    desired, found = desired_of(capabilities), recorded(release)
    differs = drift.container_differences(desired.documents.container, found["container"], found["image"], capabilities)
    assert (differs.updatable, differs.fixed) == ((), ())
    assert drift.network_differences(desired.documents.network, found["network"]) == ()
    for wanted, live in zip(desired.documents.volumes, found["volumes"], strict=True):
        assert drift.volume_differences(wanted, live) == ()
    # With its image gone, less can be compared, and nothing looks like drift because of it.
    assert drift.container_differences(desired.documents.container, found["container"], None, capabilities).fixed == ()


def test_an_engine_that_was_upgraded_since_makes_no_drift() -> None:
    desired, found = desired_of(NEW), recorded("20.10")
    differs = drift.container_differences(desired.documents.container, found["container"], found["image"], NEW)
    assert (differs.updatable, differs.fixed) == ((), ())
    assert drift.network_differences(desired.documents.network, found["network"]) == ()


def _other(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 4096
        case str():
            return f"{value}x"
        case list():
            return value[:-1] if value and not isinstance(value[0], int) else [*value, 7]
        case dict():
            return {**value, "added": "x"}
        case _:
            return ["something"]


# What may differ without anything being wrong, and why.
HARMLESS = {
    "Init": "depends on what the engine has to offer",
}


@pytest.mark.parametrize(("release", "capabilities"), RELEASES)
def test_every_setting_of_the_host_counts(release: str, capabilities: EngineCapabilities) -> None:
    desired, found = desired_of(capabilities), recorded(release)
    unnoticed = []
    for key, value in found["container"]["HostConfig"].items():
        changed = copy.deepcopy(found["container"])
        changed["HostConfig"][key] = _other(value)
        differs = drift.container_differences(desired.documents.container, changed, found["image"], capabilities)
        place = differs.updatable if key in drift.UPDATABLE else differs.fixed
        if f"HostConfig.{key}" not in place:
            unnoticed.append(key)
    assert set(unnoticed) <= HARMLESS.keys()


@pytest.mark.parametrize(
    "option",
    [
        "seccomp=unconfined",
        'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}',
        "seccomp=" + STRICT.replace('"accept",', '"accept","ptrace",'),
        None,
    ],
    ids=["none", "nothing refused", "one call more", "the engine's own"],
)
def test_a_filter_that_is_not_the_one_asked_for_counts(option: str | None) -> None:
    desired, found = desired_of(security={"seccompProfile": {"type": "Strict"}}), recorded("29")
    options = found["container"]["HostConfig"]["SecurityOpt"]
    with_strict = copy.deepcopy(found["container"])
    with_strict["HostConfig"]["SecurityOpt"] = [f"seccomp={STRICT}", *options]
    found["container"]["HostConfig"]["SecurityOpt"] = [*options, *([option] if option else [])]
    for live, differs in ((with_strict, ()), (found["container"], ("HostConfig.SecurityOpt",))):
        fixed = drift.container_differences(desired.documents.container, live, found["image"], NEW).fixed
        assert fixed == differs


CONFIG = {
    "User": "0:0",
    "Env": ["HOME=/home/claude"],
    "Cmd": ["/bin/evil"],
    "Entrypoint": ["/bin/evil"],
    "Image": "example.org/evil",
    "WorkingDir": "/",
    "Hostname": "evil",
    "Tty": True,
    "OpenStdin": True,
    "Healthcheck": {"Test": ["NONE"]},
    "Volumes": {"/extra": {}},
    "ExposedPorts": {"22/tcp": {}},
    "Labels": {},
    "StopTimeout": 1,
}


@pytest.mark.parametrize(("release", "capabilities"), RELEASES)
@pytest.mark.parametrize("key", CONFIG)
def test_every_setting_of_the_process_counts(release: str, capabilities: EngineCapabilities, key: str) -> None:
    desired, found = desired_of(capabilities), recorded(release)
    found["container"]["Config"][key] = CONFIG[key]
    differs = drift.container_differences(desired.documents.container, found["container"], found["image"], capabilities)
    assert any(path.startswith(f"Config.{key}") for path in differs.fixed)


def test_a_variable_that_was_added_is_named_and_its_value_is_not() -> None:
    desired, found = desired_of(), recorded("29")
    found["container"]["Config"]["Env"].append("ANTHROPIC_BASE_URL=https://evil.example")
    fixed = drift.container_differences(desired.documents.container, found["container"], found["image"], NEW).fixed
    assert fixed == ("Config.Env.ANTHROPIC_BASE_URL",)


@pytest.mark.parametrize(
    "mount",
    [
        {"Type": "bind", "Source": "/etc", "Destination": "/etc-of-host", "RW": True},
        {"Type": "volume", "Name": "another", "Destination": "/data", "RW": True},
    ],
)
def test_what_is_mounted_beside_counts(mount: dict[str, Any]) -> None:
    desired, found = desired_of(), recorded("29")
    found["container"]["Mounts"].append(mount)
    fixed = drift.container_differences(desired.documents.container, found["container"], found["image"], NEW).fixed
    assert fixed == (f"Mounts.{mount['Destination']}",)


def test_a_key_that_could_be_written_over_counts() -> None:
    desired, found = desired_of(), recorded("29")
    for mount in found["container"]["Mounts"]:
        mount["RW"] = True
    fixed = drift.container_differences(desired.documents.container, found["container"], found["image"], NEW).fixed
    assert set(fixed) == {"Mounts./run/claude-sandbox/api-key", "Mounts./etc/claude-code"}


NETWORK: list[tuple[str, Any, str]] = [
    ("Internal", False, "Internal"),
    ("Driver", "macvlan", "Driver"),
    ("Attachable", True, "Attachable"),
    ("EnableIPv6", True, "EnableIPv6"),
    ("Ingress", True, "Ingress"),
    ("Scope", "swarm", "Scope"),
    ("Options", {}, "Options.com.docker.network.bridge.enable_icc"),
    ("Labels", {}, "Labels."),
]


@pytest.mark.parametrize(("release", "capabilities"), RELEASES)
@pytest.mark.parametrize(("key", "value", "path"), NETWORK)
def test_everything_about_the_network_counts(
    release: str, capabilities: EngineCapabilities, key: str, value: Any, path: str
) -> None:
    desired, found = desired_of(capabilities), recorded(release)
    found["network"][key] = value
    differs = drift.network_differences(desired.documents.network, found["network"])
    assert any(one.startswith(path) for one in differs)


def test_an_address_of_the_host_on_the_network_counts() -> None:
    for release, capabilities, option in (
        ("29", NEW, "com.docker.network.bridge.gateway_mode_ipv4"),
        ("20.10", OLD, "com.docker.network.bridge.inhibit_ipv4"),
    ):
        desired, found = desired_of(capabilities), recorded(release)
        del found["network"]["Options"][option]
        assert drift.network_differences(desired.documents.network, found["network"]) == (f"Options.{option}",)


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({"type": "tmpfs", "device": "tmpfs", "o": "noexec,nodev,nosuid,size=64k,uid=1000,gid=1000,mode=0700"}, False),
        ({}, True),
        ({"type": "none", "device": "/etc", "o": "bind"}, True),
        ({"type": "tmpfs", "device": "tmpfs", "o": "nosuid,nodev,noexec,size=64k,uid=1000,gid=1000,mode=0777"}, True),
    ],
)
def test_a_key_volume_that_is_another_place_counts(options: dict[str, str], differs: bool) -> None:
    desired: Desired = desired_of()
    live = {**recorded("29")["volumes"][0], "Options": options}
    assert bool(drift.volume_differences(desired.documents.key, live)) is differs


@pytest.mark.parametrize(
    ("asked", "live", "differs"),
    [
        (None, "runc", False),
        (None, "", False),
        (None, "runsc", True),
        ("runsc", "runsc", False),
        ("runsc", "runc", True),
        ("runsc", "", True),
    ],
)
def test_a_runtime_that_is_asked_for_is_the_one_that_the_container_has(
    asked: str | None, live: str, differs: bool
) -> None:
    wanted, found = copy.deepcopy(desired_of(NEW).documents.container), recorded("29")
    wanted["HostConfig"] |= {"Runtime": asked} if asked else {}
    found["container"]["HostConfig"]["Runtime"] = live
    paths = drift.container_differences(wanted, found["container"], found["image"], NEW).fixed
    assert paths == (("HostConfig.Runtime",) if differs else ())
