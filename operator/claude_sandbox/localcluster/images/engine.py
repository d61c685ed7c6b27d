"""A Docker Engine to build images with: the machine's own, or a private one that exists for the build only."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.programs.os_packages import Needed, Programs, ensure

_NEEDED = Needed(("docker.io",), ("dockerd", "containerd", "runc", "unshare", "setpriv"))
# Seconds. A build uploads and downloads a whole image in one call.
_CALL_TIMEOUT = 600
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0
_PREFIX = "build-"
_WITHOUT_KEY = 25
"""The first major version of the engine that makes itself no key."""
# An engine is named for its process.
_ONE = threading.Lock()


@contextmanager
def engine(report: Callable[[str], None]) -> Iterator[docker.DockerClient]:
    """The Docker Engine of DOCKER_HOST or of /var/run/docker.sock where one answers, else a private one.

    Raises LocalClusterError where there is neither an engine nor the rights to start one.
    """
    client = _reachable()
    if client is not None:
        with contextlib.closing(client):
            yield client
        return
    if os.geteuid() != 0:
        raise LocalClusterError(
            "No Docker Engine answers, and only root can start one for the build.",
            "Start Docker (or set DOCKER_HOST), or run the command as root.",
        )
    with _ONE, _private(report) as client, contextlib.closing(client):
        yield client


def _reachable() -> docker.DockerClient | None:
    try:
        client = docker.from_env(timeout=_CALL_TIMEOUT)
    except DockerException:
        return None
    try:
        client.ping()
    except (DockerException, RequestException, OSError):
        client.close()
        return None
    return client


@contextmanager
def _private(report: Callable[[str], None]) -> Iterator[docker.DockerClient]:
    programs = ensure(_NEEDED, report)
    report("Starting a private Docker Engine for the build; it ends with it.")
    parent = cache_dir() / "engine"
    _remove_leftovers(parent)
    root, run, cgroup = _places(parent, os.getpid())
    root.mkdir(mode=0o700, parents=True)
    run.mkdir(mode=0o700)
    process = _start(programs, root, run, cgroup)
    try:
        yield _connect(process, run / "docker.sock", root / "log")
    finally:
        _stop(process)
        _remove(parent, os.getpid())


def _places(parent: Path, pid: int) -> tuple[Path, Path, str]:
    """Where the engine of a process keeps its files and its sockets, and the control group of its containers."""
    # A socket's path may have 108 bytes at most, so it can't be below a cache directory of any length.
    name = f"claude-sandbox-build-{pid}"
    return parent / f"{_PREFIX}{pid}", Path(tempfile.gettempdir()) / name, name


def _remove(parent: Path, pid: int) -> None:
    root, run, cgroup = _places(parent, pid)
    _remove_cgroups(cgroup)
    shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)


def _start(programs: Programs, root: Path, run: Path, cgroup: str) -> subprocess.Popen[bytes]:
    # The machine's own configuration, should it have one, is not for this engine.
    (root / "daemon.json").write_text(json.dumps(_settings(programs, root)))
    namespaces = (
        # The engine's end is the end of all its processes and mounts, however it comes, and no packet leaves
        # a build: the images' content was fetched and checked before. When this process is killed, so is all.
        "--pdeathsig", "KILL", programs.path("unshare"),
        "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc",
    )  # fmt: skip
    daemon = (
        programs.path("dockerd"), "--config-file", root / "daemon.json", "--data-root", root / "data",
        "--exec-root", run / "exec", "--pidfile", run / "pid", "--host", f"unix://{run}/docker.sock",
        "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{cgroup}",
        "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
    )  # fmt: skip
    with (root / "log").open("wb") as log:
        return subprocess.Popen(
            [programs.path("setpriv"), *namespaces, *daemon], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, **programs.environment()}, start_new_session=True,
        )  # fmt: skip


def _settings(programs: Programs, root: Path) -> dict[str, str]:
    """Engines before 25 make themselves a key in the machine's /etc/docker, which nothing uses any more. Where it would
    be kept can be chosen, but newer ones refuse to start when it is."""
    version = subprocess.run(
        [programs.path("dockerd"), "--version"], env={**os.environ, **programs.environment()},
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    major = re.search(r"version (\d+)\.", version)
    old = major is not None and int(major[1]) < _WITHOUT_KEY
    return {"deprecated-key-path": str(root / "key.json")} if old else {}


def _connect(process: subprocess.Popen[bytes], socket: Path, log: Path) -> docker.DockerClient:
    deadline = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        if socket.exists():
            with contextlib.suppress(DockerException, RequestException, OSError):
                client = docker.DockerClient(base_url=f"unix://{socket}", timeout=_CALL_TIMEOUT)
                client.ping()
                return client
        time.sleep(0.1)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    raise LocalClusterError(
        f"The private Docker Engine did not start:\n{last}",
        "Start Docker yourself (or set DOCKER_HOST), and try again.",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    # The outer process (unshare) doesn't pass signals on; its child is the engine, first in its PID namespace.
    for child in _children(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _remove_cgroups(name: str) -> None:
    mounts = Path("/sys/fs/cgroup")
    for top in (mounts / name, *(hierarchy / name for hierarchy in mounts.iterdir() if hierarchy.is_dir())):
        for group, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(group).rmdir()


def _remove_leftovers(parent: Path) -> None:
    """Remove what builds left whose process is gone (killed, or the machine was restarted)."""
    for directory in parent.glob(f"{_PREFIX}*"):
        pid = int(directory.name.removeprefix(_PREFIX))
        if not Path("/proc", str(pid)).exists():
            _remove(parent, pid)
