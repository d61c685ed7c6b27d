"""`claude-sandbox incident kept`: which claims and volumes are a sandbox's workspaces."""

import pytest

from claude_sandbox.cli.incident.aside import Kept, numbered
from claude_sandbox.cli.incident.kept import table


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sandbox-alice-workspace", (1, "workspace")),
        ("sandbox-alice-workspace-2", (2, "workspace")),
        ("sandbox-alice-home-12", (12, "home")),
        ("sandbox-alice-workspace-1", None),
        ("sandbox-alice-workspace-02", None),
        ("sandbox-alice-workspace-two", None),
        ("sandbox-alice-b-workspace", None),
        ("sandbox-bob-workspace", None),
        ("alice", None),
    ],
)
def test_a_workspace_is_known_by_its_name(name: str, found: tuple[int, str] | None) -> None:
    assert numbered(name, "sandbox-alice") == found


def test_what_is_aside_is_told_apart_from_the_sandbox_s_own_and_nothing_moves_the_cursor() -> None:
    one, two = Kept(1, "workspace", "a", "2026", "1Gi"), Kept(2, "workspace", "b", "2026", "1Gi", ("c\x1b[2J",))
    head, first, second = table([one, two], 2)
    assert head.startswith("NUMBER")
    assert "kept aside, in use by nothing" in first
    assert "the sandbox's own, in use by c" in second
    assert "\x1b" not in second
    assert "kept aside" in table([two], None)[1]
    assert table([], 1) == ["There is none."]
