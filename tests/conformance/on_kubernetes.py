"""Sandboxes as pods on a real node."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kernel
from adapter import BODY, CONNECT, OUTSIDE, OUTSIDE_PORT, PORT, SERVE_AND_WAIT, Done, Target, api_server
from nodekit import Kubectl, pod
from sandboxkit import Sandbox

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.node.names import Names

_KINDS = "pods,serviceaccounts,networkpolicies,services,persistentvolumeclaims"
_KUBELET = 10250
_GATEWAY = "claude-sandbox-gateway"
# No program of the suite's image speaks TLS: one of the machine's asks, in the sandbox's own network.
_ASK = f"""
import http.client, socket, ssl, sys
address, bundle = sys.argv[1:]
asking = http.client.HTTPSConnection("{_GATEWAY}", 8443)
trusting = ssl.create_default_context(cafile=bundle)
asking.sock = trusting.wrap_socket(socket.create_connection((address, 8443), 10), server_hostname="{_GATEWAY}")
identity = sys.stdin.read()
asking.request("POST", "/v1/messages", {BODY!r}, {{"x-api-key": identity, "content-type": "application/json"}})
answer = asking.getresponse()
print("HTTP/1.1", answer.status, answer.reason, answer.read())
"""


class OnKubernetes:
    """A node, with two plain pods that no policy selects."""

    id = "kubernetes"
    spec: Mapping[str, Any] = {}

    def __init__(self, cluster: Cluster, kubectl: Kubectl, namespace: str, image: str) -> None:
        self._cluster, self._kubectl, self._namespace = cluster, kubectl, namespace
        self.title = f"Kubernetes {cluster.version}"
        plain = [pod(namespace, name, image) for name in ("plain", "server")]
        for manifest in plain:
            manifest["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", SERVE_AND_WAIT]
        kubectl.apply(*plain)
        kubectl.ready(namespace, "plain", "server")
        inside = ["nsenter", f"--net={self.network}", "--"]
        subprocess.run([*inside, "ip", "address", "replace", f"{OUTSIDE}/32", "dev", "lo"], check=True)
        serve = [sys.executable, "-m", "http.server", str(OUTSIDE_PORT), "--directory", "/var/empty"]
        self._listener = subprocess.Popen([*inside, *serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        self._listener.terminate()
        self._listener.wait()
        self._kubectl("delete", "pod", "-n", self._namespace, "plain", "server")

    @property
    def network(self) -> Path:
        return Names.of(self._cluster.layout).network

    def workload(self, made: Sandbox) -> str:
        found = self._get("pod", made.pod)
        states = [
            state for state in found.get("status", {}).get("containerStatuses", ()) if "running" in state["state"]
        ]
        return str(states[0]["containerID"].rpartition("/")[2]) if states else ""

    def started(self, made: Sandbox) -> str:
        return self.workload(made)

    def run(self, made: Sandbox, script: str) -> Done:
        return self._run(made.pod, script)

    def ask(self, made: Sandbox, identity: str) -> Done:
        process = kernel.agent(self.workload(made))
        hosts = (process / "root/etc/hosts").read_text().splitlines()
        (address,) = (line.split()[0] for line in hosts if _GATEWAY in line.split())
        bundle = process / "root/run/claude-sandbox/gateway/ca.crt"
        asking = ["nsenter", f"--net={process}/ns/net", "--", sys.executable, "-c", _ASK, address, str(bundle)]
        done = subprocess.run(asking, input=identity, capture_output=True, text=True, check=False, timeout=60)
        return Done(done.returncode, done.stdout + done.stderr)

    def kill(self, made: Sandbox) -> None:
        self._kubectl("delete", "pod", "-n", self._namespace, made.pod, "--wait=false")

    def loosen(self, made: Sandbox) -> None:
        self._patch("networkpolicy", made.pod, {"spec": {"egress": [{}]}})

    def loosened(self, made: Sandbox) -> bool:
        return {} in self._get("networkpolicy", made.pod)["spec"].get("egress", [])

    def alter(self, made: Sandbox) -> None:
        container = {"name": "agent", "resources": {"limits": {"memory": "4Gi"}}}
        self._patch("pod", made.pod, {"spec": {"containers": [container]}}, "--subresource=resize", "--type=strategic")

    def left(self, name: str) -> set[str]:
        label = f"claudesandbox.dev/sandbox={name}"
        return set(self._kubectl("get", _KINDS, "-n", self._namespace, "-l", label, "-o", "name").stdout.split())

    def fingerprint(self, name: str) -> str:
        columns = "jsonpath={range .items[*]}{.metadata.uid} {.metadata.resourceVersion}\n{end}"
        label = f"claudesandbox.dev/sandbox={name}"
        return self._kubectl("get", _KINDS, "-n", self._namespace, "-l", label, "-o", columns).stdout

    def told(self, made: Sandbox) -> str:
        return self._kubectl("logs", "-n", self._namespace, made.pod).stdout

    def connects(self, made: Sandbox, port: int) -> bool:
        return self._answering(self._address(made.pod), port).answers()

    @property
    def declared(self) -> Target:
        return self._answering(self._address("server"), PORT)

    def another_sandbox(self, other: Sandbox) -> Target:
        return self._answering(self._address(other.pod), PORT)

    def host(self) -> Target:
        addresses = json.loads(self._kubectl("get", "nodes", "-o", "json").stdout)["items"][0]["status"]["addresses"]
        address = next(each["address"] for each in addresses if each["type"] == "InternalIP")
        return self._answering(address, _KUBELET)

    def control_plane(self) -> Target:
        return self._answering(*api_server(self._cluster))

    def outside(self) -> Target:
        return self._answering(OUTSIDE, OUTSIDE_PORT)

    def _answering(self, host: str, port: int) -> Target:
        script = CONNECT.format(host=host, port=port)
        return Target(host, port, lambda: self._run("plain", script).code == 0)

    def _address(self, name: str) -> str:
        return str(self._get("pod", name)["status"]["podIP"])

    def _run(self, name: str, script: str) -> Done:
        done = self._kubectl.run(self._namespace, name, "/bin/sh", "-c", script, check=False)
        # kubectl writes there too, of messages that come late on a busy machine, where all went well.
        return Done(done.returncode, done.stdout + (done.stderr if done.returncode else ""))

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        found = self._kubectl("get", kind, "-n", self._namespace, name, "-o", "json", check=False)
        return json.loads(found.stdout) if found.returncode == 0 else {}

    def _patch(self, kind: str, name: str, patch: dict[str, Any], *options: str) -> None:
        how = options or ("--type=merge",)
        self._kubectl("patch", kind, "-n", self._namespace, name, "-p", json.dumps(patch), *how)
