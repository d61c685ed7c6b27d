"""Looks for what a sandbox on a node must not hold, in all that it has and in all that is told of it."""

import contextlib
import json
from pathlib import Path

import kernel
from key_search import Search
from nodekit import Kubectl
from sandboxkit import Sandbox

TOKEN = "/run/claude-sandbox/api-key/api-key"


def is_with_the_gateway_alone(held: str, made: Sandbox, operator_log: Path) -> None:
    """In every form, in all that the sandbox has and all that anybody tells of it and its gateway."""
    search, kubectl, space = Search(held), made.kubectl, made.namespace
    found = []
    processes = made.processes()
    inside = [made.agent() / "root" / one for one in ("run", "tmp", "home", "workspace", "etc", "var")]
    found += search.in_files(*(one for one in inside if one.is_dir()))
    read = 0
    for process in processes:
        # A probe's may have ended meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for file in ("environ", "cmdline"):
                found += search.in_bytes(f"{process}/{file}", (process / file).read_bytes())
            found += search.in_bytes(f"memory of {process}", kernel.memory(process))
            read += 1
    assert read, "no process of the sandbox could be read"
    kinds = kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
    told = [kind for kind in kinds if kind != "secrets"]
    found += search.in_document("objects", json.loads(kubectl("get", ",".join(told), "-A", "-o", "json").stdout))
    pods = json.loads(kubectl("get", "pods", "-n", space, "-o", "json").stdout)["items"]
    for name in (pod["metadata"]["name"] for pod in pods):
        logs = kubectl("logs", "-n", space, name, check=False)
        found += search.in_bytes(f"logs of {name}", (logs.stdout + logs.stderr).encode())
    found += search.in_bytes("the operator's log", operator_log.read_bytes())
    assert found == []
    # A search that finds nothing is worth something only where it finds what is there.
    assert Search(made.run("cat", TOKEN).strip()).in_files(*(one for one in inside if one.is_dir()))
    assert any(search.in_bytes("memory", kernel.memory(process)) for process in gateways(kubectl, space))


def gateways(kubectl: Kubectl, space: str) -> list[Path]:
    """The /proc directories of its programs."""
    label = "claudesandbox.dev/component=gateway"
    pods = json.loads(kubectl("get", "pods", "-n", space, "-l", label, "-o", "json").stdout)["items"]
    states = [state for pod in pods for state in pod["status"].get("containerStatuses", ())]
    containers = [state["containerID"].rpartition("/")[2] for state in states if state.get("containerID")]
    return [process for container in containers for process in kernel.processes(container)]
