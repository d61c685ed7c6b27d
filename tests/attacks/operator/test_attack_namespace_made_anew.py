"""A namespace is deleted, and whoever makes one of its name next gets what it had on a Docker host.

Gained before: the workspace that a sandbox was told to keep, with all files in it, went to the next sandbox of that
name in the next namespace of that name; and a host that named the namespace took the newcomer's sandboxes. Closed by
the namespace's UID in the workspace's name and labels (`backends/docker/names.py`), which is read from the API server
while the sandbox is there (`controller/sandboxes/namespace_uids.py`), and by the UIDs that a DockerHost's status keeps
of the namespaces that its spec names (`controller/docker_hosts/status.py`, `backends/docker/hosts/placement.py`).
"""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest
from dockerkit import CLUSTER, FIRST, sandbox

from claude_sandbox.api.docker_hosts.spec import AllowedNamespaces, DockerHostSpec
from claude_sandbox.api.labels import LabelSelector
from claude_sandbox.api.spec import Backend, BackendType
from claude_sandbox.api.status import Placement
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.hosts.capacity import Requests
from claude_sandbox.backends.docker.hosts.placement import HostInfo, PlacementRequest, Refused, keep
from claude_sandbox.backends.docker.names import KEPT, identity_in, is_kept_by, is_owned, labels_of, names_of
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.docker_hosts.status import meant
from claude_sandbox.controller.sandboxes.namespace_uids import NamespaceUIDs
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import NAMESPACES, PERSISTENT_VOLUME_CLAIMS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

FORMER = Identity("agents", "alice", "1", "former")
NEXT = Identity("agents", "alice", "2", "next")


@pytest.mark.parametrize("kept", KEPT)
def test_what_is_kept_is_of_one_namespace_whatever_its_name(kept: str) -> None:
    former = {"Labels": labels_of("c", FORMER, kept)}
    again = replace(FORMER, uid="3")
    assert set(names_of("c", FORMER).kept) == set(names_of("c", again).kept)
    assert set(names_of("c", FORMER).kept).isdisjoint(names_of("c", NEXT).kept)
    assert is_kept_by(former, "c", again, kept)
    assert not is_kept_by(former, "c", NEXT, kept)
    # One of which nobody knows whose it was is nobody's.
    unknown = {"Labels": labels_of("c", replace(FORMER, namespace_uid=""), kept)}
    assert not is_kept_by(unknown, "c", FORMER, kept)
    assert not is_kept_by(former, "c", replace(FORMER, namespace_uid=""), kept)


def test_everything_else_is_told_apart_by_the_sandboxs_own_uid() -> None:
    made = {"Labels": labels_of("c", FORMER, names.AGENT)}
    assert is_owned(made, "c", replace(FORMER, namespace_uid=""), names.AGENT)
    found = identity_in(made["Labels"], "c")
    assert found is not None
    assert found.namespace_uid == "former"


def host(**recorded: str) -> HostInfo:
    allowed = AllowedNamespaces(names=["agents"], selector=LabelSelector(match_labels={"docker": "yes"}))
    return HostInfo("h", DockerHostSpec(endpoint="unix:///s", allowed_namespaces=allowed), "e", namespaces=recorded)


@pytest.mark.parametrize(
    ("recorded", "uid", "labels", "allowed"),
    [
        ({"agents": "former"}, "former", {}, True),
        ({"agents": "former"}, "next", {}, False),
        ({"agents": "former"}, None, {}, False),
        # An administrator has labelled this very one.
        ({"agents": "former"}, "next", {"docker": "yes"}, True),
        ({}, "next", {}, True),
        ({"other": "former"}, "next", {}, True),
    ],
)
def test_a_host_lets_only_the_namespace_in_that_was_meant(
    recorded: dict[str, str], uid: str | None, labels: dict[str, str], allowed: bool
) -> None:
    wish = PlacementRequest("agents", labels, Backend(type=BackendType.DOCKER), Requests(0, 0), namespace_uid=uid)
    found = keep(wish, host(**recorded), Placement(host="h", engine_id="e"))
    assert isinstance(found, Refused) is not allowed
    if isinstance(found, Refused):
        assert "removed there and added again" in found.message


def test_who_was_meant_is_kept_for_as_long_as_it_is_named() -> None:
    uids: dict[str, str] = {}
    assert meant(["agents"], (), uids.get) == ()
    uids["agents"] = "former"
    first = meant(["agents"], (), uids.get)
    assert [(one.name, one.uid, one.replaced) for one in first] == [("agents", "former", False)]
    told = [one.model_dump() for one in first]
    del uids["agents"]
    assert meant(["agents"], told, uids.get) == first
    uids["agents"] = "next"
    assert [(one.uid, one.replaced) for one in meant(["agents"], told, uids.get)] == [("former", True)]
    # The remedy: it is not named for a while.
    assert meant([], told, uids.get) == ()
    assert [one.uid for one in meant(["agents"], (), uids.get)] == ["next"]


class Server:
    """An API server in which a namespace is made again at a moment of the test's choosing."""

    def __init__(self) -> None:
        self.sandbox, self.namespace = "1", "former"
        self.calls: list[str] = []
        self.after_the_first = lambda: None

    async def get(self, resource: Any, name: str, namespace: str | None = None, *, metadata_only: bool = False) -> Any:
        self.calls.append(resource.kind)
        uid = self.namespace if resource is NAMESPACES else self.sandbox
        if len(self.calls) == 1:
            self.after_the_first()
        if not uid:
            raise ApiError(404, "NotFound", "gone")
        return {"metadata": {"uid": uid}}


def known(uid: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "agents", "name": "alice", "uid": uid}}


async def test_the_uid_is_of_the_namespace_that_the_sandbox_is_in() -> None:
    server = Server()
    found = NamespaceUIDs(server)  # type: ignore[arg-type]
    assert await found.of(known("1")) == "former"
    assert await found.of(known("1")) == "former"
    assert server.calls == ["Namespace", "ClaudeSandbox"], "it never changes, so it is asked for once"
    server.sandbox, server.namespace = "2", "next"
    assert await found.of(known("2")) == "next"
    # A watch that is behind still knows the former one.
    assert await NamespaceUIDs(server).of(known("1")) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("sandbox", ["", "2"])
async def test_a_namespace_that_is_made_again_meanwhile_is_not_taken_for_the_former(sandbox: str) -> None:
    server = Server()

    def replaced() -> None:
        server.sandbox, server.namespace = sandbox, "next"

    server.after_the_first = replaced  # type: ignore[method-assign]
    assert await NamespaceUIDs(server).of(known("1")) is None  # type: ignore[arg-type]


@pytest.mark.by_turns
@pytest.mark.engine
async def test_who_has_the_namespaces_name_next_finds_an_empty_workspace(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        one.identity = former = replace(one.identity, namespace_uid="former")
        await one.made()
        one.sh("echo private >/workspace/notes")
        assert (await one.backend.remove(former, retain=True)).done
        kept = one.names.workspace
        assert (kept, "agents", "former") in await one.backend.workspaces()
        one.clock.now += 60
        one.identity = Identity(former.namespace, former.name, former.uid.replace("0000-4000", "0001-4000"), "next")
        await one.settled(FIRST)
        assert "exit 1" in one.sh("cat /workspace/notes")
        assert (await one.backend.remove(one.identity, retain=False)).done
        one.clock.now += 60
        # In the former one, were it still there, it is found again.
        one.identity = replace(one.identity, uid=former.uid.replace("0000-4000", "0002-4000"), namespace_uid="former")
        await one.settled(FIRST)
        assert one.sh("cat /workspace/notes") == "private\n"
        assert (await one.backend.remove(one.identity, retain=False)).done
        left = one.sdk.api.volumes(filters={"label": names.selector(CLUSTER, None)})["Volumes"] or []
        assert not [volume for volume in left if volume["Name"] == kept]


@pytest.mark.controlplane
async def test_on_kubernetes_a_claim_ends_with_its_namespace(control_plane_with_controllers: Cluster) -> None:
    """So nothing that outlives a sandbox there outlives its namespace."""
    async with Api(from_kubeconfig(str(control_plane_with_controllers.kubeconfig))) as api:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "made-anew"}}
        first = await api.create(NAMESPACES, namespace)
        claim = {
            "metadata": {"name": "sandbox-alice-workspace"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        await api.create(PERSISTENT_VOLUME_CLAIMS, claim, "made-anew")
        await api.delete(NAMESPACES, "made-anew")
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(ApiError):
                    second = await api.create(NAMESPACES, namespace)
                    break
                await asyncio.sleep(0.2)
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
        assert (await api.list(PERSISTENT_VOLUME_CLAIMS, "made-anew")).items == []
        await api.delete(NAMESPACES, "made-anew")
