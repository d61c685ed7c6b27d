"""The kernel's own word on real containers: it finds nothing at a hardened one, and everything at a loose one.

What is judged is only what the kernel says; the engine's document could say anything.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from docker.models.containers import Container
from enginekit import client, hardened, own

from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker.evidence.proc import read_process
from claude_sandbox.compliance.catalogue import WITNESSED
from claude_sandbox.compliance.containers import container as document
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = pytest.mark.engine

TINY = "claudesandbox.dev/tiny:1"
# This machine has no AppArmor to speak of, or has: either way it says nothing wrong.
MACHINES = {"KERN-02"}
# The engines here give containers the machine's own users.
SHARED_USERS = {"PRIV-06"}
# No managed settings are declared of what is made here, so that the kernel has nothing to confirm of them.
UNDECLARED = {"SEC-04"}

LOOSE: dict[str, tuple[str, dict[str, Any]]] = {
    "capabilities": ("PRIV-02", {"cap_drop": [], "cap_add": ["CHOWN"]}),
    "privileges to be gained": ("PRIV-03", {"security_opt": []}),
    "root": ("PRIV-04 PRIV-05", {"user": "0:0"}),
    "a system's group": ("PRIV-05", {"group_add": ["10"]}),
    "no filter": ("KERN-01", {"security_opt": ["no-new-privileges", "seccomp=unconfined"]}),
    "the host's processes": ("NS-01", {"pid_mode": "host", "init": False}),
    # The host's /dev/shm comes with it, which is as large as that may grow.
    "the host's memory": ("NS-02 FS-07", {"ipc_mode": "host"}),
    "the host's name": ("NS-04", {"uts_mode": "host"}),
    "the host's control groups": ("NS-04", {"cgroupns": "host"}),
    "a root that can be written to": ("FS-01", {"read_only": False}),
    "scratch space with devices": ("FS-07", {"tmpfs": {"/tmp": "size=16m,dev"}}),
    "scratch space with setuid files": ("FS-07", {"tmpfs": {"/tmp": "size=16m,suid"}}),
    "another volume": ("FS-08", {"volumes": {"kernel-witness": {"bind": "/data", "mode": "rw"}}}),
}


@contextlib.contextmanager
def read(of: EngineDescription, **options: Any) -> Iterator[tuple[Process, document.Container, Container]]:
    """What the kernel says of a container on no network, and what the engine does."""
    with client(of) as connected:
        settings: dict[str, Any] = {
            "network_mode": "none",
            "ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 64}],
            "name": own("witness"),
        }
        made = hardened(connected, TINY, **{**settings, **options})
        try:
            made.reload()
            process = read_process(made.attrs)
            assert process is not None
            assert process.mounts
            assert process.namespaces.keys() >= {"ipc", "pid", "uts", "cgroup"}
            yield process, document.Container(made.attrs, Declared(workspaces=frozenset({"/workspace"}))), made
        finally:
            made.remove(force=True)
            for volume in options.get("volumes", {}):
                connected.volumes.get(volume).remove()


def failing(process: Process, said: document.Container) -> set[str]:
    return {id for id, judge in WITNESSED.items() if judge(process, said).result is Result.FAIL}


def test_of_a_hardened_container_the_kernel_confirms_everything(docker_engine: EngineDescription) -> None:
    with read(docker_engine) as (process, said, _):
        results = {id: judge(process, said).result for id, judge in WITNESSED.items()}
        others = {id for id, result in results.items() if result is not Result.PASS}
        assert others <= MACHINES | SHARED_USERS | UNDECLARED
        assert results["PRIV-06"] is Result.FAIL
        assert results["SEC-04"] is Result.UNKNOWN


@pytest.mark.parametrize("name", LOOSE)
def test_each_thing_that_is_loose_the_kernel_tells_by_itself(docker_engine: EngineDescription, name: str) -> None:
    expected, options = LOOSE[name]
    with read(docker_engine, **options) as (process, said, _):
        assert failing(process, said) - MACHINES - SHARED_USERS == set(expected.split())


def test_the_network_of_the_machines_first_process_is_told(docker_engine: EngineDescription) -> None:
    with read(docker_engine, network_mode="host") as (process, said, made):
        # An engine may itself be in a network of its own; then that is not the machine's.
        shared = process.namespaces["net"]
        assert ("NS-03" in failing(process, said)) is shared
        assert made.attrs["HostConfig"]["NetworkMode"] == "host"


def test_that_nothing_of_proc_is_covered_is_told(docker_engine: EngineDescription) -> None:
    with client(docker_engine) as connected:
        bare = {"MaskedPaths": [], "ReadonlyPaths": [], "ReadonlyRootfs": True, "NetworkMode": "none"}
        settings = {"Image": TINY, "Entrypoint": ["sleep", "infinity"], "HostConfig": bare}
        identifier = connected.api.create_container_from_config(settings)["Id"]
        try:
            connected.api.start(identifier)
            live = connected.api.inspect_container(identifier)
            process = read_process(live)
            assert process is not None
            verdict = WITNESSED["KERN-04"](process, document.Container(live))
        finally:
            connected.api.remove_container(identifier, force=True)
    assert verdict.result is Result.FAIL
    assert "/proc/sys" in verdict.message
    assert "/proc/keys" in verdict.message


def test_limits_of_another_document_are_refuted(docker_engine: EngineDescription) -> None:
    """As if the engine said less than the kernel has."""
    with read(docker_engine) as (process, _, made):
        host = made.attrs["HostConfig"]
        smaller = {
            "Memory": 1 << 20,
            "NanoCpus": 10_000_000,
            "PidsLimit": 2,
            "Ulimits": [{"Name": "nofile", "Hard": 1}],
        }
        said = document.Container(
            {**made.attrs, "HostConfig": {**host, **smaller}}, Declared(workspaces=frozenset({"/workspace"}))
        )
        assert failing(process, said) - MACHINES - SHARED_USERS == {"RES-01", "RES-02", "RES-03", "RES-04"}


def test_another_containers_process_is_no_witness(docker_engine: EngineDescription) -> None:
    with read(docker_engine) as (_, _, made):
        assert read_process({**made.attrs, "Id": "f" * 64}) is None
        assert read_process({**made.attrs, "State": {**made.attrs["State"], "Pid": 1}}) is None
