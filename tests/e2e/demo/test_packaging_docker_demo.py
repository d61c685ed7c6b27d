"""`claude-sandbox demo --backend docker` from nothing to a sandbox in a real container, again, and back to nothing.

Once with the engine that it brings along, and once on an old engine that was there before and stays.
"""

import contextlib
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from demokit import KEY, REPOSITORY, Demo, versions, work_is_shown
from dockerkit import counted
from enginekit import own
from nodekit import report
from traces import of_machine

from claude_sandbox.demo.docker.engines import OWN
from claude_sandbox.demo.docker.flow import CLUSTER
from claude_sandbox.demo.provider import ALLOWED, DENIED
from claude_sandbox.demo.stand_in import ANSWER
from claude_sandbox.demo.work.task import SCRIPTED_BRANCH
from claude_sandbox.install.inside import run_inside
from claude_sandbox.localcluster import components, engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.processes import Process

# Images are built where no earlier run has left them.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

PATIENCE = 60.0


@pytest.fixture(scope="module", params=["brought along", pytest.param("20.10", marks=pytest.mark.slow)])
def present(request: pytest.FixtureRequest, may_have_engines: None) -> Iterator[EngineDescription | None]:
    """The engine that the machine has, if any."""
    if request.param == "brought along":
        yield None
        return
    name = own("tests-demo")
    try:
        yield engine.up(name, request.param, say=report)
    finally:
        engine.down(name, report)


@pytest.fixture(scope="module")
def demo(present: EngineDescription | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    variables = {} if present is None else {"DOCKER_HOST": present.socket}
    demo = Demo(tmp_path_factory.mktemp("demo"), CLUSTER, variables)
    try:
        yield demo
    finally:
        demo.run("--down")


@pytest.fixture(scope="module")
def before(demo: Demo, present: EngineDescription | None) -> set[str]:
    """What there was on the machine."""
    return left(demo, present)


@pytest.fixture(scope="module")
def first(demo: Demo, before: set[str]) -> str:
    """What the first run printed; without a key, so that a stand-in answers."""
    return demo.run("--backend=docker")


def left(demo: Demo, present: EngineDescription | None) -> set[str]:
    """One line for all that the demo could leave, as the machine and the engine tell."""
    lines = set()
    for layout in (demo.layout, Layout(demo.home / "claude-sandbox/engines" / OWN)):
        # Of the machine's settings none is its, and other tests' nodes may come and go meanwhile.
        its = ("process", str(demo.home), Names.of(layout).id)
        lines |= {line for line in of_machine(layout) if any(one in line for one in its)}
    lines |= {f"file {path}" for path in demo.home.rglob("*")}
    if present is not None:
        lines |= {f"{kind} {name}" for kind, names in counted(present).items() for name in names}
        lines |= {f"image {identifier}" for identifier in images(present.socket)}
    return lines


def images(endpoint: str) -> set[str]:
    with contextlib.closing(docker.APIClient(base_url=endpoint, version="auto")) as api:
        return {one["Id"] for one in api.images(all=True)}


def workload(demo: Demo) -> dict[str, Any]:
    """What the sandbox's status says of its container; empty while there is none."""
    found = demo.kubectl.get("claudesandboxes", "alice", "agents")
    assert found is not None
    status: dict[str, Any] = found["status"]
    return status.get("workload", {})  # type: ignore[no-any-return]


def container(demo: Demo) -> Any:
    """The sandbox's container, as its status names it."""
    client = docker.DockerClient(base_url=demo.made_on_docker["endpoint"], version="auto")
    return client.containers.get(workload(demo)["uid"])


def inside(demo: Demo, *argv: str) -> str:
    found = container(demo)
    code, output = run_inside(found.client.api, found.id, *argv)
    assert code == 0, output
    return output


def operator(demo: Demo) -> Process:
    found = components.running(demo.layout, "operator")
    assert found is not None
    return found


def test_it_ends_with_a_sandbox_that_is_ready_and_compliant(first: str) -> None:
    lines = [line.split() for line in first.splitlines()]
    assert ["claudesandbox.claudesandbox.dev/alice", "True", "True"] in [line[:3] for line in lines]
    assert ["dockerhost.claudesandbox.dev/local", "True"] in [line[:2] for line in lines]
    assert "(Claude Code)" in first


def test_claude_code_works_in_it_by_the_gateway_and_gets_no_further_than_is_allowed(first: str, demo: Demo) -> None:
    name = container(demo).name
    assert f"$ docker exec {name} claude -p 'Answer with one word: pong'\n{ANSWER}\n" in first
    port = demo.made_on_docker["stand_in"]
    assert f"$ docker exec {name} curl http://{ALLOWED}:{port}/\n200\n" in first
    assert "The Secret's key is not in the sandbox" in first
    (denied,) = (line for line in first.splitlines() if line.startswith("curl: "))
    assert "403" in denied
    rows = [line.split()[1:5] for line in first.partition("claude-sandbox audit agents/alice")[2].splitlines()]
    assert [row for row in rows if row[:1] == ["agents/alice"]][:3] == [
        ["agents/alice", "Allowed", "200", "claude-opus-5-5"],
        ["agents/alice", "Allowed", "200", f"{ALLOWED}:{port}"],
        ["agents/alice", "Refused", "403", DENIED],
    ]


def on_the_server(demo: Demo, *arguments: str) -> str:
    """What git says on the demo's git server."""
    client = container(demo).client
    (name,) = (one.name for one in client.containers.list() if one.name.startswith("claude-sandbox-demo-git-"))
    code, output = run_inside(client.api, name, "git", "-C", f"{REPOSITORY}.git", *arguments)
    assert code == 0, output
    return output.strip()


def test_the_agent_s_work_is_on_the_git_server_and_main_is_as_it_was(first: str, demo: Demo) -> None:
    assert "nor is the token for git" in first
    work_is_shown(first, lambda *arguments: on_the_server(demo, *arguments))
    assert inside(demo, "git", "-C", "project", "rev-parse", "HEAD").strip() == on_the_server(
        demo, "rev-parse", SCRIPTED_BRANCH
    )


def test_it_says_how_to_look_further_and_how_to_clean_up(first: str, demo: Demo) -> None:
    assert f"export KUBECONFIG={demo.layout.kubeconfig}" in first
    assert f"docker exec -it {container(demo).name} claude" in first
    assert "make demo-down" in first


def test_the_engine_and_the_kernel_say_what_the_status_says(first: str, demo: Demo) -> None:
    one = container(demo)
    config, host = one.attrs["Config"], one.attrs["HostConfig"]
    assert (config["User"], host["ReadonlyRootfs"], host["CapDrop"]) == ("1000:1000", True, ["ALL"])
    assert host["Privileged"] is False
    assert list(one.attrs["NetworkSettings"]["Networks"]) == [one.name]
    assert inside(demo, "sh", "-c", "touch /escaped 2>/dev/null || echo read-only").strip() == "read-only"
    # Not the init process, but Claude Code's own user's: every process of the container.
    pids = [process[1] for process in one.top()["Processes"]]
    assert pids
    for pid in pids:
        status = dict(
            line.split(":\t", 1) for line in Path("/proc", pid, "status").read_text().splitlines() if ":\t" in line
        )
        assert set(status["Uid"].split()) == {"1000"}
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_the_agent_has_a_placeholder_for_itself_only(first: str, demo: Demo) -> None:
    key = "/run/claude-sandbox/api-key/api-key"
    assert inside(demo, "cat", key).startswith("csb-")
    assert inside(demo, "stat", "--dereference", "--format=%a", key).strip() == "400"


def test_the_operator_listens_to_this_machine_only_and_asks_for_nothing_that_it_may_not(first: str, demo: Demo) -> None:
    port = demo.made_on_docker["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        requests = [
            line for line in answer.read().decode().splitlines() if line.startswith("rest_client_requests_total{")
        ]
    assert requests
    assert not [line for line in requests if 'code="401"' in line or 'code="403"' in line]
    with pytest.raises(ConnectionRefusedError):
        # Loopback, too, but another address than the one that it is bound to.
        socket.create_connection(("127.0.0.2", port), 5)


@pytest.mark.slow
def test_run_again_it_changes_nothing(first: str, demo: Demo) -> None:
    before, process, started = versions(demo.kubectl), operator(demo), container(demo).attrs["State"]["StartedAt"]
    again = demo.run("--backend=docker")
    assert "Giving the engine" not in again
    assert "(Claude Code)" in again
    assert f"The branch {SCRIPTED_BRANCH} of an earlier run is there" in again
    assert versions(demo.kubectl) == before
    assert operator(demo) == process
    assert container(demo).attrs["State"]["StartedAt"] == started


def test_an_operator_that_was_killed_is_started_again_and_the_sandbox_goes_on(first: str, demo: Demo) -> None:
    killed, one = operator(demo), container(demo)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(PATIENCE)
    demo.run("--backend=docker")
    assert operator(demo) != killed
    assert container(demo).id == one.id


def test_a_removed_container_comes_back(first: str, demo: Demo) -> None:
    one = container(demo)
    one.remove(force=True)
    # In between the status names no container.
    eventually(lambda: workload(demo).get("uid") not in (None, one.id))


@pytest.mark.slow
@pytest.mark.parametrize(
    "present", ["brought along", pytest.param("20.10", marks=pytest.mark.slow)], indirect=True, scope="module"
)
def test_a_control_plane_that_was_lost_leaves_no_sandbox_behind(first: str, demo: Demo) -> None:
    lost = container(demo)
    demo.command("cluster", "down", "--name", CLUSTER)
    demo.run("--backend=docker")
    now = container(demo)
    known = {now.name, f"{now.name}-gateway"}
    others = sorted(one.name for one in now.client.containers.list(all=True) if one.name not in known)
    assert [name.rpartition("-")[0] for name in others] == ["claude-sandbox-demo-git", "claude-sandbox-demo-provider"]
    assert now.id != lost.id


def test_a_key_goes_to_the_claude_api_and_stays_out_of_sight(first: str, demo: Demo) -> None:
    printed = demo.run("--backend=docker", key=KEY)
    names = {one.name for one in container(demo).client.containers.list(all=True)}
    assert not any(name.startswith("claude-sandbox-demo-provider-") for name in names)
    assert "stand-in" not in printed.partition("== At work")[2]
    assert inside(demo, "cat", "/run/claude-sandbox/api-key/api-key").startswith("csb-")
    assert KEY not in printed
    gateway = container(demo).client.containers.get(f"{container(demo).name}-gateway")
    for told in (json.dumps(container(demo).attrs), json.dumps(gateway.attrs), gateway.logs().decode()):
        assert KEY not in told
    assert KEY not in components.log_file(demo.layout, "operator").read_text()
    assert KEY not in Path("/proc", str(operator(demo).pid), "environ").read_text()


def test_down_leaves_nothing(first: str, demo: Demo, present: EngineDescription | None, before: set[str]) -> None:
    demo.run("--down")
    assert left(demo, present) ^ before == set()
    assert "There is nothing of the demo's." in demo.run("--down")


def eventually(true: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
