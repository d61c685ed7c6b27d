"""How programs in a sandbox are told of package registries: by what each of them reads, on both backends."""

import io
import tarfile
from typing import Any
from xml.etree import ElementTree

from claude_sandbox.api import meta
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.docker.keys.delivery import settings_archive
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.blueprint.agent import SETTINGS_DIRECTORY
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.instructions import Instructions, instructed
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.blueprint.services import MAVEN_FILE

SITE = Site(parse_image("example.org/claude@sha256:" + "a" * 64, "IfNotPresent"))


def made(*registries: dict[str, Any], **spec: Any) -> Blueprint:
    services = [
        {"name": f"s{index}", "host": "repo.example.org", "paths": ["/*"], "registry": one}
        for index, one in enumerate(registries)
    ]
    fields = {"credentials": {"apiKeySecretRef": {"name": "key"}}, "services": services, **spec}
    return build(Identity("agents", "alice", "1"), ClaudeSandboxSpec.model_validate(fields), SITE)


def test_maven_is_told_by_a_file_that_the_agent_can_not_write() -> None:
    blueprint = made({"type": "Maven", "path": "/repository/a&b/"})
    assert dict(blueprint.environment)["MAVEN_ARGS"] == f"--global-settings {SETTINGS_DIRECTORY}/{MAVEN_FILE}"
    pod = objects.pod(blueprint, "1")
    text = pod["metadata"]["annotations"][meta.file_annotation(MAVEN_FILE)]
    mirror = ElementTree.fromstring(text).find("mirrors/mirror")  # noqa: S314 - our own
    assert mirror is not None
    assert {one.tag: one.text for one in mirror} == {
        "id": "s0", "url": "http://s0.services/repository/a&b/", "mirrorOf": "external:*"
    }  # fmt: skip
    mounts = {one["mountPath"]: one for one in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts[SETTINGS_DIRECTORY]["readOnly"]
    # On Docker the same file comes with the settings.
    with tarfile.open(fileobj=io.BytesIO(settings_archive(blueprint))) as tar:
        (entry,) = [one for one in tar.getmembers() if one.name.endswith(MAVEN_FILE)]
        assert (entry.mode, entry.uid) == (0o444, 0)
        inside = tar.extractfile(entry)
        assert inside is not None
        assert inside.read().decode() == text


def test_what_config_maps_tell_leaves_it_there() -> None:
    files = dict(instructed(made({"type": "Maven"}), Instructions(files={"managed-mcp.json": "{}"})).settings.files)
    assert set(files) == {"managed-mcp.json", MAVEN_FILE}
    assert (
        "s0.services"
        in dict(instructed(made({"type": "Maven"}), Instructions(files={MAVEN_FILE: "x"})).settings.files)[MAVEN_FILE]
    )


def test_without_a_registry_for_maven_nothing_is_there_for_it() -> None:
    blueprint = made({"type": "NPM"}, {"type": "Cargo"})
    assert blueprint.settings.files == ()
    assert "MAVEN_ARGS" not in dict(blueprint.environment)


def test_what_the_sandbox_itself_says_holds() -> None:
    blueprint = made({"type": "Maven"}, env=[{"name": "MAVEN_ARGS", "value": "-T4"}])
    assert dict(blueprint.environment)["MAVEN_ARGS"] == "-T4"
