"""Bodies read while they pass: the same as the standard library reads, in whatever pieces, and nothing ambiguous."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.http import json_whole
from claude_sandbox.gateway.http.json_scan import MAX_DEPTH, JSONError, Scanned, Scanner

WANTED = frozenset(("model", "max_tokens", "stream"))
TEXT = st.text('ab1{}[]:, "\\\n/\x00\x7fé\u2028\U0001f600', max_size=20)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.just("type"), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
BODY = st.dictionaries(
    st.sampled_from(["model", "max_tokens", "stream", "type", "messages", "é", '"']), VALUE, max_size=6
)


def scan(data: bytes, *sizes: int) -> Scanned:
    """In pieces; and at once, which has to come to the same."""
    try:
        found = _scan(data, *sizes)
    except JSONError:
        with pytest.raises(JSONError):
            json_whole.scan(data, WANTED)
        raise
    assert json_whole.scan(data, WANTED) == found
    return found


def _scan(data: bytes, *sizes: int) -> Scanned:
    scanner, at = Scanner(WANTED), 0
    for size in (*sizes, len(data)):
        scanner.feed(data[at : at + size])
        at += size
    return scanner.finish()


def types(value: object) -> set[str]:
    """Every string under a key `type`, at any depth."""
    if isinstance(value, dict):
        own = {value["type"]} if isinstance(value.get("type"), str) else set()
        return own.union(*map(types, value.values()))
    return set().union(*map(types, value)) if isinstance(value, list) else set()


@given(BODY, st.lists(st.integers(0, 25), max_size=40), st.booleans(), st.sampled_from([None, 1]))
def test_it_finds_what_the_standard_library_finds(
    body: dict[str, object], sizes: list[int], ascii_only: bool, indent: int | None
) -> None:
    data = json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    found = scan(data, *sizes)
    assert found.keys == set(body)
    for name in WANTED & set(body):
        expected = ... if isinstance(body[name], dict | list) else body[name]
        assert found.fields[name] == expected
    assert found.types == types(body)


@given(BODY, st.integers(0, 300), st.sampled_from(list(b'{}[]",:\\ 0aexn\x00\xff')))
def test_what_the_standard_library_refuses_is_refused(body: dict[str, object], at: int, value: int) -> None:
    data = bytearray(json.dumps(body).encode())
    data[at % len(data)] = value
    try:
        expected = json.loads(bytes(data).decode())
    except ValueError:
        with pytest.raises(JSONError):
            scan(bytes(data))
        return
    try:
        found = scan(bytes(data))
    except JSONError:
        return  # Stricter: something twice, or no object.
    assert found.keys == set(expected)


@pytest.mark.parametrize(
    "text",
    ['{"model":"a","model":"b"}', '{"model":"a","mod\\u0065l":"b"}', '{"x":1,"x":2}', '[]', '"model"', '1', '',
     ' ', '{', '{"model":"a"}{}', '{"model":"a"} x', '{"a":NaN}', '{"a":Infinity}', '{"a":01}', '{"a":1.}',
     '{"a":+1}', '{"a":.5}', '{"a":1,}', '{,"a":1}', '{"a" 1}', '{"a":[1,]}', '{"a":[}', '{"a":]}', "{'a':1}",
     '{"a":"\t"}', '{"a":"\\x"}', '{"a":tru}', '{"a":1}//', '{/**/"a":1}', '\ufeff{"a":1}', '{"a":"\\u12"}',
     '{"a":"', '{"a":"\\', '{"a":1' + "0" * 2000 + "}"],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 10_000])
def test_what_is_refused(text: str, piece: int) -> None:
    data = text.encode()
    with pytest.raises(JSONError):
        scan(data, *[piece] * (len(data) // piece))


def test_other_encodings_are_refused() -> None:
    for data in ('{"model":"a"}'.encode("utf-16"), b'{"model":"\xff"}', b'{"model":"\xc3'):
        with pytest.raises(JSONError):
            scan(data)


def test_depth_has_a_limit() -> None:
    assert scan(b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}").keys == {"a"}
    with pytest.raises(JSONError):
        scan(b'{"a":' + b"[" * MAX_DEPTH)


def test_long_strings_cost_little_and_are_not_kept() -> None:
    scanner = Scanner(WANTED)
    scanner.feed(b'{"model":"')
    started = time.process_time()
    for _ in range(500):
        scanner.feed(b"x" * 65536)
    assert time.process_time() - started < 5
    scanner.feed(b'"}')
    assert scanner.finish().fields == {"model": "..."}


EDGES = [
    '{"type":"%s"}' % ("x" * 1024), '{"type":"%s"}' % ("x" * 1025), '{"model":"%s"}' % ("\\ud83d\\ude00" * 86),
    '{"model":"%s"}' % ("\\u0041" * 171), '{"type":"%s"}' % ("\\u0041" * 170), '{"%s":1}' % ("k" * 1024),
    '{"%s":1}' % ("k" * 1025), '{"a":{"%s":1}}' % ("k" * 1025), '{"a":%s}' % ("1" * 1024), '{"a":%s}' % ("1" * 1025),
    '{"a":[0.%s]}' % ("1" * 1025), '{"a":1e999}', '{"max_tokens":-0}', '{"max_tokens":1E2}', '{"a":-Infinity}',
    *(json.dumps({"a": [{"type": str(number)} for number in range(count)]}) for count in (63, 64, 65, 200)),
    *(json.dumps(dict.fromkeys(map(str, range(count)), 1)) for count in (64, 65)),
    '{"a":{"type":"x","type":"y","type":["z"]},"model":{"type":"w"},"stream":["type"]}',
    '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH, '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
    '{"a":[' * 100 + "]}" * 100, '{"a":[' * 101 + "]}" * 101, '{"a":' + "[" * 100_000, '{"model":"\\ud800"}',
    '{"model":"a"}\n \t\r', '\n{"model":"a"}', '{"model":"a"}\u00a0', '{"a":"\x7f"}', '{"a":1 2}', '{"a":1}}',
]  # fmt: skip


@pytest.mark.parametrize("text", EDGES, ids=range(len(EDGES)))
def test_at_once_and_in_pieces_it_is_the_same_where_limits_are(text: str) -> None:
    with contextlib.suppress(JSONError):
        scan(text.encode(), 1, 7)


@given(st.binary(max_size=60), BODY)
def test_any_bytes_at_all(data: bytes, body: dict[str, object]) -> None:
    for text in (data, json.dumps(body).encode() + data, b'{"model":' + data + b"}"):
        with contextlib.suppress(JSONError):
            scan(text, 1)


def test_most_bodies_need_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be as slow as before, and no other test would say so."""
    monkeypatch.setattr(json_whole, "Scanner", None)
    body = {"model": "claude-sonnet-5-5", "max_tokens": 32000, "stream": True, "temperature": 0.5,
            "system": [{"type": "text", "text": "x" * 20_000, "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "\u00e9\n" * 5000}]}] * 50}  # fmt: skip
    assert json_whole.scan(json.dumps(body).encode(), WANTED).types == {"text", "ephemeral"}
