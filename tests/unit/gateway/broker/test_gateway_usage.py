"""What an answer says that it used: whole or streamed, in whatever pieces, and when it is cut off."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.broker.usage import MAX_EVENT, MAX_JSON, StreamMeter, Usage, WholeMeter
from claude_sandbox.gateway.budget.prices import Tokens

START = {
    "type": "message_start",
    "message": {
        "model": "m-1",
        "usage": {"input_tokens": 7, "output_tokens": 1, "cache_creation_input_tokens": 100,
                  "cache_read_input_tokens": 50,
                  "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40}},
    },
}  # fmt: skip
TEXT = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 'says "message_delta" and \n\ndata: {}'}}
DELTA = {"type": "message_delta", "usage": {"output_tokens": 30}}
LAST = {"type": "message_delta", "usage": {"output_tokens": 42, "server_tool_use": {"web_search_requests": 2}}}


def stream(*events: dict[str, object], end: str = "\n") -> bytes:
    return "".join(f"event: {one['type']}{end}data: {json.dumps(one)}{end}{end}" for one in events).encode()


@given(st.lists(st.integers(0, 60), max_size=40), st.sampled_from(["\n", "\r\n"]))
def test_a_stream_in_whatever_pieces(sizes: list[int], end: str) -> None:
    data = stream(START, {"type": "ping"}, TEXT, DELTA, TEXT, LAST, {"type": "message_stop"}, end=end)
    meter, at = StreamMeter(), 0
    for size in (*sizes, len(data)):
        meter.feed(data[at : at + size])
        at += size
    assert meter.usage() == Usage(Tokens(7, 42, 60, 40, 50, 2), "m-1", complete=True, told=True)


def test_a_stream_that_is_cut_off_has_told_its_input_only() -> None:
    meter = StreamMeter()
    meter.feed(stream(START, TEXT) + b"data: {")
    assert meter.usage() == Usage(Tokens(7, 1, 60, 40, 50), "m-1", complete=False, told=True)
    assert StreamMeter().usage() == Usage()


def test_a_line_that_never_ends_is_not_kept_and_hides_nothing_after_it() -> None:
    meter = StreamMeter()
    for _ in range(MAX_EVENT // 65536 + 2):
        meter.feed(b"data: " + b"x" * 65536)
    meter.feed(b"\n" + stream(START, DELTA))
    assert meter.usage().complete


def test_a_whole_answer() -> None:
    meter = WholeMeter()
    answer = json.dumps(
        {"model": "m-1", "usage": {"input_tokens": 3, "output_tokens": 4, "cache_creation_input_tokens": 5}}
    )
    meter.feed(answer[:20].encode())
    meter.feed(answer[20:].encode())
    assert meter.usage() == Usage(Tokens(3, 4, 0, 5), "m-1", complete=True, told=True)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"usage":1}', '{"usage":{"input_tokens":-1}}', '{"usage":{"input_tokens":"7"}}', "[" * 100_000],
)
def test_what_tells_nothing(text: str) -> None:
    meter = WholeMeter()
    meter.feed(text.encode())
    assert not meter.usage().complete


def test_an_answer_that_is_too_long_tells_nothing_and_is_not_kept() -> None:
    meter = WholeMeter()
    for _ in range(MAX_JSON // 65536 + 1):
        meter.feed(b" " * 65536)
    assert meter.usage() == Usage()
