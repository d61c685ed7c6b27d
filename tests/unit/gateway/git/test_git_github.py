"""What GitHub's API is asked for is the least; what it answers is a token for that repository, or nothing."""

import json
from typing import Any

import pytest

from claude_sandbox.gateway.git.credentials.github import AnswerError, api_url, read_answer, wanted

HERE = "https://github.com/Team/project.git"
GOOD = {"token": "ghs_x", "expires_at": "2026-01-01T01:00:00Z", "repositories": [{"full_name": "team/Project"}]}


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("github.com", None, "https://api.github.com"),
        ("acme.ghe.com", None, "https://api.acme.ghe.com"),
        ("git.example.org", None, "https://git.example.org/api/v3"),
        ("git.example.org", 8443, "https://git.example.org:8443/api/v3"),
        ("notgithub.com", 443, "https://notgithub.com/api/v3"),
    ],
)
def test_the_api_follows_from_the_host(host: str, port: int | None, url: str) -> None:
    assert api_url(host, port) == url


def test_the_least_is_asked_for() -> None:
    for write, permission in ((False, "read"), (True, "write")):
        asked = wanted(HERE, 678, write=write)
        assert asked is not None
        assert asked.url == "https://api.github.com/app/installations/678/access_tokens"
        assert json.loads(asked.body()) == {"repositories": ["project"], "permissions": {"contents": permission}}
    assert wanted("https://github.com/project", 678, write=True) is None
    assert wanted("https://github.com/a/b/c", 678, write=True) is None


def test_a_token_is_read() -> None:
    token = _read(201, GOOD)
    assert (token.text, token.ends) == ("ghs_x", 1767229200.0)
    assert "ghs_x" not in repr(token)


@pytest.mark.parametrize(
    ("status", "found", "words"),
    [
        (201, GOOD | {"repositories": [{"full_name": "other/project"}]}, "not for this repository's owner"),
        (201, GOOD | {"repositories": [*GOOD["repositories"], {"full_name": "team/more"}]}, "not for this repository"),
        (201, GOOD | {"repositories": None}, "not for this repository's owner"),
        (201, GOOD | {"repositories": 7}, "not for this repository's owner"),
        (201, GOOD | {"expires_at": "soon"}, "how long"),
        (201, GOOD | {"token": "a\nb"}, "gives no token"),
        (201, GOOD | {"token": None}, "gives no token"),
        (201, [], "gives no token: HTTP 201"),
        (200, GOOD, "gives no token: HTTP 200"),
        (302, None, "gives no token: HTTP 302"),
        (401, {"message": "A JSON web token could not be decoded"}, "app-id and private-key"),
        (403, {"message": "This installation has been suspended"}, "suspended"),
        (404, {"message": "Not Found"}, "installation-id"),
        (422, {"message": "The permissions requested are not granted"}, "no permission to write contents"),
        (422, {"message": "There is at least one repository that"}, "add the repository"),
        (429, {}, "too often"),
        (500, None, "HTTP 500"),
    ],
)
def test_anything_else_is_none_and_told_in_words_of_our_own(status: int, found: Any, words: str) -> None:
    with pytest.raises(AnswerError) as caught:
        _read(status, found)
    assert words in str(caught.value)


def _read(status: int, found: Any) -> Any:
    asked = wanted(HERE, 678, write=True)
    assert asked is not None
    return read_answer(asked, status, json.dumps(found).encode())
