"""Which paths of a service may be asked for: what any server may take for another path is never let through."""

import contextlib
import posixpath
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.services.paths import PathError, allowed, check_query, parse_pattern

API = [parse_pattern("/api/*"), parse_pattern("/projects/*/issues"), parse_pattern("/health")]


@pytest.mark.parametrize("path", ["/api/", "/api/a", "/api/a/b", "/api/a/", "/projects/7/issues", "/health",
                                  "/api/a%20b", "/api/%C3%BC", "/api/@x/y:z", "/api/a..b", "/api/..x"])  # fmt: skip
def test_what_is_declared_may_be_asked_for(path: str) -> None:
    assert allowed(path, API)


@pytest.mark.parametrize("path", ["/api", "/apix/a", "/", "/admin", "/projects/7/members", "/projects/7/8/issues",
                                  "/projects//issues", "/health/", "/API/a", "/projects/7/issues/1"])  # fmt: skip
def test_what_is_not_declared_may_not(path: str) -> None:
    with contextlib.suppress(PathError):
        assert not allowed(path, API)


@pytest.mark.parametrize(
    "path",
    ["/api/../admin", "/api/./../admin", "/api/%2e%2e/admin", "/api/%2E./admin", "/api/..%2fadmin", "/api/..%5cadmin",
     "/api/..\\admin", "/api/..;/admin", "/api/..;x=1/admin", "/api/%252e%252e/admin", "/api//../admin", "/api/%00",
     "/api/%c0%ae%c0%ae/admin", "/api/%ef%bc%8e%ef%bc%8e/admin", "/api/%e2%80%a5/admin", "/api/..%ef%bc%8fadmin",
     "/api/%3f", "/api/%23", "/api/%0d%0aX: y", "/api/a b", "/api/%", "/api/%zz", "/api/.", "/api/..", "/api/%2e",
     "/api/|", "/api/a%3bb", "/api//a", "//api/a", "/api/\x7f"],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(path: str) -> None:
    with pytest.raises(PathError):
        allowed(path, API)


def test_names_of_npm_are_judged_in_both_their_readings() -> None:
    patterns = [parse_pattern("/@team/*")]
    assert not allowed("/@team%2fname", patterns, scoped=True)
    assert allowed("/@team%2Fname", [*patterns, parse_pattern("/*")], scoped=True)
    for path in ("/@team%2f..", "/x@team%2fname", "/@team%2fname%2fother", "/a%2fb", "/@team%2f"):
        with pytest.raises(PathError):
            allowed(path, [parse_pattern("/*")], scoped=True)
    with pytest.raises(PathError):
        allowed("/@team%2fname", [parse_pattern("/*")])


@given(st.text(alphabet="/.%2eE5cf;\\aA0~ü\uff0e\uff0f\u2025api", max_size=30))
def test_no_reading_of_what_is_let_through_leaves_what_is_declared(rest: str) -> None:
    """As the most generous server reads it: decoded twice, folded, without parameters, and with dots resolved."""
    path = f"/api/{rest}"
    try:
        if not allowed(path, API[:1]):
            return
    except PathError:
        return
    read = unicodedata.normalize("NFKC", unquote(unquote(path, errors="replace"), errors="replace")).replace("\\", "/")
    read = "/".join(part.partition(";")[0] for part in read.split("/"))
    resolved = posixpath.normpath(read)
    assert resolved == "/api" or resolved.startswith("/api/")


@given(st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4), st.lists(st.sampled_from("ab"), max_size=5))
def test_patterns_cover_what_their_words_say(pattern: list[str], parts: list[str]) -> None:
    """Against a plain recursion over the parts."""

    def covers(left: list[str], rest: list[str]) -> bool:
        if left == ["*"]:
            return bool(rest)
        if not left or not rest:
            return not left and not rest
        return (left[0] in ("*", rest[0])) and covers(left[1:], rest[1:])

    assert parse_pattern("/" + "/".join(pattern)).covers(parts) == covers(pattern, parts)


@pytest.mark.parametrize("text", ["", "api", "/api/../x", "/a//b", "/a*", "/api/**", "/a/%2e", "/a;b", "/a?b", "/ "])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(PathError):
        parse_pattern(text)


@pytest.mark.parametrize(
    "query", ["", "page=2&sort=a", "q=a%20b", "page_token=abc", "key=ABC-1", "continuationToken=1"]
)
def test_a_plain_query_goes_on(query: str) -> None:
    check_query(query)


@pytest.mark.parametrize(
    "query",
    ["private_token=x", "a=1&access_token=x", "a=1;ACCESS%5Ftoken=x", "api-key=x", "apikey=x", "_method=DELETE",
     "token", "X-HTTP-Method-Override=PUT", "client_secret=x", "a=%0", "a=\\", "a=<", "X-Amz-Credential=x"],
)  # fmt: skip
def test_a_query_brings_neither_a_method_nor_a_credential(query: str) -> None:
    with pytest.raises(PathError):
        check_query(query)
