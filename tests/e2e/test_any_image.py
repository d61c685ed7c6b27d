"""A sandbox whose image is anybody's, on a real node: Claude Code is the operator's, and the image changes nothing."""

import json
from collections.abc import Iterator

import pytest
from foreign_image import TOOLS, hostile_image, named
from nodekit import Kubectl, eventually
from provider_process import ProviderProcess
from sandboxkit import Sandbox, apply_sandbox, sandbox

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images.recipes import CLAUDE_CODE
from claude_sandbox.localcluster.node import load_image

pytestmark = pytest.mark.node

BROKERED = {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"}


@pytest.fixture(scope="module")
def made(
    node: Cluster, kubectl: Kubectl, sandboxes: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    image = hostile_image(tmp_path_factory.mktemp("foreign"))
    load_image(node.layout, image)
    with sandbox(kubectl, sandboxes, "foreign", credentials=BROKERED, image=named(image)) as found:
        yield found


def test_claude_code_is_the_operators_and_works_through_the_gateway(made: Sandbox, provider: ProviderProcess) -> None:
    assert made.run("claude", "--version").startswith(CLAUDE_CODE)
    before = len(provider.requests())
    found = json.loads(made.run("claude", "-p", "ping", "--output-format", "json"))
    assert (found["result"], found["is_error"]) == ("pong", False)
    assert len(provider.requests()) > before


def test_nothing_of_the_image_ran_or_decides(made: Sandbox) -> None:
    assert made.run("id", "-u") == "1000\n"
    assert made.fails("ls", "/tmp/the-image-ran")
    assert made.fails("ls", "/workspace/the-image-ran")
    variables = dict(line.partition("=")[::2] for line in made.run("env").splitlines())
    assert variables["PATH"].startswith(f"{TOOLS}/bin:")
    assert variables["HOME"] == "/home/claude"
    empty = ("BASH_ENV", "ENV", "LD_PRELOAD", "LD_LIBRARY_PATH", "NODE_OPTIONS", "CLAUDE_CODE_MANAGED_SETTINGS_PATH")
    assert {name: variables[name] for name in empty} == dict.fromkeys(empty, "")
    # The seeds of the entry point, which is ours.
    assert "hasCompletedOnboarding" in made.run("cat", "/home/claude/.claude.json")


def test_without_room_it_is_not_ready_and_says_where(made: Sandbox) -> None:
    assert made.without_room("/tmp") == (True, "no room left in /tmp\n", True)


def test_the_agent_can_not_change_what_was_brought(made: Sandbox) -> None:
    for change in (f"echo >>{TOOLS}/bin/claude", f"rm {TOOLS}/manifest", f"mv {TOOLS}/bin {TOOLS}/other"):
        assert made.fails("sh", "-c", change)
    eventually("it is measured", lambda: made.results().get("IMG-03") == "Pass")
    results = made.results()
    assert [results[one] for one in ("PRIV-08", "FS-01", "FS-04", "FS-07", "SEC-04", "OPS-03")] == ["Pass"] * 6, results
    # Of an image that nobody vouches for no API object tells which VOLUMEs it declares.
    assert results["FS-08"] == "Unknown"


def test_an_image_without_a_shell_is_told_with_the_remedy(
    node: Cluster, kubectl: Kubectl, sandboxes: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = hostile_image(tmp_path_factory.mktemp("without"), shell=False)
    load_image(node.layout, image)
    one = apply_sandbox(kubectl, sandboxes, "shellless", image=named(image))
    try:
        one.wait("Ready", "False", "ImageNotUsable")
        assert "has no shell" in one.condition("Ready")["message"]
    finally:
        kubectl("delete", "claudesandbox", "-n", sandboxes, "shellless")
        eventually("it is gone", lambda: not one.pod_uid())
