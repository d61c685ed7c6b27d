"""A sandbox's desired documents and a live engine that has exactly them, for tests to change one thing of."""

import copy
import json
from pathlib import Path
from typing import Any

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.model import Delivered, Desired, Observed
from claude_sandbox.backends.docker.objects import Documents, documents
from claude_sandbox.blueprint.build import build
from claude_sandbox.blueprint.model import Blueprint, Identity, Image, Site

CLUSTER = "c1"
IDENTITY = Identity("agents", "alice", "0b0c7f1e-1111-2222-3333-444455556666")
DIGEST = "sha256:" + "a" * 64
NEW = EngineCapabilities("29.8.0", (1, 56), has_init=True, keeps_from_swap=True)
OLD = EngineCapabilities("20.10.24", (1, 41), has_init=True)
_HERE = Path(__file__).parent


def spec_of(**fields: Any) -> ClaudeSandboxSpec:
    mounted = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Mounted"}
    wanted = {"credentials": mounted, "backend": {"type": "Docker"}, **fields}
    return ClaudeSandboxSpec.model_validate_json(json.dumps(wanted))


def blueprint_of(**fields: Any) -> Blueprint:
    return build(IDENTITY, spec_of(**fields), Site(Image(f"example.org/claude@{DIGEST}", DIGEST, "IfNotPresent")))


def desired_of(capabilities: EngineCapabilities = NEW, **fields: Any) -> Desired:
    blueprint, spec = blueprint_of(**fields), spec_of(**fields)
    return Desired(
        identity=IDENTITY,
        cluster=CLUSTER,
        capabilities=capabilities,
        documents=documents(blueprint, CLUSTER, capabilities),
        settings=blueprint.settings.content,
        suspended=not blueprint.running,
        may_start=True,
        key_generation="7",
        update=spec.update_strategy.type,
        liveness=blueprint.liveness,
    )


def recorded(release: str) -> dict[str, Any]:
    """What an engine of this release answered about the desired container, with all that it fills in."""
    found: dict[str, Any] = json.loads((_HERE / f"inspected-{release}.json").read_text())
    return found


def live_of(desired: Desired) -> Observed:
    """All as desired, running, with its key; engines' own additions left out."""
    wanted: Documents = desired.documents
    config = {key: value for key, value in wanted.container.items() if key not in ("HostConfig", "NetworkingConfig")}
    container = {
        "Id": "1" * 64,
        "Name": f"/{wanted.names.container}",
        "Image": "sha256:" + "b" * 64,
        "State": {"Status": "running", "Running": True, "Paused": False, "StartedAt": "2026-03-01T12:00:00Z"},
        "Config": copy.deepcopy(config),
        "HostConfig": copy.deepcopy(wanted.container["HostConfig"])
        | {
            "Runtime": "runc",
            "MaskedPaths": [
                *("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi"),
                *("/proc/timer_list", "/sys/firmware"),
            ],
            "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
        "Mounts": [
            {"Type": "volume", "Name": one["Source"], "Destination": one["Target"], "RW": not one["ReadOnly"]}
            for one in wanted.container["HostConfig"]["Mounts"]
        ],
        "NetworkSettings": {"Networks": {wanted.names.network: {"NetworkID": "2" * 64}}},
    }
    network = copy.deepcopy(wanted.network) | {"Id": "2" * 64, "Scope": "local", "Containers": {}}
    volumes = {
        one["Name"]: {"Name": one["Name"], "Driver": "local", "Options": one["DriverOpts"], "Labels": one["Labels"]}
        for one in copy.deepcopy(wanted.volumes)
    }
    return Observed(
        container=container,
        image={"Id": container["Image"], "Config": {}},
        delivered=Delivered("7", desired.settings),
        network=network,
        volumes=volumes,
    )
