"""The set-ups that people copy, as an engine shows them: the guide's own, and the hardened one of Claude's docs."""

import copy
from typing import Any

from compliant_container import NOW, compliant, written

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.evidence.containers import Declared, DockerEvidence
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.containers import findings

Object = dict[str, Any]

_KEY = "sk-ant-api03-" + "x" * 40


def plain() -> Object:
    """What `docker run IMAGE` makes on Engine 29: no option given."""
    container = copy.deepcopy(compliant().container)
    container["HostConfig"] |= {
        "NetworkMode": "bridge",
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "CapDrop": None,
        "ReadonlyRootfs": False,
        "SecurityOpt": None,
        "Runtime": "runc",
        "Memory": 0,
        "MemorySwap": 0,
        "NanoCpus": 0,
        "PidsLimit": None,
        "Ulimits": None,
    }
    for omitted in ("Mounts", "Tmpfs"):
        del container["HostConfig"][omitted]
    container |= {"Mounts": [], "ProcessLabel": ""}
    container["Config"] |= {"User": "", "Image": "node:20-bullseye", "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]}
    del container["Config"]["Healthcheck"]
    del container["State"]["Health"]
    container["NetworkSettings"]["Networks"] = {"bridge": {"NetworkID": "9" * 64, "GwPriority": 0}}
    return container


def bind(source: str, destination: str, *, writable: bool) -> Object:
    return {
        "Type": "bind",
        "Source": source,
        "Destination": destination,
        "Mode": "rw" if writable else "ro",
        "RW": writable,
        "Propagation": "rprivate",
    }


def guide() -> Object:
    """The guide's compose file as it really is: privileged, the engine's socket, its port open, the key in the env."""
    container = plain()
    ports = {
        "2376/tcp": [{"HostIp": "0.0.0.0", "HostPort": "2376"}, {"HostIp": "::", "HostPort": "2376"}],  # noqa: S104
        "3000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "3000"}, {"HostIp": "::", "HostPort": "3000"}],  # noqa: S104
    }
    container["HostConfig"] |= {
        "Privileged": True,
        "Binds": [
            "/var/run/docker.sock:/var/run/docker.sock:rw",
            "/srv/claude-code-docker/workspace:/workspace:rw",
        ],
        "NetworkMode": "claude-code-docker_default",
        "PortBindings": ports,
        "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
        # What the engine adds for a privileged container, and what it leaves out.
        "SecurityOpt": ["label=disable"],
        "MaskedPaths": None,
        "ReadonlyPaths": None,
    }
    container["Mounts"] = [
        bind("/var/run/docker.sock", "/var/run/docker.sock", writable=True),
        bind("/srv/claude-code-docker/workspace", "/workspace", writable=True),
        {
            "Type": "volume",
            "Name": "claude-code-docker_claude-home",
            "Source": "/var/lib/docker/volumes/claude-code-docker_claude-home/_data",
            "Destination": "/home/claude",
            "Driver": "local",
            "Mode": "z",
            "RW": True,
            "Propagation": "",
        },
    ]
    container["AppArmorProfile"] = "unconfined"
    container["Config"] |= {
        "User": "claude",
        "Image": "claude-code-docker-claude-code",
        "Env": [f"CLAUDE_API_KEY={_KEY}", "DOCKER_HOST=unix:///var/run/docker.sock"],
    }
    container["NetworkSettings"] |= {
        "Ports": ports,
        "Networks": {"claude-code-docker_default": {"NetworkID": "9" * 64, "GwPriority": 0}},
    }
    return container


def hardened() -> Object:
    """The run that Claude's documents give for a hardened deployment."""
    container = plain()
    container["HostConfig"] |= {
        "Binds": ["/srv/code:/workspace:ro", "/var/run/proxy.sock:/var/run/proxy.sock:ro"],
        "NetworkMode": "none",
        "CapDrop": ["ALL"],
        "ReadonlyRootfs": True,
        "SecurityOpt": [
            "no-new-privileges",
            'seccomp={"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}',
        ],
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,size=100m", "/home/agent": "rw,noexec,nosuid,size=500m"},
        "Memory": 2147483648,
        "NanoCpus": 2000000000,
        "PidsLimit": 100,
    }
    container["Mounts"] = [
        bind("/srv/code", "/workspace", writable=False),
        bind("/var/run/proxy.sock", "/var/run/proxy.sock", writable=False),
    ]
    container["Config"] |= {"User": "1000:1000", "Image": "agent-image"}
    container["NetworkSettings"]["Networks"] = {"none": {"NetworkID": "9" * 64, "GwPriority": 0}}
    return container


def measured(container: Object, declared: Declared | None = None, result: Result | None = None) -> dict[str, Result]:
    reading = Reading(container, EvidenceSource.INSPECT, NOW)
    found = findings(DockerEvidence(declared or Declared(), reading, NOW))
    return {one.control.id: one.result for one in found if result in (None, one.result)}


def test_the_guide_s_own_set_up_fails_what_it_says_it_does() -> None:
    assert measured(guide(), result=Result.FAIL).keys() == {
        # "Capability dropping", "no privileged mode required", "no-new-privileges", "seccomp profile"
        *("PRIV-01", "PRIV-02", "PRIV-03", "KERN-01", "KERN-02", "KERN-03", "KERN-04", "KERN-06"),
        # Who is privileged changes the network's filters.
        "NET-09",
        # "Localhost binding", "only exposes necessary ports"
        "NS-06",
        # "Limited access"; the socket is writable, and a root file system that is as well
        *("FS-01", "FS-03", "FS-05"),
        # what holds the socket is below the host's /run
        "FS-02",
        # "Memory (2GB) and CPU (2 cores) limits"
        *("RES-01", "RES-02", "RES-03", "RES-04", "RES-05"),
        # "No hardcoded keys": everyone who may inspect the container reads it
        "SEC-01",
        # "Health checks", "regular updates"
        *("OPS-01", "IMG-01"),
    }


def test_what_the_guide_s_set_up_leaves_open_is_not_passed_over() -> None:
    # The user is named, not numbered; its network, volume, mounts and users' namespace are not in its document.
    unknown = measured(guide(), result=Result.UNKNOWN).keys()
    assert unknown == {
        *("PRIV-04", "PRIV-05", "PRIV-06", "PRIV-07", "KERN-07", "FS-08", "NET-03", "NET-04", "NET-07", "NET-08"),
        *("SEC-03", "OPS-02"),
    }


def test_the_key_of_the_guide_s_set_up_is_in_nothing_that_is_said() -> None:
    reading = Reading(guide(), EvidenceSource.INSPECT, NOW)
    assert _KEY not in repr([one.verdict for one in findings(DockerEvidence(Declared(), reading, NOW))])


def test_the_hardened_run_passes_what_it_hardens() -> None:
    declared = Declared(workspaces=frozenset({"/workspace"}), mounts=frozenset({"/var/run/proxy.sock"}))
    found = measured(hardened(), declared)
    # What it leaves out: a digest, a health check, ulimits, a runtime of its own.
    assert (
        written({id: result for id, result in found.items() if result is Result.FAIL}) == "KERN-06 RES-04 IMG-01 OPS-01"
    )
    assert {id for id, result in found.items() if result is Result.UNKNOWN} == {
        *("PRIV-06", "PRIV-07", "KERN-07", "NET-03", "NET-04", "NET-07", "NET-09", "OPS-02"),
    }


def test_of_the_hardened_run_only_the_health_check_counts_in_development() -> None:
    declared = Declared(workspaces=frozenset({"/workspace"}), mounts=frozenset({"/var/run/proxy.sock"}))

    def counting(profile: Profile) -> set[str]:
        evidence = DockerEvidence(
            Declared(profile, declared.workspaces, declared.mounts),
            Reading(hardened(), EvidenceSource.INSPECT, NOW),
            NOW,
        )
        return {one.control.id for one in findings(evidence) if one.required and one.result is Result.FAIL}

    assert counting(Profile.DEVELOPMENT) == {"OPS-01"}
    assert counting(Profile.PRODUCTION) == {"OPS-01", "IMG-01", "RES-04"}


def test_what_the_hardened_run_mounts_is_not_taken_for_meant_until_it_is_declared() -> None:
    found = measured(hardened())
    assert {id for id in ("FS-02", "FS-03") if found[id] is not Result.PASS} == {"FS-02", "FS-03"}


def test_a_container_without_any_option_is_told_what_it_lacks() -> None:
    assert measured(plain(), result=Result.FAIL).keys() == {
        *("PRIV-02", "PRIV-03", "PRIV-04", "PRIV-05", "KERN-06", "FS-01"),
        *("RES-01", "RES-02", "RES-03", "RES-04", "NET-08", "IMG-01", "OPS-01"),
    }
