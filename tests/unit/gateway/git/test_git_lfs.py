"""What a batch asks for and is answered is written anew: nothing goes through that was not read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.git.lfs.batch import (
    Batch,
    BatchError,
    LargeFile,
    read_answer,
    read_request,
    write_answer,
    write_request,
)

FILE = LargeFile("a" * 64, 5)
ONE = {"oid": FILE.oid, "size": 5}
HREF = "https://storage.example.org/x?X-Signature=s3cret"
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
                    max_leaves=8)  # fmt: skip


def _request(**more: Any) -> bytes:
    return json.dumps({"operation": "download", "objects": [ONE]} | more).encode()


def _answer(batch: Batch, **one: Any) -> Any:
    return read_answer(batch, json.dumps({"objects": [ONE | one]}).encode())[0]


def test_a_request_is_written_as_it_was_read_and_nothing_beside() -> None:
    read = read_request(
        _request(operation="upload", ref={"name": "refs/heads/x", "y": 1}, more="x", transfers=["tus", "basic"])
    )
    assert read == Batch(True, (FILE,), "refs/heads/x")
    assert read_request(write_request(read)) == read
    assert "more" not in json.loads(write_request(read))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        _request(operation="verify"),
        _request(transfers=["ssh"]),
        _request(hash_algo="sha1"),
        _request(objects=[]),
        _request(objects=[ONE] * 1001),
        _request(objects=[{"oid": "../" + "a" * 61, "size": 5}]),
        _request(objects=[{"oid": "A" * 64, "size": 5}]),
        _request(objects=[ONE | {"size": -1}]),
        _request(objects=[ONE | {"size": True}]),
        _request(objects=[7]),
    ],
)
def test_another_request_is_refused(body: bytes) -> None:
    with pytest.raises(BatchError):
        read_request(body)


def test_where_it_is_and_by_what_stays_here() -> None:
    batch = Batch(False, (FILE,))
    answered = _answer(batch, actions={"download": {"href": HREF, "header": {"X-Token": "s3cret", "Host": "x"}}})
    assert answered.transfer.headers == {"x-token": "s3cret"}
    assert "s3cret" not in repr(answered)
    told = write_answer(batch, (answered,), "http://gateway/git/h/p.git/info/lfs", "Basic own")
    assert b"s3cret" not in told
    action = json.loads(told)["objects"][0]["actions"]["download"]
    assert action["href"] == f"http://gateway/git/h/p.git/info/lfs/objects/{FILE.oid}/5"


@pytest.mark.parametrize(
    "action",
    [
        {"href": "http://storage.example.org/x"},
        {"href": "https://169.254.169.254/x"},
        {"href": "https://2130706433/x"},
        {"href": "https://[::1]/x"},
        {"href": "https://storage.example.org:x/"},
        {"href": "https://user:password@storage.example.org/x"},
        {"href": "https://storage.example.org/x\r\nx"},
        {"href": "https://storage.example.org/" + "x" * 9000},
        {"href": None},
        {"href": HREF, "header": {"a b": "c"}},
        {"href": HREF, "header": {"a": "b\r\nc: d"}},
        {"href": HREF, "header": {"a": 1}},
        {"href": HREF, "header": "x"},
        7,
    ],
)
def test_a_place_that_is_none_is_not_taken(action: Any) -> None:
    with pytest.raises(BatchError):
        _answer(Batch(False, (FILE,)), actions={"download": action})


def test_only_what_was_asked_for_is_answered() -> None:
    batch = Batch(False, (FILE,))
    for said in (
        {"oid": "b" * 64},
        {},
        {"error": {"code": 200, "message": 7}},
        {"error": {"code": 410, "message": "x"}},
    ):
        assert _answer(batch, **said).error is not None
    assert _answer(Batch(True, (FILE,))).error is None


@given(JSON)
def test_whatever_comes_it_is_read_or_refused(value: Any) -> None:
    batch = Batch(True, (FILE,))
    for body in (json.dumps(value), json.dumps({"objects": [ONE | {"actions": {"upload": value}}]}),
                 json.dumps({"objects": [ONE | {"actions": value}]}), json.dumps({"objects": value})):  # fmt: skip
        for read in (read_request, lambda data: read_answer(batch, data)):
            try:
                read(body.encode())
            except BatchError:
                continue
