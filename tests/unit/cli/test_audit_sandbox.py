"""`claude-sandbox audit NAME` of a sandbox on Kubernetes: whose lines, of which replicas, in which order."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from answering_server import Cluster, serving, with_sandbox
from click.testing import CliRunner, Result

from claude_sandbox.api.spec import BackendType
from claude_sandbox.cli.audit import pods
from claude_sandbox.cli.audit.command import audit
from claude_sandbox.cli.audit.lines import Line
from claude_sandbox.cli.audit.sandboxes import Audited
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Authorization, Credentials

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE = Audited("agents", "alice", "u-1", BackendType.KUBERNETES, "pod-uid")


def line(at: float, sandbox: str | None = "u-1", **fields: Any) -> str:
    time = (NOW + timedelta(seconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    known = {} if sandbox is None else {"sandbox": sandbox, "namespace": "agents", "name": "alice"}
    return (
        json.dumps({"time": time, "kind": "tunnel", "verdict": "Refused", "host": f"at-{at}", **known, **fields}) + "\n"
    )


def hosts(printed: str) -> list[str]:
    return [json.loads(one)["host"] for one in printed.splitlines()]


@pytest.fixture
def cluster() -> Cluster:
    found = with_sandbox(credentials={"apiKeySecretRef": {"name": "anthropic"}})
    found.gateways = {"gateway-a": line(1) + line(4) + line(5), "gateway-b": line(2) + line(3, "u-2") + line(6)}
    return found


@pytest.fixture
def kubeconfig(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    with serving(cluster, tmp_path) as found:
        yield found


def run(kubeconfig: str, *arguments: str) -> Result:
    return CliRunner().invoke(audit, [*arguments, "--kubeconfig", kubeconfig])


def test_it_shows_the_sandboxs_lines_of_all_replicas_by_their_times(kubeconfig: str) -> None:
    found = run(kubeconfig, "agents/alice", "-o", "json")
    assert (found.exit_code, found.stderr) == (0, "")
    assert hosts(found.stdout) == ["at-1", "at-2", "at-4", "at-5", "at-6"]
    assert run(kubeconfig, "alice", "-n", "agents", "-o", "json").stdout == found.stdout
    late = (NOW + timedelta(seconds=4.5)).isoformat()
    assert hosts(run(kubeconfig, "agents/alice", "-o", "json", "--since", late).stdout) == ["at-5", "at-6"]


def test_who_presents_its_pods_token_in_vain_is_shown_too(cluster: Cluster, kubeconfig: str) -> None:
    cluster.sandboxes["alice"]["status"] = {"workload": {"uid": "pod-uid"}}
    cluster.gateways["gateway-b"] = line(2, None, claimedPod="pod-uid") + line(3, None, claimedPod="another")
    assert hosts(run(kubeconfig, "agents/alice", "-o", "json").stdout) == ["at-1", "at-2", "at-4", "at-5"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("agents/bob",), ["ClaudeSandbox agents/bob is not there", "kubectl get claudesandboxes"]),
        (("agents/mounted",), ["holds its key itself", "spec.credentials.delivery to Brokered"]),
        (("agents/waiting",), ["has no Docker host yet", "kubectl describe claudesandbox waiting"]),
        (("agents/far",), ["DockerHost build-1, on which ClaudeSandbox agents/far runs,", "is not there"]),
        (("agents/far", "--host", "unix:///nowhere"), ["unix:///nowhere: ", "docker ps", "--host"]),
    ],
)
def test_what_can_not_be_read_is_said_with_a_remedy(
    cluster: Cluster, kubeconfig: str, arguments: tuple[str, ...], said: list[str]
) -> None:
    alice = cluster.sandboxes["alice"]
    docker = {"backend": {"type": "Docker"}}
    for name, spec, status in (
        ("mounted", {"credentials": {"delivery": "Mounted"}}, {}),
        ("waiting", docker, {}),
        ("far", docker, {"placement": {"host": "build-1"}}),
    ):
        cluster.sandboxes[name] = {**alice, "spec": spec, "status": status}
    found = run(kubeconfig, *arguments)
    assert found.exit_code == 4
    assert found.stdout == ""
    assert all(one in found.stderr for one in said), found.stderr


@pytest.mark.parametrize("refused", ["claudesandboxes", "pods", "log"])
def test_a_right_that_is_missing_is_named(cluster: Cluster, kubeconfig: str, refused: str) -> None:
    cluster.refused = (refused,)
    found = run(kubeconfig, "agents/alice")
    assert found.exit_code == 4
    assert "Remedy: Ask for the right to" in found.stderr
    assert refused in found.stderr


def test_without_a_gateway_it_says_so(cluster: Cluster, kubeconfig: str) -> None:
    cluster.gateways = {}
    assert "No gateway runs in namespace agents" in run(kubeconfig, "agents/alice").stderr


@pytest.mark.parametrize("arguments", [("a.log", "-n", "agents"), ("team/alice", "-n", "agents")])
def test_a_name_that_is_none_is_an_error_of_the_command_line(kubeconfig: str, arguments: tuple[str, ...]) -> None:
    assert run(kubeconfig, *arguments).exit_code == 2


def test_what_is_a_file_here_is_read_as_one(kubeconfig: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alice").write_text(line(9))
    assert hosts(run(kubeconfig, "alice", "-o", "json").stdout) == ["at-9"]
    missing = run(kubeconfig, "missing.log")
    assert (missing.exit_code, "missing.log can't be read" in missing.stderr) == (4, True)


@dataclass
class Logs:
    """An API server that tells of gateways' pods, and streams their logs; a stream ends when `cut` is set."""

    written: dict[str, list[str]]
    refused: bool = False
    restarted: set[str] = field(default_factory=set)
    before: dict[str, str] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: int = 0
    opened: list[str] = field(default_factory=list)

    def write(self, pod: str, *lines: str) -> None:
        self.written.setdefault(pod, []).extend(lines)
        self._tell()

    def cut(self) -> None:
        self.cuts += 1
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def pods(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == pods.SELECTOR
        items = [
            {"metadata": {"name": name}, "spec": {"containers": [{"name": "gateway"}]},
             "status": {"containerStatuses": [{"restartCount": int(name in self.restarted)}]}}
            for name in self.written
        ]  # fmt: skip
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    async def log(self, request: web.Request) -> web.StreamResponse:
        pod, query = request.match_info["pod"], request.query
        self.opened.append(pod)
        if self.refused:
            status = {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "no"}
            return web.json_response(status, status=403)
        if query.get("previous"):
            return web.Response(text=self.before[pod])
        answer = web.StreamResponse()
        await answer.prepare(request)
        sent, cuts = 0, self.cuts
        since = query.get("sinceTime", "")
        while True:
            changed = self.changed
            for one in self.written[pod][sent:]:
                # As the kubelet: from the second on.
                if json.loads(one)["time"][:19] >= since[:19]:
                    await answer.write(one.encode())
            sent = len(self.written[pod])
            if "follow" not in query or cuts != self.cuts:
                return answer
            await changed.wait()


@asynccontextmanager
async def followed(logs: Logs, *, follow: bool = True) -> AsyncIterator[Any]:
    application = web.Application()
    application.router.add_get("/api/v1/namespaces/agents/pods", logs.pods)
    application.router.add_get("/api/v1/namespaces/agents/pods/{pod}/log", logs.log)
    async with TestServer(application) as server:
        credentials = Credentials(str(server.make_url("")).rstrip("/"), Authorization(None, lambda _force: None))
        async with Api(credentials) as api:
            reading = pods.lines(api, ALICE, None, follow=follow, linger=0.1, look=0.1)
            async with aclosing(reading):
                yield reading
            logs.cut()


async def following(reading: Any, count: int) -> list[str]:
    async with asyncio.timeout(20):
        found: list[Line] = [await anext(reading) for _ in range(count)]
    return [one.text("host") for one in found]


async def test_it_follows_all_replicas_and_those_that_come_and_puts_their_lines_in_order() -> None:
    logs = Logs({"a": [line(1), line(3)], "b": [line(2)]})
    async with followed(logs) as reading:
        assert await following(reading, 3) == ["at-1", "at-2", "at-3"]
        logs.write("a", line(5))
        logs.write("b", line(4), line(6, "u-2"))
        assert await following(reading, 2) == ["at-4", "at-5"]
        logs.write("c", line(7))
        assert await following(reading, 1) == ["at-7"]
        del logs.written["a"]
        logs.write("b", line(8))
        assert await following(reading, 1) == ["at-8"]


async def test_no_line_is_lost_or_shown_twice_where_a_stream_is_cut_off() -> None:
    # Two in one second, and one that was written late: the API server begins anew at a second.
    logs = Logs({"a": [line(1.1), line(1.2), line(1.0)]})
    async with followed(logs) as reading:
        assert await following(reading, 3) == ["at-1.1", "at-1.2", "at-1.0"]
        for step in range(3):
            before = len(logs.opened)
            waiting = asyncio.create_task(following(reading, 1))
            async with asyncio.timeout(20):
                while len(logs.opened) == before:
                    logs.cut()
                    await asyncio.sleep(0.05)
            logs.write("a", line(1.3 + step / 10))
            assert await waiting == [f"at-{1.3 + step / 10}"]


async def test_what_was_written_before_a_restart_is_read_too() -> None:
    logs = Logs({"a": [line(3)], "b": [line(2)]}, restarted={"a"}, before={"a": line(1)})
    async with followed(logs, follow=False) as reading:
        assert [one.text("host") async for one in reading] == ["at-1", "at-2", "at-3"]


async def test_a_right_that_is_taken_away_meanwhile_ends_it() -> None:
    logs = Logs({"a": [line(1)]})
    async with followed(logs) as reading:
        assert await following(reading, 1) == ["at-1"]
        logs.refused = True
        logs.cut()
        with pytest.raises(UnreadableError, match="may not be read"):
            await following(reading, 1)
