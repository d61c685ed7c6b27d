"""A machine whose firewall forwards nothing by default, as Docker leaves it, with a network beyond it.

Run in a network namespace of its own (`unshare --net`), which is the machine here. Brings up a cluster with a
node, lets a pod connect to a server in the network beyond, takes the cluster down, and prints what happened.
"""

import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from nodekit import kubectl_for, namespace, pod, report

from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.images import build_image
from claude_sandbox.localcluster.node import load_image
from claude_sandbox.localcluster.node.parts import NEEDED
from claude_sandbox.localcluster.programs.os_packages import Programs, ensure

NAME = "tests-firewalled"
INSIDE, BEYOND, PORT = "198.18.0.1", "198.18.0.2", 8000
# Answers each connection with the address that it comes from.
_SERVER = f"""
import socket
with socket.create_server(({BEYOND!r}, {PORT})) as server:
    print("listening", flush=True)
    while True:
        connection, client = server.accept()
        with connection:
            connection.sendall(client[0].encode())
"""


def main() -> None:
    programs = ensure(NEEDED, report)
    ip = str(programs.path("ip"))
    subprocess.run([ip, "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as directory:
        iptables = _install(programs, Path(directory))
        os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
        server = [
            "unshare",
            "--net",
            "sh",
            "-c",
            f"{ip} link set lo up; echo up; read ready; exec python3 -c {shlex.quote(_SERVER)}",
        ]
        with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as beyond:
            try:
                print(json.dumps(_run(ip, iptables, beyond)))
            finally:
                cluster.down(NAME, report)
                beyond.kill()


def _run(ip: str, iptables: Path, beyond: "subprocess.Popen[str]") -> dict[str, str]:
    assert beyond.stdin is not None
    assert beyond.stdout is not None
    # Before that it may still be in this network.
    assert beyond.stdout.readline() == "up\n"
    commands: tuple[list[str], ...] = (
        [ip, "link", "add", "outer", "type", "veth", "peer", "name", "inner", "netns", str(beyond.pid)],
        [ip, "address", "add", f"{INSIDE}/30", "dev", "outer"],
        [ip, "link", "set", "outer", "up"],
        ["nsenter", f"--net=/proc/{beyond.pid}/ns/net", ip, "address", "add", f"{BEYOND}/30", "dev", "inner"],
        ["nsenter", f"--net=/proc/{beyond.pid}/ns/net", ip, "link", "set", "inner", "up"],
        [str(iptables), "--policy", "FORWARD", "DROP"],
    )
    for command in commands:
        subprocess.run(command, check=True)
    beyond.stdin.write("ready\n")
    beyond.stdin.flush()
    assert beyond.stdout.readline() == "listening\n"

    before = _rules(iptables)
    running = cluster.up(NAME, node=True, fsync=False, report=report)
    image = build_image("sandbox", report)
    load_image(running.layout, image)
    kubectl = kubectl_for(running)
    kubectl.apply(namespace("beyond"), pod("beyond", "agent", image.pinned))
    kubectl.ready("beyond", "agent")
    script = f"import socket; print(socket.create_connection(({BEYOND!r}, {PORT}), 10).recv(99).decode())"
    answer = kubectl.run("beyond", "agent", "python3", "-c", script, check=False)
    meanwhile = _rules(iptables)
    cluster.down(NAME, report)
    return {
        "seen": answer.stdout.strip() or answer.stderr,
        "before": before,
        "meanwhile": meanwhile,
        "after": _rules(iptables),
    }


def _rules(iptables: Path) -> str:
    return subprocess.run([iptables, "--list-rules"], check=True, capture_output=True, text=True).stdout


def _install(programs: Programs, directory: Path) -> Path:
    """Put an iptables on PATH, as a machine with a firewall has one."""
    environment = programs.environment()
    assignments = " ".join(f"{name}={shlex.quote(environment[name])}" for name in ("LD_LIBRARY_PATH", "XTABLES_LIBDIR"))
    script = directory / "iptables"
    script.write_text(f'#!/bin/sh\n{assignments} exec {shlex.quote(str(programs.path("iptables")))} "$@"\n')
    script.chmod(0o755)
    return script


if __name__ == "__main__":
    main()
