"""What engines say of themselves: one that has everything that is asked of it, and an old one as it is installed."""

from datetime import UTC, datetime, timedelta
from typing import Any

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.compliance.evidence.docker_hosts import EngineDocuments, HostEvidence
from claude_sandbox.compliance.evidence.readings import Reading

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def good_info() -> dict[str, Any]:
    return {
        "ID": "7b1e6b5d-6d0f-4a0e-8d5c-1f2a3b4c5d6e",
        "OSType": "linux",
        "OperatingSystem": "Debian GNU/Linux 12 (bookworm)",
        "KernelVersion": "6.1.0-18-amd64",
        "Architecture": "x86_64",
        "NCPU": 8,
        "MemTotal": 32 * 2**30,
        "Driver": "overlay2",
        "CgroupDriver": "systemd",
        "CgroupVersion": "2",
        "LoggingDriver": "json-file",
        "DefaultRuntime": "runc",
        "MemoryLimit": True,
        "SwapLimit": True,
        "CpuCfsQuota": True,
        "PidsLimit": True,
        "LiveRestoreEnabled": True,
        "ExperimentalBuild": False,
        "ServerVersion": "29.1.0",
        "SecurityOptions": [
            "name=apparmor",
            "name=seccomp,profile=builtin",
            "name=userns",
            "name=cgroupns",
            "name=no-new-privileges",
        ],
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": {"docker.io": {"Name": "docker.io", "Secure": True}},
        },
    }


def good_version() -> dict[str, Any]:
    return {
        "Version": "29.1.0",
        "ApiVersion": "1.52",
        "MinAPIVersion": "1.44",
        "Os": "linux",
        "Components": [
            {"Name": "Engine", "Version": "29.1.0", "Details": {"ApiVersion": "1.52"}},
            {"Name": "containerd", "Version": "v2.2.0"},
            {"Name": "runc", "Version": "1.3.3"},
        ],
    }


def good_bridge() -> dict[str, Any]:
    return {"Name": "bridge", "Options": {"com.docker.network.bridge.enable_icc": "false"}}


def evidence(
    *,
    info: dict[str, Any] | None = None,
    version: dict[str, Any] | None = None,
    bridge: dict[str, Any] | None = None,
    without_bridge: bool = False,
    **how: Any,
) -> HostEvidence:
    """That of the good engine, with what is given changed in its documents; None takes a field away."""
    documents = EngineDocuments(
        _changed(good_info(), info),
        _changed(good_version(), version),
        None if without_bridge else _changed(good_bridge(), bridge),
    )
    settings: dict[str, Any] = {"scheme": "unix", "mutual_tls": False, "max_age": timedelta(minutes=1), "now": NOW}
    return HostEvidence(engine=Reading(documents, EvidenceSource.INSPECT, NOW), **(settings | how))


def _changed(document: dict[str, Any], changes: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (document | (changes or {})).items() if value is not None}
