"""No credential comes out of a log, wherever it was put in; and what is no credential stays readable."""

import asyncio
import base64
import io
import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.controller.machinery import logs
from claude_sandbox.controller.machinery.election import NotLeadingError
from claude_sandbox.controller.machinery.redaction import REDACTED, clean, redact

URLSAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


def tokens(minimum: int, maximum: int = 120, alphabet: str = URLSAFE) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=minimum, max_size=maximum)


def random_base64(seed: int, size: int) -> str:
    return base64.b64encode(random.Random(seed).randbytes(size)).decode()  # noqa: S311


def looks_random(text: str) -> bool:
    """Base64 of a key; by chance a few have many slashes or no digit."""
    return text.count("/") <= len(text) // 24 and all(
        any(kind(c) for c in text) for kind in (str.isupper, str.islower, str.isdigit)
    )


def pem(seed: int) -> tuple[str, str]:
    body = random_base64(seed, 600)
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    return f"-----BEGIN EC PRIVATE KEY-----\n{lines}\n-----END EC PRIVATE KEY-----\n", lines.split("\n")[-1]


# What the text looks like, and the part of it that must not be seen again.
secrets: st.SearchStrategy[tuple[str, str]] = st.one_of(
    tokens(6).map(lambda t: (f"sk-ant-api03-{t}", f"api03-{t}")),
    tokens(12).map(lambda t: (f"Bearer {t}", t)),
    tokens(12).map(lambda t: (f"Authorization: Custom {t}", t)),
    tokens(12).map(lambda t: (f"{{'Authorization': 'Custom {t}'}}", t)),
    tokens(12).map(lambda t: (f'{{"x-api-key": "{t}"}}', t)),
    st.tuples(tokens(12), tokens(12), tokens(12)).map(lambda t: (f"eyJ{t[0]}.{t[1]}.{t[2]}", f"{t[1]}.{t[2]}")),
    st.integers(0, 10**6).map(pem),
    tokens(12).map(lambda t: (f"https://user:{t}@registry.example/v2/", t)),
    tokens(12).map(lambda t: (f"ANTHROPIC_API_KEY={t}", t)),
    tokens(12).map(lambda t: (json.dumps({"password": t}), t)),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=12, max_size=60)
    .filter(lambda t: t.strip() == t)
    .map(lambda t: (str({"kind": "Secret", "data": {"key": t}}), repr(t)[1:-1])),
    tokens(12).map(lambda t: (f"kind: Secret\ndata:\n  api-key: {t}\n", t)),
    tokens(12).map(lambda t: (json.dumps(json.dumps({"kind": "Secret", "stringData": {"key": t}})), t)),
    st.tuples(st.integers(0, 10**6), st.integers(33, 200))
    .map(lambda t: random_base64(*t))
    .filter(looks_random)
    .map(lambda t: (t, t)),
)


class Awkward:
    """An object that is only turned into text when the log is written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Awkward({self.text})"


def raised(text: str, how: str) -> BaseException:
    try:
        if how == "cause":
            raise ValueError("outer") from KeyError(text)
        if how == "context":
            try:
                raise OSError(text)
            except OSError:
                raise ValueError("outer")  # noqa: B904
        if how == "note":
            error = ValueError("outer")
            error.add_note(text)
            raise error
        if how == "group":
            raise ExceptionGroup("outer", [ValueError(text)])
        raise RuntimeError(text)
    except Exception as error:  # noqa: BLE001
        return error


def record(text: str, place: str) -> logging.LogRecord:
    def make(msg: object, args: Any = (), **extra: Any) -> logging.LogRecord:
        return logging.getLogger("test").makeRecord("test", logging.ERROR, __file__, 1, msg, args, None, extra=extra)

    makers: dict[str, Callable[[], logging.LogRecord]] = {
        "message": lambda: make(text),
        "argument": lambda: make("seen: %s!", (text,)),
        "dict argument": lambda: make("seen: %(what)s", ({"what": text},)),
        "object argument": lambda: make("seen: %r", (Awkward(text),)),
        "list argument": lambda: make("seen: %s", ([text, {"deep": [text]}],)),
        "bytes argument": lambda: make("seen: %s", (text.encode(),)),
        "wrong arguments": lambda: make("seen: %d %d", (text,)),
        "message object": lambda: make(Awkward(text)),
        "extra": lambda: make("x", detail=text),
        "extra key": lambda: make("x", detail={text: 1}),
        "deep extra": lambda: make("x", detail={"a": [{"b": (text, Awkward(text))}]}),
    }
    if place in makers:
        return makers[place]()
    made = make("failed")
    if place == "logger":
        made.name = f"logger.{text}"
    elif place == "stack":
        made.stack_info = f"Stack:\n  {text}"
    else:
        error = raised(text, place)
        made.exc_info = (type(error), error, error.__traceback__)
    return made


PLACES = [
    "message", "argument", "dict argument", "object argument", "list argument", "bytes argument", "wrong arguments",
    "message object", "logger", "extra", "extra key", "deep extra", "stack", "cause", "context", "note", "group",
    "exception",
]  # fmt: skip


def written(made: logging.LogRecord, formatter: logging.Formatter) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(logs.RedactingFilter())
    handler.setFormatter(formatter)
    handler.handle(made)
    return stream.getvalue()


@settings(max_examples=600, deadline=None)
@given(secret=secrets, place=st.sampled_from(PLACES), as_json=st.booleans())
def test_a_secret_anywhere_in_a_record_never_comes_out(secret: tuple[str, str], place: str, as_json: bool) -> None:
    text, hidden = secret
    line = written(record(text, place), logs.JsonFormatter() if as_json else logs.TextFormatter())
    assert line, "the record itself must not be lost"
    if as_json:
        line = "\n".join(strings(json.loads(line)))
    for form in (hidden, hidden.replace("\n", "\\n")):
        assert form not in line
    assert REDACTED in line


def strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    else:
        yield str(value)


@pytest.mark.parametrize(
    "text",
    [
        'networkpolicies.networking.k8s.io "sandbox-alice" is forbidden: User "system:serviceaccount:ops:operator"'
        ' cannot create resource "networkpolicies" in API group "networking.k8s.io" in the namespace "agents"',
        "pulled image registry.example/claude@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "sandbox agents/alice uid 0b8d7c1e-7a53-4c1f-9d2b-3f1f6a1c2d3e: Secret anthropic-api-key not found",
        "Cannot connect to host 127.0.0.1:6443 ssl:<ssl.SSLContext object at 0x7f2a> [Connect call failed]",
        '  File "/usr/lib/python3.11/site-packages/claude_sandbox/kubernetes_api/transport.py", line 101, in call',
        "https://kubernetes.default.svc:443/apis/claudesandbox.dev/v1alpha1/namespaces/agents/claudesandboxes?limit=500",
        "basic authentication is off; the bearer of this; token expired; apiKeySecretRef.name is required",
        "sandbox-very-long-name-with-many-parts-and-more-and-more-parts-workspace is pending on disk-pressure",
    ],
)
def test_what_is_no_credential_stays_readable(text: str) -> None:
    assert redact(text) == text


def test_the_name_of_a_field_tells_that_its_value_is_a_credential() -> None:
    cleaned = clean({"apiKey": "abc", "db_password": "abc", "secretName": "mine", "data": {"k": "aGk="}})
    assert cleaned == {"apiKey": REDACTED, "db_password": REDACTED, "secretName": "mine", "data": {"k": REDACTED}}


@pytest.mark.parametrize("piece", ["a", "A1", "\\", " ", "token", "eyJ-", "-----BEGIN PRIVATE KEY-----", '"', "://"])
def test_a_huge_text_is_cut_and_does_not_hold_up_the_process(piece: str) -> None:
    text = piece * (300_000 // len(piece))
    started = time.process_time()
    assert len(redact(text)) < 70_000
    assert time.process_time() - started < 10  # in proportion it takes 10 ms; quadratic it would take minutes


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, sys.unraisablehook
    stream = io.StringIO()
    logs.configure("json", "INFO", stream)
    yield stream
    root.handlers[:], root.level, sys.excepthook, sys.unraisablehook = before
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_tells_when_what_and_about_which_sandbox(stream: io.StringIO) -> None:
    with logs.about("agents", "alice", "uid-1"):
        logging.getLogger("claude_sandbox.x").warning("policy of %s restored", "alice", extra={"writes": 2})
    logging.getLogger("claude_sandbox.x").info("outside")
    inside, outside = lines(stream)
    assert inside["level"] == "warning"
    assert inside["message"] == "policy of alice restored"
    assert inside["sandbox"] == {"namespace": "agents", "name": "alice", "uid": "uid-1"}
    assert inside["writes"] == 2
    assert inside["time"].endswith("Z")
    assert "sandbox" not in outside


def test_tasks_started_inside_are_about_the_same_sandbox_and_others_are_not(stream: io.StringIO) -> None:
    async def one(name: str) -> None:
        with logs.about("agents", name):
            await asyncio.sleep(0)
            await asyncio.create_task(say(name))

    async def say(name: str) -> None:
        await asyncio.sleep(0)
        logging.getLogger("x").info(name)

    async def main() -> None:
        await asyncio.gather(*(one(name) for name in ("a", "b", "c")))

    asyncio.run(main())
    assert [line["sandbox"]["name"] for line in lines(stream)] == [line["message"] for line in lines(stream)]


def test_configured_twice_each_record_is_written_once_and_libraries_speak_through_it(stream: io.StringIO) -> None:
    logging.getLogger("kopf").addHandler(logging.StreamHandler(io.StringIO()))
    logs.configure("json", "INFO", stream)
    logs.configure("json", "INFO", stream)
    for name in ("kopf.objects", "aiohttp.access", "asyncio"):
        logging.getLogger(name).warning("Bearer abcdefgh")
    assert [line["logger"] for line in lines(stream)] == ["kopf.objects", "aiohttp.access", "asyncio"]
    assert "abcdefgh" not in stream.getvalue()


def test_an_error_has_its_type_and_its_stack(stream: io.StringIO) -> None:
    try:
        raise LookupError("gone")
    except LookupError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(stream)
    assert line["error"]["type"] == "LookupError"
    assert "test_an_error_has_its_type_and_its_stack" in line["error"]["stack"]


CRASH = """
import asyncio, sys, threading
from claude_sandbox.controller.machinery import logs
logs.configure(sys.argv[1])
SECRET = "".join(["sk-", "ant-", "hidden"])
def fail():
    raise RuntimeError(f"with {SECRET} and Bearer hidden-too")
class Bad:
    def __del__(self):
        fail()
async def task():
    fail()
async def main():
    logs.watch_loop(asyncio.get_running_loop())
    running = asyncio.create_task(task())
    await asyncio.sleep(0)
    del running
    import gc; gc.collect()
    await asyncio.sleep(0)
thread = threading.Thread(target=fail); thread.start(); thread.join()
asyncio.run(main())
bad = Bad(); del bad
fail()
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_a_crash_prints_is_redacted_too(log_format: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH, log_format], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "hidden" not in done.stdout + done.stderr
    assert done.stderr.count("RuntimeError") >= 4, done.stderr  # thread, task, destructor, main
    if log_format == "json":
        messages = [json.loads(line)["message"] for line in done.stderr.splitlines()]
        assert messages[-1] == "the process ends because of an error"


def test_a_record_that_cannot_be_written_is_not_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(io.StringIO):
        broken = True

        def write(self, text: str) -> int:
            if self.broken:
                self.broken = False
                raise OSError("disk full")
            return super().write(text)

    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, sys.unraisablehook
    stream = Broken()
    try:
        logs.configure("json", "INFO", stream)
        logging.getLogger("x").info("something private")
    finally:
        root.handlers[:], root.level, sys.excepthook, sys.unraisablehook = before
        logging.captureWarnings(False)
    assert "could not be written: OSError" in stream.getvalue()
    assert "private" not in capsys.readouterr().err + stream.getvalue()


@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.TextFormatter()], ids=["json", "text"])
def test_a_lease_that_is_lost_is_one_line_for_each_that_works(formatter: logging.Formatter) -> None:
    """Twenty probes that end then would else be twenty tracebacks."""
    made = logging.getLogger("test").makeRecord("test", logging.WARNING, __file__, 1, "a probe has ended", (), None)
    try:
        raise NotLeadingError("this replica is not the leader")
    except NotLeadingError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    said = written(made, formatter)
    assert "a probe has ended: this replica is not the leader" in said
    assert said.count("\n") == 1
    assert "Traceback" not in said
