"""Sandboxes as containers on a real engine."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
from adapter import BODY, CONNECT, OUTSIDE, OUTSIDE_PORT, PORT, SERVE_AND_WAIT, Done, Target, api_server
from nodekit import Kubectl, eventually
from sandboxkit import Sandbox

from claude_sandbox.install.inside import run_inside
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.node.namespaces import enter_network

_LABEL = "claudesandbox.dev/sandbox"
# Half a connection is none to a gateway.
_ASK = f"""{{ printf 'POST /v1/messages HTTP/1.1\\r\\nHost: claude-sandbox-gateway:8080\\r\\nConnection: close\\r\\n'
printf 'x-api-key: %s\\r\\nContent-Type: application/json\\r\\n' IDENTITY
printf 'Content-Length: {len(BODY)}\\r\\n\\r\\n%s' '{BODY}'
/bin/busybox sleep 1; }} | /bin/busybox nc -w 5 claude-sandbox-gateway 8080"""


class OnDocker:
    """A DockerHost with its engine, two plain containers on its default network, and a server of the host's own."""

    def __init__(self, cluster: Cluster, kubectl: Kubectl, namespace: str, image: str, of: EngineDescription) -> None:
        self._cluster, self._kubectl, self._of = cluster, kubectl, of
        self.id = f"docker-{of.release}"
        self._host = self.id.replace(".", "-")
        self.spec: Mapping[str, Any] = {"backend": {"type": "Docker", "hostRef": {"name": self._host}}}
        self._sdk = docker.DockerClient(base_url=of.socket, timeout=60, version="auto")
        self.title = f"Docker {self._sdk.version()['Version']}"
        # Not the default network: there the engine's own settings keep containers apart.
        self._network = self._sdk.networks.create("plain")
        self._plain, self._server = (
            self._sdk.containers.run(
                image, entrypoint=["/bin/sh", "-c", SERVE_AND_WAIT], detach=True, name=name, network="plain"
            )
            for name in ("plain", "server")
        )
        inside = enter_network(of.names)
        subprocess.run([*inside, "ip", "address", "replace", f"{OUTSIDE}/32", "dev", "lo"], check=True)
        serve = [sys.executable, "-m", "http.server", str(OUTSIDE_PORT), "--directory", "/var/empty"]
        self._listener = subprocess.Popen([*inside, *serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        host = {
            "apiVersion": "claudesandbox.dev/v1alpha1",
            "kind": "DockerHost",
            "metadata": {"name": self._host},
            "spec": {"endpoint": of.socket, "allowedNamespaces": {"names": [namespace]}},
        }
        try:
            kubectl.apply(host)
            eventually("the host answers", self.host().answers)
        except BaseException:
            # Nobody has it yet who could close it; all else goes with its engine.
            self._end_listener()
            raise

    def close(self) -> None:
        self._kubectl("delete", "dockerhost", self._host)
        self._end_listener()
        for container in (self._plain, self._server):
            container.remove(force=True)
        self._network.remove()
        self._sdk.close()

    def _end_listener(self) -> None:
        self._listener.terminate()
        self._listener.wait()

    @property
    def network(self) -> Path:
        return self._of.netns

    def workload(self, made: Sandbox) -> str:
        # Neither its relay nor what brings its key.
        labels = [f"{_LABEL}={made.name}", "claudesandbox.dev/component=agent"]
        found = self._sdk.containers.list(filters={"label": labels, "status": "running"})
        return str(found[0].id) if found else ""

    def started(self, made: Sandbox) -> str:
        # One that was killed is started again, and has the identifier that it had.
        identifier = self.workload(made)
        return str(self._sdk.api.inspect_container(identifier)["State"]["StartedAt"]) if identifier else ""

    def run(self, made: Sandbox, script: str) -> Done:
        return _run(self._sdk.containers.get(self.workload(made)), script)

    def ask(self, made: Sandbox, identity: str) -> Done:
        return self.run(made, _ASK.replace("IDENTITY", identity))

    def kill(self, made: Sandbox) -> None:
        self._sdk.api.kill(self.workload(made))

    def loosen(self, made: Sandbox) -> None:
        self._sdk.api.update_container(self.workload(made), mem_limit=8 << 30, memswap_limit=8 << 30)

    def loosened(self, made: Sandbox) -> bool:
        return bool(self._sdk.api.inspect_container(self.workload(made))["HostConfig"]["Memory"] == 8 << 30)

    def alter(self, made: Sandbox) -> None:
        self._sdk.api.update_container(self.workload(made), cpuset_cpus="0")

    def left(self, name: str) -> set[str]:
        wanted = {"label": f"{_LABEL}={name}"}
        return {
            *(f"container/{one.name}" for one in self._sdk.containers.list(all=True, filters=wanted)),
            *(f"network/{one.name}" for one in self._sdk.networks.list(filters=wanted)),
            *(f"volume/{one.name}" for one in self._sdk.volumes.list(filters=wanted)),
        }

    def fingerprint(self, name: str) -> str:
        wanted = {"label": f"{_LABEL}={name}"}
        containers = [one.attrs for one in self._sdk.containers.list(all=True, filters=wanted)]
        for container in containers:
            # The engine's own checks, which go on.
            container["State"].pop("Health", None)
            container.pop("ExecIDs", None)
        networks = [one.attrs for one in self._sdk.networks.list(filters=wanted)]
        volumes = [one.attrs for one in self._sdk.volumes.list(filters=wanted)]
        return json.dumps(_ordered([containers, networks, volumes]), sort_keys=True)

    def told(self, made: Sandbox) -> str:
        api = self._sdk.api
        images = [one["Id"] for one in api.images()]
        found = [
            [api.inspect_container(one["Id"]) for one in api.containers(all=True)],
            [api.logs(one["Id"]).decode(errors="replace") for one in api.containers(all=True)],
            [api.inspect_network(one["Id"]) for one in api.networks()],
            [api.inspect_image(one) for one in images],
            [api.history(one) for one in images],
            [api.volumes(), api.info(), api.top(self.workload(made))],
            list(api.events(since=0, until=int(time.time()), decode=True)),
        ]
        return json.dumps(found, default=str)

    def connects(self, made: Sandbox, port: int) -> bool:
        published = made.get().get("status", {}).get("endpoints") or ()
        found = [one["address"] for one in published if one["name"] == f"p{port}"]
        host, _, number = (found or [f"127.0.0.1:{port}"])[0].rpartition(":")
        # A relay accepts before it knows whether anybody is behind it: only an answer counts.
        asked = f"exec 3<>/dev/tcp/{host}/{number} && printf 'GET /sh HTTP/1.0\\r\\n\\r\\n' >&3 && read -r -t 5 _ <&3"
        command = [*enter_network(self._of.names), "timeout", "8", "bash", "-c", asked]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    @property
    def declared(self) -> Target:
        self._server.reload()
        return self._answering(self._server.attrs["NetworkSettings"]["Networks"]["plain"]["IPAddress"], PORT)

    def another_sandbox(self, other: Sandbox) -> Target:
        container = self._sdk.containers.get(self.workload(other))
        (endpoint,) = container.attrs["NetworkSettings"]["Networks"].values()
        address = endpoint["IPAddress"]
        # Nobody else is on its network, and nobody gets in: what shows that it answers there is itself.
        script = CONNECT.format(host=address, port=PORT)
        return Target(address, PORT, lambda: _run(container, script).code == 0)

    def host(self) -> Target:
        (configuration,) = self._sdk.networks.get("plain").attrs["IPAM"]["Config"]
        return self._answering(configuration["Gateway"], OUTSIDE_PORT)

    def control_plane(self) -> Target:
        return self._answering(*api_server(self._cluster))

    def outside(self) -> Target:
        return self._answering(OUTSIDE, OUTSIDE_PORT)

    def _answering(self, host: str, port: int) -> Target:
        script = CONNECT.format(host=host, port=port)
        return Target(host, port, lambda: _run(self._plain, script).code == 0)


def _run(container: Any, script: str) -> Done:
    return Done(*run_inside(container.client.api, container.id, "/bin/sh", "-c", script))


def _ordered(value: Any) -> Any:
    """Older engines tell mounts and the like in another order each time."""
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted(map(_ordered, value), key=lambda item: json.dumps(item, sort_keys=True))
    return value
