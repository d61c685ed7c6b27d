"""What ConfigMaps tell Claude Code: it comes into what runs, and nothing new is made while it can't be read."""

import json
from typing import Any

import pytest
from kubelet import Kubelet
from world import World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api

pytestmark = pytest.mark.controlplane

TOLD = {"claudeCode": {"memory": {"name": "team"}, "settings": {"name": "team"}}}


async def config_map(world: World, api: Api, memory: str, settings: str = "{}") -> None:
    body = {
        "metadata": {"name": "team", "labels": {meta.LABEL_CLAUDE_CODE: "true"}},
        "data": {"CLAUDE.md": memory, "settings.json": settings},
    }
    await api.create(r.CONFIG_MAPS, body, world.namespace)


def settings_of(world: World, name: str = "alice") -> dict[str, Any]:
    """The managed settings of the sandbox's pod; empty where there is none."""
    pod = world.child(r.PODS, name)
    text = ((pod or {}).get("metadata", {}).get("annotations") or {}).get(meta.ANNOTATION_MANAGED_SETTINGS)
    return dict(json.loads(text)) if text else {}


async def test_a_config_map_is_waited_for_and_its_changes_come_into_the_running_pod(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    await world.operator().start()
    await world.create("alice", updateStrategy={"type": "Recreate"}, **TOLD)
    stalled = await world.said("alice", "Stalled", "True", "ConfigMapNotFound")
    assert f"{meta.LABEL_CLAUDE_CODE}=true" in stalled["message"]
    assert world.child(r.PODS, "alice") is None
    await config_map(world, api, "Be brief.", '{"model": "opus"}')
    await world.ready("alice")
    pod = world.child(r.PODS, "alice")
    assert pod is not None
    assert settings_of(world).items() >= {"claudeMd": "Be brief.", "model": "opus"}.items()
    assert settings_of(world)["allowManagedHooksOnly"] is True

    await api.patch(r.CONFIG_MAPS, "team", world.namespace, {"data": {"CLAUDE.md": "Be long."}})
    await world.ledger.until(lambda: settings_of(world).get("claudeMd") == "Be long.", "the new instructions")
    await api.patch(r.CONFIG_MAPS, "team", world.namespace, {"data": {"settings.json": '{"env": {"A": "b"}}'}})
    refused = await world.said("alice", "Stalled", "True", "ConfigMapRefused")
    assert "spec.env" in refused["message"]
    await api.delete(r.CONFIG_MAPS, "team", world.namespace)
    await world.said("alice", "Stalled", "True", "ConfigMapNotFound")
    # It goes on, the same, with what it was told.
    assert settings_of(world).items() >= {"claudeMd": "Be long.", "model": "opus"}.items()
    assert (world.child(r.PODS, "alice") or {})["metadata"]["uid"] == pod["metadata"]["uid"]
    assert world.heals("alice") == 0
    await world.said("alice", "Drifted", "False")


async def test_who_changes_what_a_pod_is_told_has_it_put_back(world: World, api: Api, kubelet: Kubelet) -> None:
    await config_map(world, api, "Be brief.")
    pages = {"metadata": {"name": "pages", "labels": {meta.LABEL_CLAUDE_CODE: "true"}}, "data": {"a.md": "You test."}}
    await api.create(r.CONFIG_MAPS, pages, world.namespace)
    await world.operator().start()
    await world.create("alice", claudeCode={**TOLD["claudeCode"], "agents": {"name": "pages"}})
    await world.ready("alice")
    file = meta.file_annotation(".claude/agents/a.md")
    changed = dict.fromkeys((meta.ANNOTATION_MANAGED_SETTINGS, file), "{}")
    await world.change(r.PODS, "sandbox-alice", {"metadata": {"annotations": changed}})
    await world.healed("alice", 0)
    pod = world.child(r.PODS, "alice")
    assert pod is not None
    assert settings_of(world)["claudeMd"] == "Be brief."
    assert pod["metadata"]["annotations"][file] == "You test."

    # Another text comes into the pod in place, another file needs another pod.
    await api.patch(r.CONFIG_MAPS, "pages", world.namespace, {"data": {"a.md": "You review."}})
    await world.ledger.until(
        lambda: (world.child(r.PODS, "alice") or pod)["metadata"]["annotations"][file] == "You review.", "the new text"
    )
    await world.said("alice", "Drifted", "False")
    await api.patch(r.CONFIG_MAPS, "pages", world.namespace, {"data": {"b.md": "You test."}})
    await world.said("alice", "Drifted", "True", "SpecChanged")
