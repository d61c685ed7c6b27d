"""A machine that systemd runs, with a real Docker Engine, on which the control plane and the operator are installed."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from dockerkit import IMAGE, counted
from enginekit import own, ready
from nodekit import report
from systemd_machine import Machine

from claude_sandbox.api import meta
from claude_sandbox.install.inside import run_inside
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.programs import toolchain

COMMAND = "/usr/local/lib/claude-sandbox/bin/claude-sandbox"
KUBECTL = "/usr/local/lib/claude-sandbox/bin/kubectl"
ADMIN = "/etc/claude-sandbox/admin.kubeconfig"
KEY = "not-really-a-key-2718281828"
PATIENCE = 90.0
_SOCKETS = "srv/engine"
_FLEETING = ("/run", "/tmp", "/var/log", "/var/tmp", "/opt", "/srv", "/root/.kube", "/var/lib/systemd/timers")


@dataclass
class Installed:
    """The installation as its administrator sees it, and the engine that its sandboxes are on."""

    machine: Machine
    engine: EngineDescription
    files: set[str]
    """Those of the machine before anything was installed."""
    before: dict[str, list[str]]
    """What was on the engine then."""

    def install(self, *options: str) -> str:
        """Install from the clone, as it is now."""
        return self.machine.from_the_clone(
            "machine", "install", f"--socket=/{_SOCKETS}/docker.sock", f"--sandbox-image={IMAGE}", *options
        )

    def command(self, *arguments: str, check: bool = True) -> str:
        """What the installed command prints."""
        return self.machine.run(COMMAND, "machine", *arguments, check=check).stdout

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True, user: str = ADMIN) -> str:
        return self.machine.run(KUBECTL, "--kubeconfig", user, *arguments, stdin=stdin, check=check).stdout

    def get(self, kind: str, name: str, namespace: str = "agents") -> dict[str, Any]:
        text = self.kubectl("get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output=json")
        found: dict[str, Any] = json.loads(text) if text.strip() else {}
        return found

    def sandbox(self, name: str) -> dict[str, Any]:
        """A sandbox, applied as a person would; returns when it is Ready and Compliant."""
        metadata = {"name": name, "namespace": "agents"}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": meta.SECRET_TYPE,
                  "stringData": {"api-key": KEY}}  # fmt: skip
        wanted = {
            "apiVersion": meta.API_VERSION,
            "kind": meta.KIND,
            "metadata": metadata,
            "spec": {
                "backend": {"type": "Docker"},
                "credentials": {"apiKeySecretRef": {"name": name}, "delivery": "Mounted"},
            },
        }
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": [secret, wanted]})
        self.kubectl("apply", "--filename=-", stdin=items)
        return self.well(name)

    def well(self, name: str) -> dict[str, Any]:
        """The sandbox, once it is Ready and Compliant."""

        def is_well() -> bool:
            conditions = (self.get(meta.PLURAL, name).get("status") or {}).get("conditions") or ()
            return {one["type"] for one in conditions if one["status"] == "True"} >= {"Ready", "Compliant"}

        comes(is_well, lambda: json.dumps(self.get(meta.PLURAL, name).get("status"), indent=1))
        return self.get(meta.PLURAL, name)

    def all_well(self) -> None:
        """Wait until `status` says that all is well."""
        comes(lambda: self.machine.run(COMMAND, "machine", "status", check=False).returncode == 0,
              lambda: self.command("status", check=False))  # fmt: skip

    def pids(self) -> dict[str, str]:
        """Process identifiers of the services."""
        names = ("etcd", "apiserver", "controllers", "operator")
        show = ("systemctl", "show", "--property=MainPID", "--value")
        return {name: self.machine.out(*show, f"claude-sandbox-{name}.service") for name in names}

    def container(self, name: str) -> dict[str, Any]:
        """The sandbox's container, as the engine knows it."""
        identifier = self.get(meta.PLURAL, name)["status"]["workload"]["uid"]
        with contextlib.closing(docker.APIClient(base_url=self.engine.socket, version="auto")) as api:
            found: dict[str, Any] = api.inspect_container(identifier)
        return found

    def lose(self, name: str) -> str:
        """Have the engine lose the sandbox's container, and its workspace with it; the container's identifier."""
        container = self.container(name)
        with contextlib.closing(docker.APIClient(base_url=self.engine.socket, version="auto")) as api:
            api.remove_container(container["Id"], force=True)
            for one in container["Mounts"]:
                if one.get("Destination") == "/workspace":
                    api.remove_volume(one["Name"])
        return str(container["Id"])

    def exec(self, name: str, *argv: str) -> str:
        """What a program prints in the sandbox's container."""
        with contextlib.closing(docker.APIClient(base_url=self.engine.socket, version="auto")) as api:
            code, output = run_inside(api, self.container(name)["Id"], *argv)
        assert code == 0, output
        return output


def images(of: EngineDescription) -> list[str]:
    """The names of the images that the engine has."""
    with contextlib.closing(docker.APIClient(base_url=of.socket, version="auto")) as api:
        return sorted(name for one in api.images() for name in one["RepoTags"] or ())


def comes(wanted: Callable[[], bool], why: Callable[[], str] = str) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, why()
        time.sleep(0.3)


def files(machine: Machine) -> set[str]:
    """Every file of the machine but what changes by itself: logs, what is in memory, caches, systemd's directory."""
    found = set()
    for parent, directories, names in os.walk(machine.root):
        place = Path("/", Path(parent).relative_to(machine.root))
        if any(place.is_relative_to(one) for one in _FLEETING):
            directories.clear()
            continue
        found |= {str(place / name) for name in (*directories, *names)}
    return found - set(_FLEETING)


@pytest.fixture(scope="session")
def machine_engine(
    may_have_engines: None, state_home: Path, stand_in_image: ImageArchive
) -> Iterator[EngineDescription]:
    """An engine with the image of sandboxes alone: what else is needed, the installation brings, and takes away."""
    name = own("tests-machine")
    try:
        yield ready(name, engine.DEFAULT_RELEASE, stand_in_image)
    finally:
        engine.down(name, report)


@pytest.fixture(scope="module")
def installed(machine_engine: EngineDescription, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the machine's Python is 3.11, and the packages that are shared with it are for another")
    directory = tmp_path_factory.mktemp("machine")
    machine = Machine.make(directory)
    machine.shared[machine_engine.names.sockets] = _SOCKETS
    try:
        # The machine can't fetch what the cache lacks.
        build_image("operator", report)
        shutil.copy(toolchain.kubectl(report), machine.file("/usr/local/bin/kubectl"))
        machine.boot()
        machine.run("groupadd", "--system", "docker")
        _, _, group, _ = machine.out("getent", "group", "docker").split(":")
        for path, mode in ((machine_engine.names.sockets, 0o750), (machine_engine.socket_path, 0o660)):
            os.chown(path, 0, int(group))
            path.chmod(mode)
        made = Installed(machine, machine_engine, files(machine), counted(machine_engine, tools=True))
        try:
            print(made.install())
            yield made
        finally:
            print(machine.run("journalctl", "--unit=claude-sandbox-*", "--no-pager", "--lines=300", check=False).stdout)
    finally:
        machine.off()
        shutil.rmtree(directory)
