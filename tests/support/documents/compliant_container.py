"""A container of which every control that its document can decide passes; the tests change one thing at a time.

Laid out as Docker Engine 29 answers (API 1.52), with what it leaves out left out.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.evidence.containers import (
    Companion,
    Declared,
    DockerEvidence,
    EngineInfo,
    ExecSessions,
    KeyPlace,
)
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.compliance.reports.findings import Finding

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
IDENTIFIER = "1" * 64
NETWORK = "2" * 64

Object = dict[str, Any]


@dataclass
class World:
    """What the engine would answer, for the tests to change."""

    container: Object
    networks: list[Object]
    volumes: list[Object]
    declared: Declared
    drift: tuple[str, ...] | None = ()
    remaps_users: bool | None = None
    unenforced: frozenset[str] = frozenset()
    default_seccomp: str | None = None
    isolates: bool | None = None
    relay: Companion | None = None
    gateway: Companion | None = None
    visits: ExecSessions | None = None
    key_place: KeyPlace | None = None

    @property
    def host(self) -> Object:
        found: Object = self.container["HostConfig"]
        return found

    @property
    def config(self) -> Object:
        found: Object = self.container["Config"]
        return found

    def declare(self, **fields: Any) -> None:
        """Change what the container is declared to be."""
        self.declared = replace(self.declared, **fields)

    def bind(self, source: str, destination: str, *, writable: bool = False, propagation: str = "rprivate") -> None:
        """Mount a path of the host, as `-v` does."""
        self.host["Binds"] = [*(self.host["Binds"] or ()), f"{source}:{destination}{'' if writable else ':ro'}"]
        self.container["Mounts"].append(
            {
                "Type": "bind",
                "Source": source,
                "Destination": destination,
                "Mode": "" if writable else "ro",
                "RW": writable,
                "Propagation": propagation,
            }
        )

    def publish(self, port: str, *addresses: str) -> None:
        """Publish a port on the host's port 8080, as the engine reports it once it runs."""
        for bindings in (self.host["PortBindings"], self.container["NetworkSettings"]["Ports"]):
            bindings[port] = [{"HostIp": address, "HostPort": "8080"} for address in addresses]

    def found(self) -> tuple[Finding, ...]:
        """What the controls find."""
        return findings(
            DockerEvidence(
                declared=self.declared,
                container=Reading(self.container, EvidenceSource.INSPECT, NOW),
                now=NOW,
                networks=tuple(self.networks),
                volumes=tuple(self.volumes),
                drift=None if self.drift is None else Reading(self.drift, EvidenceSource.INSPECT, NOW),
                engine=EngineInfo(self.remaps_users, self.unenforced, self.default_seccomp, self.isolates),
                relay=self.relay,
                gateway=self.gateway,
                visits=self.visits,
                key_place=self.key_place,
            )
        )

    def results(self) -> dict[str, Result]:
        """The result of each control by its identifier."""
        return {finding.control.id: finding.result for finding in self.found()}


Mutation = Callable[[World], Any]


def changed(*mutations: Mutation) -> World:
    """The compliant container after `mutations`."""
    world = compliant()
    for mutate in mutations:
        mutate(world)
    return world


def different(before: dict[str, Result], after: dict[str, Result]) -> dict[str, Result]:
    """The results that are not as before."""
    return {id: result for id, result in after.items() if result is not before[id]}


def written(results: dict[str, Result]) -> str:
    """As the tables of the tests write it: `PRIV-01 NET-08?`, with a question mark for Unknown."""
    marks = {Result.UNKNOWN: "?", Result.FAIL: "", Result.PASS: "+", Result.NOT_APPLICABLE: "-"}
    return " ".join(f"{id}{marks[result]}" for id, result in results.items())


def compliant() -> World:
    """Everything as it should be."""
    return World(
        container=copy.deepcopy(_CONTAINER),
        networks=[copy.deepcopy(_NETWORK)],
        volumes=[copy.deepcopy(_VOLUME)],
        declared=Declared(
            profile=Profile.PRODUCTION,
            workspaces=frozenset({"/workspace"}),
            ports=(),
            image_digest=DIGEST,
            allowed_registries=("registry.example/sandboxes",),
        ),
    )


def paths_of(document: Any, prefix: tuple[Any, ...] = ()) -> Sequence[tuple[Any, ...]]:
    """Where every field of a document is, as keys and indices from its top."""
    found: list[tuple[Any, ...]] = []
    if isinstance(document, dict):
        for key, value in document.items():
            found += [(*prefix, key), *paths_of(value, (*prefix, key))]
    elif isinstance(document, list):
        for index, value in enumerate(document):
            found += paths_of(value, (*prefix, index))
    return found


_NETWORK: Object = {
    "Name": "sandbox-alice",
    "Id": NETWORK,
    "Scope": "local",
    "Driver": "bridge",
    "EnableIPv4": True,
    "EnableIPv6": False,
    "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "172.18.0.0/16"}]},
    "Internal": True,
    "Attachable": False,
    "Ingress": False,
    "Containers": {IDENTIFIER: {"Name": "alice", "IPv4Address": "172.18.0.2/16"}},
    "Options": {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"},
    "Labels": {},
}

_VOLUME: Object = {
    "CreatedAt": "2026-03-01T10:59:00Z",
    "Driver": "local",
    "Labels": None,
    "Mountpoint": "/var/lib/docker/volumes/alice-workspace/_data",
    "Name": "alice-workspace",
    "Options": {"size": "10737418240"},
    "Scope": "local",
}

_CONTAINER: Object = {
    "Id": IDENTIFIER,
    "Created": "2026-03-01T11:00:00.000000000Z",
    "Path": "/usr/bin/tini",
    "Args": ["--", "/usr/local/bin/entrypoint"],
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 4242,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "2026-03-01T11:00:01.000000000Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "Health": {"Status": "healthy", "FailingStreak": 0, "Log": []},
    },
    "Image": "sha256:" + "f" * 64,
    "Name": "/alice",
    "RestartCount": 0,
    "Driver": "overlay2",
    "Platform": "linux",
    "MountLabel": "",
    "ProcessLabel": "system_u:system_r:container_t:s0:c1,c2",
    "AppArmorProfile": "docker-default",
    "ExecIDs": None,
    "HostConfig": {
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}},
        "NetworkMode": "sandbox-alice",
        "PortBindings": {},
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5},
        "AutoRemove": False,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "ConsoleSize": [0, 0],
        "Mounts": [
            {"Type": "volume", "Source": "alice-workspace", "Target": "/workspace"},
            {"Type": "tmpfs", "Target": "/home/claude", "TmpfsOptions": {"SizeBytes": 536870912}},
        ],
        "CapAdd": None,
        "CapDrop": ["ALL"],
        "CgroupnsMode": "private",
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": None,
        "GroupAdd": None,
        "IpcMode": "private",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": 0,
        "PidMode": "",
        "Privileged": False,
        "PublishAllPorts": False,
        "ReadonlyRootfs": True,
        "SecurityOpt": ["no-new-privileges"],
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=256m"},
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": 67108864,
        "Runtime": "runsc",
        "Isolation": "",
        "CpuShares": 0,
        "Memory": 2147483648,
        "NanoCpus": 2000000000,
        "CgroupParent": "",
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "Devices": [],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": 0,
        "MemorySwap": 2147483648,
        "MemorySwappiness": None,
        "OomKillDisable": None,
        "PidsLimit": 512,
        "Ulimits": [{"Name": "nofile", "Hard": 8192, "Soft": 4096}],
        "MaskedPaths": [
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/sys/devices/virtual/powercap",
            "/sys/firmware",
        ],
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
    "GraphDriver": {"Name": "overlay2", "Data": None},
    "Mounts": [
        {
            "Type": "volume",
            "Name": "alice-workspace",
            "Source": "/var/lib/docker/volumes/alice-workspace/_data",
            "Destination": "/workspace",
            "Driver": "local",
            "Mode": "z",
            "RW": True,
            "Propagation": "",
        },
        {"Type": "tmpfs", "Source": "", "Destination": "/home/claude", "Mode": "", "RW": True, "Propagation": ""},
    ],
    "Config": {
        "Hostname": "alice",
        "Domainname": "",
        "User": "1000:1000",
        "AttachStdin": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/claude", "CLAUDE_CODE_API_KEY_HELPER_TTL_MS=1000"],
        "Cmd": None,
        "Image": f"registry.example/sandboxes/claude@{DIGEST}",
        "Healthcheck": {"Test": ["CMD", "claude", "--version"], "Interval": 30000000000},
        "WorkingDir": "/workspace",
        "Entrypoint": ["/usr/bin/tini", "--", "/usr/local/bin/entrypoint"],
        "Labels": {"org.opencontainers.image.title": "Claude Code"},
    },
    "NetworkSettings": {
        "SandboxID": "3" * 64,
        "SandboxKey": "/var/run/docker/netns/333333333333",
        "Ports": {},
        "Networks": {
            "sandbox-alice": {
                "IPAMConfig": None,
                "Links": None,
                "Aliases": None,
                "DriverOpts": None,
                "GwPriority": 0,
                "NetworkID": NETWORK,
                "EndpointID": "4" * 64,
                "Gateway": "",
                "IPAddress": "172.18.0.2",
                "IPPrefixLen": 16,
                "DNSNames": ["alice", "111111111111"],
            }
        },
    },
}
