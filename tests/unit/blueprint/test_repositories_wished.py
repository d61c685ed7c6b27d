"""What is cloned for a sandbox, as what clones is told."""

import pytest

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site
from claude_sandbox.blueprint.repositories import refused_pushes

SITE = Site(parse_image("example.org/claude:1", "IfNotPresent"))


@pytest.mark.parametrize(
    ("ref", "asked"),
    [
        (None, None),
        ("main", "main"),
        ("claude/x", "claude/x"),
        # git clone --branch knows branches and tags by their short names alone.
        ("refs/heads/main", "main"),
        ("refs/tags/v1", "v1"),
    ],
)
def test_a_ref_is_asked_for_by_the_name_that_git_clones_it_by(ref: str | None, asked: str | None) -> None:
    repository = {"path": "project", "url": "https://git.example.org/team/project"} | ({"ref": ref} if ref else {})
    spec = {"credentials": {"apiKeySecretRef": {"name": "key"}}, "repositories": [repository]}
    made = build(Identity("agents", "alice", "u-1"), ClaudeSandboxSpec.model_validate(spec), SITE).git
    assert made is not None
    assert [one.ref for one in made.clones] == [asked]


@pytest.mark.parametrize(
    ("push", "field"),
    [
        ({"branches": ["claude/*", "**", "a.b/*-c"], "protectedPaths": [".github/**", "/a/", "**/x", "..."]}, None),
        ({"branches": ["claude/*", "refs/heads/claude/*"]}, "[0].push.branches[1]"),
        *(
            ({"branches": [one]}, "[0].push.branches[0]")
            for one in ("/a", "a/", "a//b", "a/.b", "-a", "a..b", "a.lock")
        ),
        *(({"protectedPaths": [one]}, "[0].push.protectedPaths[0]") for one in ("./a", "a/../b", "a//b", "/", "a/.")),
    ],
)
def test_what_nothing_can_meet_is_refused_rather_than_without_effect(
    push: dict[str, list[str]], field: str | None
) -> None:
    repository = {"path": "a", "url": "https://a.example.org/a", "credentialsSecretRef": {"name": "git"}, "push": push}
    spec = {"credentials": {"apiKeySecretRef": {"name": "key"}}, "repositories": [repository]}
    found = refused_pushes(ClaudeSandboxSpec.model_validate(spec).repositories)
    assert [where for where, _ in found] == ([field] if field else [])
