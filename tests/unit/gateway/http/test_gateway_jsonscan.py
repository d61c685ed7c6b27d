"""Bodies read while they pass: the same as the standard library reads, in whatever pieces, and nothing ambiguous."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
