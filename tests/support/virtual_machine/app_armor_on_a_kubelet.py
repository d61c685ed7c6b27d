"""What AppArmor does to pods on a real kubelet with containerd; run as root in a machine of its own, /run/told in hand.

The kubelet has no API server: its pods are files, and it tells of them itself. Prints as JSON what it and the agent of
the nodes tell of each, before a profile is loaded and after that. Knows nothing of sandboxes but the agent, so that
little has to be read on a machine that is slow.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from claude_sandbox.node_agent.answers import answer
from claude_sandbox.node_agent.cgroups import Kubelets
from claude_sandbox.procfs.files import CGROUPS, PROC

TOLD = Path("/run/told")
NODE = "node-7"
PODS = "http://127.0.0.1:10255/pods"
_SOCKET = "/run/containerd/containerd.sock"
_PATIENCE = 900.0
_SETTLED = 15.0
"""As `claude_sandbox.backends.kubernetes.node_agents.answers` has it."""
_CONTAINERD = """\
version = 2
root = "/tmp/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = "{shim}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
"""
_KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "staticPodPath": "/tmp/pods",
    "address": "127.0.0.1",
    "readOnlyPort": 10255,
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "containerRuntimeEndpoint": f"unix://{_SOCKET}",
    "fileCheckFrequency": "2s",
    "syncFrequency": "10s",
    "runtimeRequestTimeout": "10m",
    "evictionHard": {"memory.available": "1Mi"},
}


@contextlib.contextmanager
def running(log: str, *command: str) -> Iterator[None]:
    """A program, which ends with this."""
    with (TOLD / log).open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield
        finally:
            process.kill()


def pods() -> dict[str, Any]:
    """As the kubelet tells of them, by their files' names; without a word of it none."""
    try:
        with urllib.request.urlopen(PODS, timeout=60) as told:
            return {one["metadata"]["name"].removesuffix(f"-{NODE}"): one for one in json.load(told)["items"] or ()}
    except OSError:
        return {}


def state(pod: dict[str, Any]) -> str:
    """In one word: Running, or why its container waits."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or [{}]
    return next((str(how.get("reason", kind.title())) for kind, how in (statuses[0].get("state") or {}).items()), "")


def wait(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {_PATIENCE:.0f} s: {what}: {json.dumps(pods())}")
        time.sleep(1)
    print(f"{time.monotonic():.0f} s: {what}", file=sys.stderr, flush=True)


def seen(names: list[str]) -> dict[str, Any]:
    """What is told of these pods now, by whom; and what the container of each wrote."""
    found, kubelets = pods(), Kubelets(CGROUPS)

    def are_old_enough() -> bool:
        told = (answer(found[name]["metadata"]["uid"], kubelets, PROC) for name in names)
        ages = [process["seconds"] for one in told for group in one["containers"] for process in group["processes"]]
        return min(ages, default=_SETTLED) >= _SETTLED

    # What is only beginning does not count.
    wait("all are old enough", are_old_enough)
    return {
        name: {
            "pod": found[name],
            "agent": answer(found[name]["metadata"]["uid"], kubelets, PROC),
            "wrote": "".join(file.read_text() for file in Path("/var/log/pods").glob(f"*_{name}*_*/*/*.log")),
        }
        for name in names
    }


def main() -> None:
    """`plan.json` has the programs' paths and the images; `pods` what the kubelet is to run."""
    plan = json.loads((TOLD / "plan.json").read_text())
    os.environ |= plan["environment"]
    # The kubelet wants an address, and nothing is to be reached by it.
    for words in ("link add node type dummy", "address add 10.9.8.7/24 dev node", "link set node up"):
        subprocess.run([plan["ip"], *words.split()], check=True)
    Path("/tmp/pods").mkdir()
    Path("/tmp/containerd.toml").write_text(_CONTAINERD.format(**plan))
    Path("/tmp/kubelet.json").write_text(json.dumps(_KUBELET))
    with running("containerd.log", plan["containerd"], "--config", "/tmp/containerd.toml"):
        ctr = [plan["ctr"], "--address", _SOCKET, "--namespace", "k8s.io", "images", "import"]
        wait("containerd answers", lambda: subprocess.run([*ctr[:3], "version"], stdout=2, check=False).returncode == 0)
        for image in plan["images"]:
            subprocess.run([*ctr, image], stdout=2, check=True)
        with running(
            "kubelet.log", plan["kubelet"], "--config", "/tmp/kubelet.json", f"--hostname-override={NODE}", "--v=2"
        ):
            _observe()


def _observe() -> None:
    manifests = {file.stem: file for file in (TOLD / "pods").glob("*.json")}
    for name, file in manifests.items():
        Path(f"/tmp/pods/{name}.json").write_text(file.read_text())
    others = sorted(manifests.keys() - {"confined"})
    wait("all others run", lambda: all(state(pods().get(name, {})) == "Running" for name in others))
    wait("one has not got its profile", lambda: state(pods().get("confined", {})) == "CreateContainerError")
    found = {"without": seen([*others, "confined"])}
    subprocess.run(["apparmor_parser", "--skip-cache", "--replace", TOLD / "profile"], check=True)
    wait("it has", lambda: state(pods().get("confined", {})) == "Running")
    found["with"] = seen(["confined"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
