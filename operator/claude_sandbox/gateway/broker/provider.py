"""The provider's API as the broker sees it: paths, headers, errors. Pure. Another provider is another such module.

Requests go on as they came, but for: what is of one connection only, credentials and cookies, what says through which
proxies it came, and Accept-Encoding, since an answer has to be read to be counted. The credential is the last to be
put in.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from claude_sandbox.gateway.config.follow import Credential
from claude_sandbox.gateway.http.head import HOP_BY_HOP, two_readings

MAX_BODY = 32 << 20
"""Bytes of a request to the model, the provider's own limit."""
MAX_FILE = 500 << 20
"""Bytes of a file, the provider's own limit."""
OAUTH_BETA = "oauth-2025-04-20"
"""Without it the provider does not take a token of `claude setup-token` for every model (by reports)."""
SESSION_HEADER = "x-claude-code-session-id"

_ID = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,2000}")
# Duplicates of these could be read in two ways.
_DECISIVE = frozenset(
    ("host", "content-length", "transfer-encoding", "content-type", "content-encoding", "x-api-key", "authorization",
     "anthropic-version", "expect")
)  # fmt: skip
# Servers that read `_` as `-` would take another name for one that decides, or that ends here.
_NAME = re.compile(r"[a-z0-9-]+")
_ENDS_HERE = re.compile(
    r"host|content-length|expect|accept-encoding|cookie2?|forwarded|x-forwarded-.*|x-real-ip|via|"
    r".*authorization.*|.*api-?key.*|.*(auth|access|security|id|session|refresh|csrf|xsrf)-?token.*|.*secret.*|.*password.*"
)
_ENDS_HERE_ON_THE_WAY_BACK = re.compile(r"set-cookie2?|server-timing|alt-svc")


@dataclass(frozen=True)
class Route:
    """What is asked for. `api`: the group that a sandbox must have. `metered`: the answer costs; `model`: the body
    must name one."""

    api: str
    name: str
    metered: bool = False
    model: bool = False
    max_body: int = 0


def _routes() -> tuple[tuple[str, re.Pattern[str], Route], ...]:
    listed = (
        ("POST", r"/v1/messages", Route("Messages", "messages", metered=True, model=True, max_body=MAX_BODY)),
        ("POST", r"/v1/messages/count_tokens", Route("Messages", "count_tokens", model=True, max_body=MAX_BODY)),
        ("GET", r"/v1/models", Route("Models", "models")),
        ("GET", rf"/v1/models/{_ID}", Route("Models", "model")),
        ("GET|HEAD", r"/api/hello", Route("Models", "hello")),
        ("POST", r"/v1/messages/batches", Route("Batches", "batches", max_body=8 * MAX_BODY)),
        ("GET", r"/v1/messages/batches", Route("Batches", "batches")),
        ("GET|DELETE", rf"/v1/messages/batches/{_ID}", Route("Batches", "batch")),
        ("GET", rf"/v1/messages/batches/{_ID}/results", Route("Batches", "results")),
        ("POST", rf"/v1/messages/batches/{_ID}/cancel", Route("Batches", "cancel", max_body=MAX_BODY)),
        ("POST", r"/v1/files", Route("Files", "files", max_body=MAX_FILE)),
        ("GET", r"/v1/files", Route("Files", "files")),
        ("GET|DELETE", rf"/v1/files/{_ID}", Route("Files", "file")),
        ("GET", rf"/v1/files/{_ID}/content", Route("Files", "content")),
    )
    return tuple((method, re.compile(path), route) for methods, path, route in listed for method in methods.split("|"))


_ROUTES = _routes()


class APIError(Exception):
    """The request is refused, in the API's own form. `rule`: for the audit. `retry`: seconds to wait."""

    def __init__(self, status: int, kind: str, message: str, rule: str, retry: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.rule = rule
        self.retry = retry

    def body(self) -> bytes:
        """The document that the API answers with."""
        return json.dumps({"type": "error", "error": {"type": self.kind, "message": str(self)}}).encode()

    def headers(self) -> dict[str, str]:
        """What the provider's clients go by: when to come again, or not at all."""
        found = {"content-type": "application/json"}
        if self.retry is not None:
            found["retry-after"] = str(max(1, round(self.retry)))
        # By it Claude Code ends and shows the message; a refusal without it is asked again.
        elif self.status == 402:
            found["x-should-retry"] = "false"
        return found


def invalid(message: str, rule: str) -> APIError:
    """A request that no retry mends; clients show its message."""
    return APIError(400, "invalid_request_error", message, rule)


def route(method: str, target: str) -> Route:
    """What the request's line asks for. Raises APIError for all that is not listed."""
    path, _, query = target.partition("?")
    for expected, pattern, found in _ROUTES:
        if method == expected and pattern.fullmatch(path):
            if not _QUERY.fullmatch(query):
                raise invalid("the query is malformed", "malformed")
            return found
    raise APIError(404, "not_found_error", "this gateway does not let this method and path through", "path")


def check_headers(version: tuple[int, int], headers: Sequence[tuple[str, str]]) -> None:
    """Refuse what could be read in two ways. Raises APIError."""
    if why := two_readings(version, headers):
        raise invalid(why, "malformed")
    seen = set()
    for name, value in headers:
        if name in _DECISIVE:
            if name in seen:
                raise invalid(f"the header {name} is there twice", "malformed")
            seen.add(name)
        if name == "upgrade" or (name == "content-encoding" and value.lower() != "identity"):
            raise invalid(f"the header {name} can't be let through: send the request without it", "malformed")
    if _CONTROL.search("".join([value for _, value in headers])):
        raise invalid("a header has control characters", "malformed")
    if {"content-length", "transfer-encoding"} <= seen:
        raise invalid("both Content-Length and Transfer-Encoding are there", "malformed")


def onward(headers: Sequence[tuple[str, str]], credential: Credential) -> list[tuple[str, str]]:
    """The headers as they go to the provider, with the credential."""
    named = (value.split(",") for name, value in headers if name == "connection")
    ends = HOP_BY_HOP.union(part.strip().lower() for parts in named for part in parts)
    kept = [(name, value) for name, value in headers if name not in ends and not _ends_here(name)]
    if not credential.oauth:
        # Last, when nothing of the sandbox's own with that name is left.
        return [*kept, ("x-api-key", credential.text)]
    betas = [part.strip() for name, value in kept if name == "anthropic-beta" for part in value.split(",")]
    rest = [(name, value) for name, value in kept if name != "anthropic-beta"]
    # Added to those that the client asks for: without theirs the request would be another.
    wanted = ",".join(dict.fromkeys((*filter(None, betas), OAUTH_BETA)))
    return [*rest, ("anthropic-beta", wanted), ("authorization", f"Bearer {credential.text}")]


def back(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of an answer as the sandbox gets them."""
    return [(name, value) for name, value in headers if not _ends_here_on_the_way_back(name)]


def _remembered(judge: Callable[[str], bool]) -> Callable[[str], bool]:
    """The same few names come with every request; long ones, which an agent may make up, are not remembered."""
    cached = lru_cache(1024)(judge)
    return lambda name: cached(name) if len(name) <= 64 else judge(name)


@_remembered
def _ends_here(name: str) -> bool:
    return _ENDS_HERE.fullmatch(name) is not None or _NAME.fullmatch(name) is None


@_remembered
def _ends_here_on_the_way_back(name: str) -> bool:
    lower = name.lower()
    return lower in HOP_BY_HOP or _ENDS_HERE_ON_THE_WAY_BACK.fullmatch(lower) is not None
