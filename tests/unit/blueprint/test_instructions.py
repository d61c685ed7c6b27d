"""What ConfigMaps say goes below what is pinned, whatever they say; what is wrong is told with its field."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from claude_sandbox.api.fields.work.claude_code import ClaudeCode
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.docker import drift
from claude_sandbox.backends.docker import objects as docker
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.keys.delivery import settings_archive
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
from claude_sandbox.claudecode.given import GIT_FILE, RefusedError, may_be_beside

ASKED = ClaudeCode.model_validate({"settings": {"name": "team"}, "memory": {"name": "team"}})
CONFIG_MAPS = {
    "team": {"settings.json": '{"model": "opus"}', "CLAUDE.md": "Be brief."},
}


def reading(config_maps: Mapping[str, Config]) -> Callable[[str], Config]:
    return lambda name: config_maps[name]


def blueprint(**more: Any) -> Blueprint:
    spec = ClaudeSandboxSpec.model_validate({"credentials": {"apiKeySecretRef": {"name": "key"}}, **more})
    return build(Identity("agents", "alice", "1", "2"), spec, Site(parse_image("x@sha256:" + "a" * 64, "Always")))


@pytest.mark.parametrize("asked", [ClaudeCode(), ClaudeCode.model_validate({"mcpServers": {"name": "servers"}})])
def test_what_the_operator_itself_puts_there_stays(asked: ClaudeCode) -> None:
    bare = blueprint(repositories=[{"path": "project", "url": "https://git.example.org/team/project"}])
    servers = {"servers": {"mcp.json": '{"mcpServers": {"a": {"type": "http", "url": "https://a.example.org"}}}'}}
    told = instructed(bare, understood(asked, reading(servers)))
    assert dict(bare.settings.files)[GIT_FILE] == dict(told.settings.files)[GIT_FILE]
    assert len(told.settings.files) == 1 + len(understood(asked, reading(servers)).files)


def test_what_the_operator_itself_puts_there_may_be_there() -> None:
    """For control SEC-04, which lets nothing else be beside managed settings."""
    maven = {"name": "maven", "host": "repo.example.org", "paths": ["/*"], "registry": {"type": "Maven"}}
    repositories = [{"path": "project", "url": "https://git.example.org/team/project"}]
    put = [path for path, _ in blueprint(repositories=repositories, services=[maven]).settings.files]
    assert len(put) == 2
    assert all(may_be_beside(path) for path in put)


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


FILES = {
    "servers": {"mcp.json": '{"mcpServers": {"one": {"command": "/bin/true"}}}'},
    "pages": {"tester.md": "You test.", "reviewer.md": "You review."},
    "release": {"SKILL.md": "How to release.", "check.py": "print()"},
}
WITH_FILES = ClaudeCode.model_validate(
    {
        "mcpServers": {"name": "servers"},
        "agents": {"name": "pages"},
        "commands": {"name": "pages"},
        "skills": [{"name": "release"}],
    }
)


def test_files_stand_beside_the_settings_on_either_backend() -> None:
    told = instructed(blueprint(), understood(WITH_FILES, reading(FILES)))
    found = dict(told.settings.files)
    assert set(found) == {
        "managed-mcp.json",
        *(f".claude/{kind}/{name}.md" for kind in ("agents", "commands") for name in ("tester", "reviewer")),
        ".claude/skills/release/SKILL.md",
        ".claude/skills/release/check.py",
    }
    pod = kubernetes.pod(told, "1")
    (volume,) = (one["downwardAPI"] for one in pod["spec"]["volumes"] if one["name"] == "settings")
    shown = {one["path"]: one["fieldRef"]["fieldPath"].split("'")[1] for one in volume["items"]}
    assert {path: pod["metadata"]["annotations"][name] for path, name in shown.items()} == {
        **found,
        "managed-settings.json": told.settings.content,
    }
    with tarfile.open(fileobj=io.BytesIO(settings_archive(told))) as archive:
        for path, text in found.items():
            member = archive.extractfile(f"etc/claude-code/{path}")
            assert member is not None
            assert member.read().decode() == text
            assert (
                archive.getmember(f"etc/claude-code/{path}").mode,
                archive.getmember(f"etc/claude-code/{path}").uid,
            ) == (0o444, 0)


def test_on_docker_other_files_are_another_container_and_a_volume_that_is_filled_anew() -> None:
    made = [instructed(blueprint(), understood(asked, reading(FILES))) for asked in (ClaudeCode(), WITH_FILES)]
    assert len({docker.spec_hash(one, "c") for one in made}) == 2
    bare, told = (docker.documents(one, "c", EngineCapabilities()).settings for one in made)
    assert drift.filled_otherwise(told, bare)
    assert not drift.filled_otherwise(told, told)


def test_more_than_is_kept_of_a_pod_is_refused() -> None:
    large = {**FILES, "release": {f"{number}.txt": "x" * 20_000 for number in range(5)} | {"SKILL.md": "x"}}
    with pytest.raises(RefusedError, match=r"spec\.claudeCode\.skills\[0\]: ConfigMap release.*shorter"):
        understood(WITH_FILES, reading(large))
    many = {**FILES, "pages": {f"a{number}.md": "x" for number in range(40)}}
    with pytest.raises(RefusedError, match="64 files in all"):
        understood(WITH_FILES, reading(many))
