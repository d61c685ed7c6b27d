"""What a sandbox's own settings for Claude Code may say, and that nothing that is refused is repeated."""

import json

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from claude_sandbox.claudecode import given, pinned, waived

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)
KNOWN = sorted({*pinned.managed_settings(""), *waived.by_name(waived.SETTINGS)})


def test_what_people_set_is_taken() -> None:
    wanted = {
        "model": "claude-sonnet-5",
        "permissions": {"deny": ["Bash(curl:*)"]},
        "hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "/bin/true"}]}]},
        "includeCoAuthoredBy": False,
    }
    assert given.settings(json.dumps({"$schema": "https://…", **wanted})) == wanted


@pytest.mark.parametrize("name", sorted(pinned.managed_settings("").keys() - {"env"}))
def test_nothing_that_is_pinned_is_taken(name: str) -> None:
    with pytest.raises(given.RefusedError, match=rf"{name}, which is the operator's to say: remove it"):
        given.settings(json.dumps({name: True}))


@pytest.mark.parametrize(
    "name",
    ["policyHelper", "processWrapper", "forceLoginGatewayUrl", "enabledPlugins", "sandbox", "of-the-next-release"],
)
def test_nothing_that_nobody_has_decided_about_is_taken(name: str) -> None:
    with pytest.raises(given.RefusedError, match="not among those that may be given"):
        given.settings(json.dumps({name: True}))


@pytest.mark.parametrize(("name", "remedy"), [("env", "spec.env"), ("claudeMd", "memory")])
def test_what_has_a_place_of_its_own_is_sent_there(name: str, remedy: str) -> None:
    with pytest.raises(given.RefusedError, match=remedy):
        given.settings(json.dumps({name: {}}))


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"model": NaN}', '{"model": 1e999}', "[" * 30_000])
def test_what_is_no_object_of_json_is_refused(text: str) -> None:
    with pytest.raises(given.RefusedError, match="JSON"):
        given.settings(text)


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(given.RefusedError, match="make it flatter"):
        given.settings('{"permissions": ' + "[" * 40 + "]" * 40 + "}")


@for_all(st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=8), JSON, max_size=4))
def test_whatever_is_taken_can_be_written_and_is_neither_a_pin_nor_undecided(value: dict[str, object]) -> None:
    try:
        found = given.settings(json.dumps(value))
    except given.RefusedError:
        return
    json.dumps(found, allow_nan=False)
    assert found.keys() <= given.ALLOWED
    assert not found.keys() & pinned.managed_settings("").keys()


def test_instructions_that_say_nothing_are_refused() -> None:
    assert given.memory("# Rules\n") == "# Rules\n"
    with pytest.raises(given.RefusedError, match="remove"):
        given.memory(" \n")


SERVER = {"type": "http", "url": "http://issues.services/mcp", "headers": {"X-Team": "a"}}


@pytest.mark.parametrize(
    "server", [SERVER, {"command": "/usr/bin/python3", "args": ["-m", "server"], "env": {"A": "b"}}]
)
def test_servers_by_http_and_by_command_are_taken(server: object) -> None:
    assert json.loads(given.servers(json.dumps({"mcpServers": {"one": server}}))) == {"mcpServers": {"one": server}}


@pytest.mark.parametrize(
    ("servers", "remedy"),
    [
        ({"a": {"type": "http", "url": "ftp://x"}}, "http://"),
        ({"a": {"type": "http"}}, "http://"),
        ({"a": {"type": "ws", "url": "http://x"}}, "write one of these"),
        ({"a": {"type": "http", "url": "http://x/${HOME}"}}, "write the value itself"),
        ({"a": {"command": "/bin/x", "args": ["${HOME}"]}}, "write the value itself"),
        ({"a": {"command": 5}}, "write a program's path"),
        ({"a": {"command": "/bin/x", "url": "http://x"}}, "remove them"),
        ({"a": {"type": "http", "url": "http://x", "headersHelper": "/bin/x"}}, "remove them"),
        ({"../a": SERVER}, "rename it"),
        ({"a": "http://x"}, "no object"),
        ([], "one field"),
    ],
)
def test_other_servers_are_refused_with_the_remedy(servers: object, remedy: str) -> None:
    with pytest.raises(given.RefusedError, match=remedy):
        given.servers(json.dumps({"mcpServers": servers}))


def test_pages_and_skills_have_paths_of_their_own() -> None:
    assert given.pages("agents", {"tester.md": "x"}) == {".claude/agents/tester.md": "x"}
    files = {"SKILL.md": "x", "check.py": "y"}
    assert given.skill("release", files) == {f".claude/skills/release/{name}": text for name, text in files.items()}


@pytest.mark.parametrize("name", ["tester", ".md", "..md", "../x.md", "a/b.md", "x.md\n", "settings.json", "a" * 101])
def test_what_is_no_page_s_name_is_refused(name: str) -> None:
    with pytest.raises(given.RefusedError, match="rename it"):
        given.pages("commands", {name: "x"})


@pytest.mark.parametrize(
    ("name", "data", "remedy"),
    [
        ("release", {"check.py": "x"}, "add it"),
        ("re.lease", {"SKILL.md": "x"}, "name it"),
        ("release", {"SKILL.md": "x", ".hidden": "y"}, "begin it"),
        ("release", {"SKILL.md": "x", "../../x": "y"}, "begin it"),
    ],
)
def test_what_is_no_skill_is_refused(name: str, data: dict[str, str], remedy: str) -> None:
    with pytest.raises(given.RefusedError, match=remedy):
        given.skill(name, data)
