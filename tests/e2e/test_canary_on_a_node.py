"""A newer image that is tried beside the workload on a real node: by its kubelet, its runtime, and its network.

What does not work there never touches the workload, and is gone afterwards. What is tried has nothing of the sandbox
that its workload has: no network, no key, no workspace; each of that is sought where it is, too.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from _pytest.outcomes import Failed
from enginekit import BUSYBOX
from image_registry import ImageRegistry, forwarded
from nodekit import Kubectl, eventually, namespace, pod, report
from sandboxkit import Sandbox, mounted, sandbox

from claude_sandbox.api import meta
from claude_sandbox.blueprint.agent import TLS_BROKER_PORT
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.namespaces import enter_network
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import ensure

# Minutes each, for the gates' times have to pass.
pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(1200)]

WHERE = "e2e-canary"
CANARY = "sandbox-alice-canary"
KEY_FILE = "/run/claude-sandbox/api-key/api-key"
PORT = 8181
WORKS, CRASHES = f"exec nc -ll -p {PORT} -e /bin/cat", "exit 1"
FILLS = "cat /dev/zero >/tmp/large 2>/dev/null; exec sleep 3600"
"""Claude Code says that it has no room."""
STOPS = "while :; do kill -STOP -1; done"
"""Nothing else of the container comes to an end: neither Claude Code nor who asks for it."""
_APPLETS = ("cat", "grep", "id", "kill", "ls", "mkdir", "nc", "sh", "sleep")


class Tag:
    """The tag that a sandbox follows."""

    def __init__(self, registry: ImageRegistry, directory: Path) -> None:
        self._registry, self._directory = registry, directory
        self.spec = {"repository": f"{registry.host}/alice", "tag": "1"}

    def push(self, work: str, mark: str) -> str:
        """Have it stand for an image whose program does this; its digest."""
        directory = self._directory / mark
        directory.mkdir()
        program = directory / "work"
        program.write_text(f"#!/bin/sh\n# {mark}\n{work}\n")
        busybox = ensure(BUSYBOX, report).file("bin/busybox")
        assert busybox is not None
        links = {f"/bin/{one}": "busybox" for one in _APPLETS}
        programs = {"/bin/busybox": busybox, "/bin/work": program}
        target = directory / "image.tar"
        of_programs(programs, target, "alice:1", builder.goarch(), ("/bin/work",), links)
        return self._registry.put_archive("alice", "1", target)


@contextmanager
def _served(registry: ImageRegistry) -> Iterator[None]:
    """In a thread of its own: these tests wait without a loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(registry.__aenter__(), loop).result(30)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(registry.__aexit__(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


@pytest.fixture
def tag(node: Cluster, kubectl: Kubectl, sandboxes: str, tmp_path: Path) -> Iterator[Tag]:
    """In a registry that operator and node see at one address, and a namespace where it may be asked."""
    registry = ImageRegistry(tmp_path / "registry")
    with _served(registry), forwarded(registry, enter_network(Names.of(node.layout))):
        kubectl.apply(namespace(WHERE), key(), policy(registry.host))
        try:
            yield Tag(registry, tmp_path)
        finally:
            kubectl("delete", "claudeimagepolicy", WHERE)
            kubectl("delete", "namespace", WHERE)


def key() -> dict[str, Any]:
    metadata = {"name": "key", "namespace": WHERE}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/api-key"}
    return kind | {"metadata": metadata, "stringData": {"api-key": "sk-ant-not-a-real-key-2"}}


def policy(registry: str) -> dict[str, Any]:
    spec = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": WHERE}},
        "permitted": [{"repository": registry}],
        "registries": [{"host": registry, "plainHttp": True}],
    }
    kind = {"apiVersion": meta.API_VERSION, "kind": meta.IMAGE_POLICY_KIND, "metadata": {"name": WHERE}}
    return kind | {"spec": spec}


def gate(within: str, stable: str) -> dict[str, Any]:
    checked = {"readyWithin": within, "stableFor": stable}
    return {"strategy": "Auto", "maxAge": "0m", "canary": "Command", "healthGate": checked}


def asked(tag: Tag, update: dict[str, Any], **more: Any) -> dict[str, Any]:
    own = {"image": tag.spec, "command": ["/bin/work"], "updatePolicy": update, "credentials": mounted("key")}
    return own | more


def edit(kubectl: Kubectl, **spec: Any) -> None:
    kubectl("patch", "claudesandbox", "alice", "-n", WHERE, "--type=merge", "-p", json.dumps({"spec": spec}))


def image(alice: Sandbox) -> dict[str, Any]:
    return dict(alice.get().get("status", {}).get("image") or {})


def ended(alice: Sandbox, digest: str) -> dict[str, Any]:
    """What became of a digest, once that is known."""
    attempts = 0

    def known() -> bool:
        nonlocal attempts
        found = image(alice)
        attempts = max(attempts, (found.get("canary") or {}).get("attempts", 0))
        return (found.get("last") or {}).get("to") == digest

    try:
        for _ in range(2):
            with suppress(Failed):
                eventually(f"what became of {digest}", known)
                break
        else:
            eventually(f"what became of {digest}", known)
    finally:
        print(json.dumps(alice.get().get("status", {}).get("image"), indent=1))
    # Nothing but the test's own gate ended what it was tried in.
    assert attempts < 2
    return dict(image(alice)["last"])


def runs(alice: Sandbox, digest: str) -> None:
    def there() -> bool:
        found = live(alice.kubectl, alice.pod)
        return found["spec"]["containers"][0]["image"].endswith(digest) and alice.is_("Ready") if found else False

    eventually(f"{digest} runs", there)


def live(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """A pod; empty where there is none."""
    found = kubectl("get", "pod", name, "-n", WHERE, "-o", "json", check=False)
    return json.loads(found.stdout) if found.returncode == 0 else {}


def untouched(pod: dict[str, Any]) -> tuple[Any, ...]:
    """What of a pod is another where it was made anew, or one of its containers was."""
    containers = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], [(one["containerID"], one["restartCount"], one["ready"]) for one in containers]


def nothing_left(kubectl: Kubectl) -> None:
    label = f"{meta.LABEL_COMPONENT}={meta.COMPONENT_CANARY}"
    eventually(
        "nothing of what was tried",
        lambda: not kubectl("get", "pods,networkpolicies", "-n", WHERE, "-l", label, "-o", "name").stdout,
    )


def test_what_crashes_hangs_or_is_unhealthy_never_touches_the_workload_and_what_works_takes_its_place(
    kubectl: Kubectl, tag: Tag
) -> None:
    first = tag.push(WORKS, "first")
    with sandbox(kubectl, WHERE, "alice", **asked(tag, gate("25s", "3s"))) as alice:
        runs(alice, first)
        before = untouched(live(kubectl, alice.pod))
        failing = (
            (CRASHES, "crashes", "25s", "exit code 1"),
            (STOPS, "stops", "25s", "not ready within 25s"),
            # Longer than the kubelet waits for what starts.
            (FILLS, "fills", "150s", "not ready within 150s"),
        )
        for work, mark, within, why in failing:
            edit(kubectl, updatePolicy=gate(within, "3s"))
            digest = tag.push(work, mark)
            last = ended(alice, digest)
            assert (last["result"], last["from"]) == ("NotRolled", first)
            assert why in last["message"]
            assert digest in image(alice)["failed"]
            nothing_left(kubectl)
            assert untouched(live(kubectl, alice.pod)) == before
        # What works is waited for, however long it takes on this machine.
        edit(kubectl, updatePolicy=gate("110s", "3s"))
        good = tag.push(WORKS, "good")
        last = ended(alice, good)
        assert last["result"] == "Rolled"
        assert "beside the workload" in last["message"]
        runs(alice, good)
        assert live(kubectl, alice.pod)["metadata"]["uid"] != before[0]
        nothing_left(kubectl)
        assert "heals" not in alice.get()["status"]


def test_it_has_no_network_key_or_volume_of_the_sandbox_and_fails_when_it_is_ready_no_more(
    kubectl: Kubectl, node: Cluster, sandbox_image: ImageArchive, tag: Tag
) -> None:
    tag.push(WORKS, "first")
    more = {
        "credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"},
        "network": {"ports": [{"name": "echo", "containerPort": PORT}]},
        "workspace": {"type": "PersistentVolumeClaim", "size": "64Mi", "retention": "Delete"},
    }
    with sandbox(kubectl, WHERE, "alice", **asked(tag, gate("110s", "1h"), **more)) as alice:
        before = untouched(live(kubectl, alice.pod))
        alice.run("sh", "-c", "echo mine >/workspace/file")
        kubectl.apply(pod(WHERE, "control", sandbox_image.pinned))
        kubectl.ready(WHERE, "control")
        later = tag.push(WORKS, "later")
        eventually("it is ready", lambda: "readyAt" in (image(alice).get("canary") or {}))
        tried = live(kubectl, CANARY)
        assert tried["spec"]["containers"][0]["image"].endswith(later)
        assert tried["metadata"]["uid"] == image(alice)["canary"]["uid"]

        def connects(name: str, address: str, port: int) -> bool:
            if name == "control":
                return kubectl.connects(WHERE, name, address, port)
            # What it runs when it is connected.
            command = ("nc", "-w", "3", address, str(port), "-e", "/bin/id")
            return kubectl.run(WHERE, name, *command, check=False).returncode == 0

        server = urlsplit(node.server)
        places = {
            "the gateway": (alice.pod, gateway_of(kubectl), TLS_BROKER_PORT),
            "the old workload": ("control", live(kubectl, alice.pod)["status"]["podIP"], PORT),
            "the API server": ("control", str(server.hostname), int(server.port or 0)),
            "the API server's Service": ("control", "10.96.0.1", 443),
        }
        for what, (other, address, port) in places.items():
            eventually(f"{what} answers", lambda o=other, a=address, p=port: connects(o, a, p))  # type: ignore[misc]
            assert not connects(CANARY, address, port), what
        for script in ("grep -q mine /workspace/file", f"grep -q . {KEY_FILE}"):
            assert not alice.fails("sh", "-c", script), script
            assert kubectl.run(WHERE, CANARY, "sh", "-c", script, check=False).returncode != 0, script
        kubectl.run(WHERE, CANARY, "sh", "-c", "echo planted >/workspace/planted")
        assert alice.run("ls", "/workspace") == "file\n"

        kubectl.run(WHERE, CANARY, "sh", "-c", "cat /dev/zero >/tmp/large 2>/dev/null || true")
        last = ended(alice, later)
        assert last["result"] == "NotRolled"
        assert "it was ready, and is no more" in last["message"]
        nothing_left(kubectl)
        assert untouched(live(kubectl, alice.pod)) == before


def test_a_quota_that_has_room_is_used_and_where_there_is_none_the_status_says_so(kubectl: Kubectl, tag: Tag) -> None:
    def limited(pods: int) -> None:
        metadata = {"name": "pods", "namespace": WHERE}
        hard = {"pods": str(pods), "limits.memory": f"{pods * 512}Mi"}
        kubectl.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})

        def counted() -> bool:
            found = json.loads(kubectl("get", "resourcequota", "pods", "-n", WHERE, "-o", "json").stdout)
            return (found.get("status", {}).get("hard") or {}).get("pods") == str(pods)

        eventually("the quota counts", counted)

    limited(1)
    tag.push(WORKS, "first")
    with sandbox(kubectl, WHERE, "alice", **asked(tag, gate("110s", "3s"))) as alice:
        second = tag.push(WORKS, "second")
        last = ended(alice, second)
        assert last["result"] == "Rolled"
        assert "not tried beside the workload" in last["message"]
        assert "exceeded quota" in last["message"]
        runs(alice, second)
        limited(2)
        third = tag.push(WORKS, "third")
        last = ended(alice, third)
        assert last["result"] == "Rolled"
        assert "ready for 3s beside the workload" in last["message"]
        runs(alice, third)
        nothing_left(kubectl)


def gateway_of(kubectl: Kubectl) -> str:
    """The address of the namespace's."""
    return kubectl("get", "service", meta.GATEWAY, "-n", WHERE, "-o", "jsonpath={.spec.clusterIP}").stdout
