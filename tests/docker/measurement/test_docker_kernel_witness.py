"""The kernel's own word on real containers: it finds nothing at a hardened one, and everything at a loose one.

What is judged is only what the kernel says; the engine's document could say anything.
"""

import collections
import contextlib
import io
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from docker.models.containers import Container
from enginekit import client, hardened, own
from nodekit import eventually

from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker.evidence.file_looks import look_at
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

DECLARED = Declared(workspaces=frozenset({"/workspace"}), ports=())

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
    "something that listens": ("OPS-02", {"entrypoint": ["nc", "-l", "-p", "2222"]}),
    "a device": ("FS-05", {"devices": ["/dev/fuse:/dev/x"]}),
    "another volume": ("FS-08", {"volumes": {"kernel-witness": {"bind": "/data", "mode": "rw"}}}),
}


@contextlib.contextmanager
def read(
    of: EngineDescription, image: str = TINY, **options: Any
) -> Iterator[tuple[Process, document.Container, Container]]:
    """What the kernel says of a container on no network, and what the engine does."""
    with client(of) as connected:
        settings: dict[str, Any] = {
            "network_mode": "none",
            "ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 64}],
            "name": own("witness"),
        }
        made = hardened(connected, image, **{**settings, **options})
        try:
            made.reload()
            process = told(made)
            assert process.mounts
            assert process.namespaces.keys() >= {"ipc", "pid", "uts", "cgroup"}
            yield process, document.Container(made.attrs, DECLARED), made
        finally:
            made.remove(force=True)
            for volume in options.get("volumes", {}):
                connected.volumes.get(volume).remove()


def told(made: Container) -> Process:
    """What the kernel says now, and what the container's own files are."""
    process = read_process(made.attrs)
    assert process is not None
    files = look_at(made.attrs, process)
    assert files is not None
    return replace(process, files=files)


def failing(process: Process, said: document.Container) -> set[str]:
    return {id for id, judge in WITNESSED.items() if judge(process, said).result is Result.FAIL}


def test_of_a_hardened_container_the_kernel_confirms_everything(docker_engine: EngineDescription) -> None:
    with read(docker_engine) as (process, said, _):
        results = {id: judge(process, said).result for id, judge in WITNESSED.items()}
        others = {id for id, result in results.items() if result is not Result.PASS}
        # What it says of devices can only refute.
        assert others <= MACHINES | SHARED_USERS | UNDECLARED | {"FS-05"}
        assert results["PRIV-06"] is Result.FAIL
        assert results["SEC-04"] is Result.UNKNOWN


def test_what_an_engine_mounts_while_a_file_is_copied_is_not_taken_for_the_container_s(
    docker_engine: EngineDescription,
) -> None:
    volume = own("copied")
    with read(docker_engine, volumes={volume: {"bind": "/data", "mode": "ro"}}) as (before, _, made):
        ends = threading.Event()

        def copy() -> None:
            while not ends.wait(0.1):
                stream, _ = made.get_archive("/data")
                collections.deque(stream, maxlen=0)

        with ThreadPoolExecutor(1) as beside:
            copying = beside.submit(copy)
            try:
                seen = [told(made).mounts for _ in range(30)]
            finally:
                ends.set()
            copying.result()
    assert {mounts == before.mounts for mounts in seen} == {True}


@pytest.mark.by_turns
@pytest.mark.parametrize("name", LOOSE)
def test_each_thing_that_is_loose_the_kernel_tells_by_itself(docker_engine: EngineDescription, name: str) -> None:
    expected, options = LOOSE[name]
    with read(docker_engine, **options) as (process, said, made):

        def found(process: Process) -> set[str]:
            return failing(process, said) - MACHINES - SHARED_USERS

        if found(process) != set(expected.split()):
            # What it runs may be only beginning.
            eventually("it is as it is made", lambda: found(told(made)) == set(expected.split()))


def test_files_of_its_image_are_told_whatever_the_engine_says_of_it(docker_engine: EngineDescription) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as files:
        for name, kind, mode in (("opt/su", tarfile.REGTYPE, 0o4755), ("opt/kmsg", tarfile.CHRTYPE, 0o666)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.devmajor, entry.devminor = kind, mode, 1, 11
            files.addfile(entry)
    with client(docker_engine) as connected:
        made = connected.containers.create(TINY)
        image = ""
        try:
            assert made.put_archive("/", archive.getvalue())
            image = str(made.commit().id)
            with read(docker_engine, image) as (process, said, _):
                assert failing(process, said) - MACHINES - SHARED_USERS == {"FS-05", "PRIV-07"}
                assert "/opt/su (set-user-ID)" in WITNESSED["PRIV-07"](process, said).message
                assert "/opt/kmsg (c 1:11)" in WITNESSED["FS-05"](process, said).message
                # Nobody gains anything by it.
                assert "without effect then: /opt/su (set-user-ID)" in WITNESSED["PRIV-03"](process, said).value
            with read(docker_engine, image, security_opt=[]) as (process, said, _):
                verdict = WITNESSED["PRIV-03"](process, said)
                assert verdict.result is Result.FAIL
                assert "by programs of its image: /opt/su (set-user-ID)" in verdict.message
        finally:
            made.remove(force=True)
            if image:
                connected.images.remove(image)


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
        said = document.Container({**made.attrs, "HostConfig": {**host, **smaller}}, DECLARED)
        assert failing(process, said) - MACHINES - SHARED_USERS == {"RES-01", "RES-02", "RES-03", "RES-04"}


def test_another_containers_process_is_no_witness(docker_engine: EngineDescription) -> None:
    with read(docker_engine) as (_, _, made):
        assert read_process({**made.attrs, "Id": "f" * 64}) is None
        assert read_process({**made.attrs, "State": {**made.attrs["State"], "Pid": 1}}) is None
