"""What goes to a service and comes back from it."""

import pytest

from claude_sandbox.gateway.http.head import parse_request
from claude_sandbox.gateway.services import headers
from claude_sandbox.gateway.services.declared import Header, Opened, Service
from claude_sandbox.gateway.services.links import Links, is_list
from claude_sandbox.gateway.services.paths import parse_pattern

SERVICE = Service("issues", "issues.example.org", 443, Header("x-team-pass", "", None), (parse_pattern("/*"),),  # type: ignore[arg-type]
                  frozenset(("GET", "POST")))  # fmt: skip
OPENED = Opened(SERVICE, "the-value")


def onward(*lines: str, method: str = "GET", websocket: bool = False, identity: bool = False) -> list[str]:
    head = "\r\n".join([f"{method} http://issues.services/a HTTP/1.1", "Host: issues.services", *lines])
    request = parse_request(head.encode() + b"\r\n\r\n")
    found = headers.onward(request, OPENED, websocket=websocket, identity=identity)
    assert found.endswith(b"\r\n\r\n")
    return found.decode().split("\r\n")[:-2]


def test_the_value_comes_last_and_alone() -> None:
    found = onward("X-Team-Pass: mine", "x_team_pass: mine", "X-TEAM-PASS: again", "Accept: */*")
    assert found == ["GET /a HTTP/1.1", "host: issues.example.org", "accept: */*", "connection: keep-alive",
                     "x-team-pass: the-value"]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    ["Authorization: Basic x", "Cookie: a=b", "X-Api-Key: k", "Private-Token: t", "JOB-TOKEN: t", "X-Forwarded-Host: h",
     "Forwarded: host=h", "X-HTTP-Method-Override: DELETE", "X-Original-URL: /admin", "X-Rewrite-URL: /admin", "Via: x",
     "X-JFrog-Art-Api: k", "Proxy-Authorization: Basic c2FuZGJveDp4", "TE: trailers", "X_Forwarded_For: 1",
     "Sec-WebSocket-Key: x", "Max-Forwards: 0", "X-Vault-Token: t", "X-Host: h"],
)  # fmt: skip
def test_what_ends_at_the_gateway(line: str) -> None:
    assert onward(line) == onward()


@pytest.mark.parametrize("line", ["mcp-session-id: 1", "if-none-match: 2", "range: bytes=0-1", "accept: text/html",
                                  "last-event-id: 7", "x-request-id: 1", "content-type: text/plain"])  # fmt: skip
def test_what_goes_on(line: str) -> None:
    assert line in onward(line)


def test_a_header_that_connection_names_can_not_take_the_value_away() -> None:
    found = onward("Connection: close, x-team-pass, accept", "Accept: a")
    assert found[-1] == "x-team-pass: the-value"
    assert "accept: a" not in found
    assert found.count("connection: keep-alive") == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [("/b", "http://issues.services/b"), ("b?x=1#y", "http://issues.services/b?x=1#y"),
     ("https://issues.example.org/b", "http://issues.services/b"), ("https://issues.example.org", "http://issues.services/"),
     ("http://issues.example.org/b", "http://issues.services/b"), ("//issues.example.org:443/b", "http://issues.services/b"),
     ("https://ISSUES.example.org./b", "http://issues.services/b"),
     ("https://u:p@issues.example.org/b", "http://issues.services/b"),
     ("https://other.example.org/b?s=1", "https://other.example.org/b?s=1"),
     ("https://issues.example.org:8443/b", "https://issues.example.org:8443/b"),
     ("https://issues.example.org.evil.example/b", "https://issues.example.org.evil.example/b")],
)  # fmt: skip
def test_redirects(value: str, expected: str) -> None:
    assert headers.location(value, SERVICE, "/a") == expected


@pytest.mark.parametrize("value", ["javascript:alert(1)", "https:\\\\evil", "https://a b/", "file:///etc/passwd",
                                   "https://x:99999/"])  # fmt: skip
def test_redirects_that_lead_to_no_server_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"redirect|Port|range"):
        headers.location(value, SERVICE, "/a")


def test_cookies_and_what_asks_for_a_login_do_not_come_back() -> None:
    answer = [("Set-Cookie", "a=b"), ("WWW-Authenticate", "Basic"), ("X", "y"), ("Content-Length", "3"),
              ("Connection", "x-hop"), ("X-Hop", "1"), ("ETag", "e"), ("Location", "/b")]  # fmt: skip
    found = headers.back(answer, SERVICE, "/a", rewritten=False)
    assert found == [("X", "y"), ("ETag", "e"), ("Location", "http://issues.services/b")]
    assert ("ETag", "e") not in headers.back(answer, SERVICE, "/a", rewritten=True)


LISTED = Service("pypi", "pypi.example.org", 8443, None, (parse_pattern("/*"),), frozenset(("GET",)), registry="PyPI")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 30, 1000])
def test_links_are_led_here_however_the_document_comes(size: int) -> None:
    document = (b'<a href="https://pypi.example.org:8443/p/a.whl">a</a> {"u":"https:\\/\\/pypi.example.org:8443\\/x"}'
                b" https://pypi.example.org:84430/ https://pypi.example.org:8443.evil/ https://pypi.example.org/ "
                b"https://pypi.example.org:8443")  # fmt: skip
    links = Links(LISTED)
    found = b"".join(links.feed(document[at : at + size]) for at in range(0, len(document), size)) + links.end()
    assert found == (
        b'<a href="http://pypi.services/p/a.whl">a</a> {"u":"http:\\/\\/pypi.services\\/x"}'
        b" https://pypi.example.org:84430/ https://pypi.example.org:8443.evil/ https://pypi.example.org/ "
        b"http://pypi.services"
    )


def test_only_lists_are_changed() -> None:
    assert is_list(LISTED, "/simple/a/", "text/html")
    assert not is_list(LISTED, "/p/a.whl", "application/octet-stream")
    assert not is_list(SERVICE, "/a", "text/html")
