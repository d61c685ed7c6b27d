"""Claude Code in an image that is anybody's: whatever the spec says, what starts is ours and finds ours first."""

from typing import Any

import pytest

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.blueprint import tools
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Blueprint, Identity, Site

DIGEST = "sha256:" + "a" * 64
NEWER = parse_image("example.org/claude:3", "IfNotPresent")
SITE = Site(parse_image(f"example.org/claude@{DIGEST}", "IfNotPresent"), releases={"3.0.0": NEWER})
OTHER = {"repository": "example.org/devcontainer", "tag": "1"}


def blueprint(**fields: Any) -> Blueprint:
    spec = {"credentials": {"apiKeySecretRef": {"name": "key"}}} | fields
    return build(Identity("agents", "alice", "u-1"), ClaudeSandboxSpec.model_validate(spec), SITE)


def test_the_operators_own_image_is_left_as_it_is() -> None:
    for made in (blueprint(), blueprint(image={"repository": "example.org/claude", "digest": DIGEST})):
        assert made.tools is None
        assert made.command == ()
        assert made.startup.command[0] == "claude"


def test_an_image_is_taken_at_no_ones_word() -> None:
    """One of the same name, or built from the operator's, may be anything."""
    made = blueprint(image={"repository": "example.org/claude", "tag": "1"})
    assert made.tools is not None
    assert made.tools.image == SITE.image


def test_the_release_that_is_asked_for_is_what_runs_and_what_is_brought() -> None:
    newer = {"claudeCode": {"version": "3.0.0"}}
    assert (blueprint(**newer).image, blueprint(**newer).tools) == (NEWER, None)
    brought = blueprint(image=OTHER, **newer).tools
    assert brought is not None
    assert brought.image == NEWER
    # Of the operator's own in the place of another release nothing is taken.
    ours = blueprint(image={"repository": "example.org/claude", "digest": DIGEST}, **newer).tools
    assert ours is not None
    assert ours.image == NEWER


@pytest.mark.parametrize("backend", [{}, {"backend": {"type": "Docker"}}])
def test_what_is_started_and_asked_is_ours_by_its_whole_path(backend: dict[str, Any]) -> None:
    made = blueprint(image=OTHER, command=["/bin/evil"], args=["now"], **backend)
    assert made.command == tools.ENTRY
    assert made.args == ("/bin/evil", "now")
    for probe in (made.startup, made.readiness, made.liveness):
        assert probe.command[0].startswith(f"{tools.DIRECTORY}/")
    assert '"SHELL":"/opt/claude-sandbox/libexec/bash"' in made.settings.content
    assert f'"apiKeyHelper":"{tools.BUSYBOX} cat ' in made.settings.content


def test_the_path_begins_with_ours() -> None:
    assert dict(blueprint(image=OTHER).environment)["PATH"].startswith(f"{tools.DIRECTORY}/bin:")


def test_what_is_read_before_managed_settings_is_emptied() -> None:
    found = dict(blueprint(image=OTHER).environment)
    assert [found[name] for name in ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "BASH_ENV", "NODE_OPTIONS")] == [
        ""
    ] * 5
    assert found["CLAUDE_CODE_MANAGED_SETTINGS_PATH"] == ""


def test_room_for_what_is_copied_is_added_to_the_sandboxs_own() -> None:
    assert blueprint(image=OTHER).limits.ephemeral_storage - blueprint().limits.ephemeral_storage == tools.SIZE
