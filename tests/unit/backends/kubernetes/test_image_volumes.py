"""Whether a cluster mounts images is found out by trying, and what one namespace finds decides for no other."""

import copy
from typing import Any

import pytest
from compliant_sandbox import compliant

from claude_sandbox.backends.kubernetes.image_volumes import LASTS, ImageVolumes
from claude_sandbox.backends.kubernetes.tools import NAME, brought_into
from claude_sandbox.blueprint.model import Image, Tools
from claude_sandbox.kubernetes_api.errors import ApiError

TOOLS = Tools(Image("example.org/claude:1", None, "IfNotPresent"), "/opt/claude-sandbox", 1)


def pod(namespace: str = "agents", *, image_volumes: bool = True) -> Any:
    live = copy.deepcopy(compliant().pod)
    live["metadata"]["namespace"] = namespace
    return {**live, "spec": brought_into(live["spec"], TOOLS, image_volumes=image_volumes)}


class Server:
    """Answers dry runs: keeps the field, drops it, refuses what is left, or fails otherwise."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked = 0

    async def create(self, resource: Any, manifest: Any, namespace: str, *, dry_run: bool) -> Any:
        assert dry_run
        # Of a sandbox that is about to be made there is no account yet, and admission would refuse.
        assert "serviceAccountName" not in manifest["spec"]
        self.asked += 1
        if self.answer == "refuses":
            raise ApiError(422, "Invalid", "spec.volumes[6]: Required value: must specify a volume type")
        if self.answer == "fails":
            raise ApiError(500, "InternalError", "no")
        made = copy.deepcopy(manifest)
        if self.answer == "drops":
            for volume in made["spec"]["volumes"]:
                volume.pop("image", None)
        return made


def volumes(answer: str) -> tuple[ImageVolumes, Server, list[float]]:
    server, now = Server(answer), [0.0]
    return ImageVolumes(server, lambda: now[0]), server, now  # type: ignore[arg-type]


@pytest.mark.parametrize(("answer", "usable"), [("keeps", True), ("drops", False), ("refuses", False)])
async def test_the_api_server_is_asked_once_in_a_while(answer: str, usable: bool) -> None:
    found, server, now = volumes(answer)
    for _ in range(3):
        assert await found.usable(pod(), None) is usable
    assert server.asked == 1
    now[0] += LASTS
    await found.usable(pod(), None)
    assert server.asked == 2


async def test_a_failure_says_nothing_about_the_field() -> None:
    found, server, _ = volumes("fails")
    assert not await found.usable(pod(), None)
    server.answer = "keeps"
    assert await found.usable(pod(), None)


@pytest.mark.parametrize("way", [True, False])
async def test_a_pod_that_is_there_keeps_its_way(way: bool) -> None:
    found, server, _ = volumes("keeps" if not way else "drops")
    assert await found.usable(pod(), pod(image_volumes=way)) is way
    assert server.asked == 0


def stuck(namespace: str) -> Any:
    live = pod(namespace)
    waiting = {"reason": "CreateContainerError", "message": "no"}
    live["status"] = {"containerStatuses": [{"name": "agent", "state": {"waiting": waiting}}]}
    return live


async def test_where_a_node_can_not_make_it_the_way_is_given_up_for_the_namespace_and_for_no_other() -> None:
    found, _, now = volumes("keeps")
    assert not await found.usable(pod(), stuck("agents"))
    assert not await found.usable(pod(), None)
    assert await found.usable(pod("others"), None)
    now[0] += LASTS + 1
    assert await found.usable(pod(), None)


def test_what_clones_repositories_comes_after_what_brings_claude_code() -> None:
    spec = {**compliant().pod["spec"], "initContainers": [{"name": "clone"}]}
    copied = brought_into(spec, TOOLS, image_volumes=False)["initContainers"]
    assert [one["name"] for one in copied] == [NAME, "clone"]
    mounted = brought_into(spec, TOOLS, image_volumes=True)["initContainers"]
    assert [one["name"] for one in mounted] == ["clone"]
