"""What ConfigMaps say goes below what is pinned, whatever they say; what is wrong is told with its field."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from claude_sandbox.api.fields.claude_code import ClaudeCode
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.docker import objects as docker
from claude_sandbox.backends.kubernetes import objects as kubernetes
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.instructions import (
    AT_MOST,
    Config,
    Instructions,
    NotThereError,
    instructed,
    understood,
)
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.claudecode.given import RefusedError

ASKED = ClaudeCode.model_validate({"settings": {"name": "team"}, "memory": {"name": "team"}})
CONFIG_MAPS = {
    "team": {"settings.json": '{"model": "opus"}', "CLAUDE.md": "Be brief."},
}


def reading(config_maps: Mapping[str, Config]) -> Callable[[str], Config]:
    return lambda name: config_maps[name]


def blueprint() -> Blueprint:
    spec = ClaudeSandboxSpec.model_validate({"credentials": {"apiKeySecretRef": {"name": "key"}}})
    return build(Identity("agents", "alice", "1", "2"), spec, Site(parse_image("x@sha256:" + "a" * 64, "Always")))


def test_both_arrive_beside_the_pins() -> None:
    bare = blueprint()
    content = json.loads(instructed(bare, understood(ASKED, reading(CONFIG_MAPS))).settings.content)
    pins = json.loads(bare.settings.pins)
    assert content == pins | {"model": "opus", "claudeMd": "Be brief."}


def test_nothing_given_leaves_the_settings_as_they_are() -> None:
    bare = blueprint()
    assert instructed(bare, Instructions()) == bare


@for_all(st.dictionaries(st.sampled_from(["env", "apiKeyHelper", "allowedProviders", "model"]), st.text(), max_size=4))
def test_the_pins_have_the_last_word_even_over_what_was_not_judged(told: dict[str, Any]) -> None:
    bare = blueprint()
    content = json.loads(instructed(bare, Instructions(told)).settings.content)
    assert content.items() >= json.loads(bare.settings.pins).items()


def test_what_is_told_makes_no_other_pod_and_no_other_container() -> None:
    bare = blueprint()
    told = instructed(bare, understood(ASKED, reading(CONFIG_MAPS)))
    pods = [kubernetes.pod(one, "1")["metadata"]["annotations"] for one in (bare, told)]
    assert pods[0]["claudesandbox.dev/spec-hash"] == pods[1]["claudesandbox.dev/spec-hash"]
    assert pods[0]["claudesandbox.dev/managed-settings"] != pods[1]["claudesandbox.dev/managed-settings"]
    assert docker.spec_hash(bare, "cluster") == docker.spec_hash(told, "cluster")


@pytest.mark.parametrize(
    ("config_map", "key", "text", "remedy"),
    [
        (
            "team",
            "settings.json",
            '{"apiKeyHelper": "cat /key"}',
            "spec.claudeCode.settings.*settings.json.*team.*remove",
        ),
        ("team", "CLAUDE.md", "x" * (AT_MOST + 1), "spec.claudeCode.memory.*shorter"),
        ("team", "CLAUDE.md", "use " + "sk-ant-api03-" + "a" * 20, "spec.claudeCode.memory.*credential.*remove"),
        ("team", "CLAUDE.md", "\x01" * AT_MOST, "80 KiB in all"),
    ],
)
def test_what_is_refused_is_told_with_its_field_and_the_remedy(
    config_map: str, key: str, text: str, remedy: str
) -> None:
    found = {name: {**data, **({key: text} if name == config_map else {})} for name, data in CONFIG_MAPS.items()}
    with pytest.raises(RefusedError, match=remedy) as refused:
        understood(ASKED, reading(found))
    assert text[4:] not in str(refused.value) or len(text) < 8


def test_a_key_that_is_missing_is_told() -> None:
    with pytest.raises(NotThereError, match=r"spec\.claudeCode\.memory: key CLAUDE.md of ConfigMap team is not there"):
        understood(ASKED, reading({**CONFIG_MAPS, "team": {"settings.json": "{}"}}))
