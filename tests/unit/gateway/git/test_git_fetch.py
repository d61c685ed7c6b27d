"""A fetch and its answer, read packet by packet: what git writes passes as it is, in whatever pieces it comes."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.git import fetch_request
from claude_sandbox.gateway.git.fetch_answer import AnswerReader
from claude_sandbox.gateway.git.fetch_request import MOST_WANTS, FetchReader
from claude_sandbox.gateway.git.pkt_line import DELIMITER, FLUSH, MalformedError, packet, side_band
from claude_sandbox.gateway.git.smart_http import Advertisement, Service

ID, OTHER = b"a" * 40, b"b" * 64


def lines(*texts: bytes) -> bytes:
    return b"".join(one if one in (FLUSH, DELIMITER) else packet(one + b"\n") for one in texts)


HEAD = (b"command=fetch", b"agent=git/2.39.5", b"object-format=sha1", DELIMITER)
FETCH = lines(
    *HEAD, b"thin-pack", b"no-progress", b"include-tag", b"ofs-delta", b"deepen 1", b"deepen-relative",
    b"deepen-since 1700000000", b"deepen-not refs/heads/old", b"shallow " + ID, b"filter combine:blob:none+tree:3",
    b"want " + ID, b"want-ref refs/heads/main", b"have " + OTHER, b"wait-for-done", b"done", FLUSH,
)  # fmt: skip
LISTING = lines(
    b"command=ls-refs", b"agent=x", DELIMITER, b"peel", b"symrefs", b"unborn", b"ref-prefix refs/heads/", FLUSH
)
OLD = lines(
    b"want " + ID + b" multi_ack_detailed no-done side-band-64k thin-pack ofs-delta deepen-since agent=git/2.30.2",
    b"want " + ID, b"shallow " + ID, b"deepen 2147483647", b"filter blob:limit=1k", FLUSH, b"have " + ID, FLUSH,
    b"done",
)  # fmt: skip
ANSWER = lines(
    b"acknowledgments", b"ACK " + ID, b"ready", DELIMITER, b"shallow-info", b"shallow " + ID, b"unshallow " + ID,
    DELIMITER, b"wanted-refs", ID + b" refs/heads/main", DELIMITER, b"packfile",
) + b"".join(side_band(1, b"PACK" * 100)) + FLUSH  # fmt: skip
LISTED = lines(ID + b" HEAD symref-target:refs/heads/main", ID + b" refs/tags/v1 peeled:" + ID, b"unborn HEAD", FLUSH)


def read(data: bytes, *, version2: bool = True, encoding: str | None = None, step: int = 1 << 20) -> bytes:
    reader = FetchReader(version2=version2, encoding=encoding)
    given = b"".join(b"".join(reader.feed(data[start : start + step])) for start in range(0, len(data), step))
    reader.end()
    return given


@given(st.integers(1, 70), st.sampled_from([(FETCH, True), (LISTING, True), (OLD, False), (FLUSH, True), (b"", False)]))
def test_what_git_asks_passes_as_it_is_compressed_or_not(step: int, asked: tuple[bytes, bool]) -> None:
    data, version2 = asked
    assert read(data, version2=version2, step=step) == data
    assert read(gzip.compress(data), version2=version2, encoding="gzip", step=step) == data


@given(st.integers(1, 70), st.sampled_from([ANSWER, LISTED, lines(b"ERR no such ref")]))
def test_what_git_answers_passes_as_it_is(step: int, answer: bytes) -> None:
    reader = AnswerReader()
    assert b"".join(reader.feed(answer[start : start + step]) for start in range(0, len(answer), step)) == answer


def test_what_is_wanted_is_noted_up_to_a_limit() -> None:
    reader, ids = FetchReader(version2=True, encoding=None), [b"%040x" % number for number in range(MOST_WANTS + 5)]
    list(reader.feed(lines(*HEAD, *(b"want " + one for one in ids), FLUSH)))
    assert reader.wanted == [one.decode() for one in ids[:MOST_WANTS]]


@pytest.mark.parametrize(
    ("data", "version2"),
    [
        (lines(*HEAD, b"done", b"done", FLUSH), True),
        (lines(*HEAD, DELIMITER, FLUSH), True),
        (lines(DELIMITER, b"command=fetch", FLUSH), True),
        (lines(b"agent=x", b"command=fetch", FLUSH), True),
        (lines(*HEAD, b"filter blob:none+blob:none", FLUSH), True),
        (lines(*HEAD, b"filter combine:blob:none+sparse:oid=x", FLUSH), True),
        (lines(*HEAD, b"want " + ID[:39], FLUSH), True),
        (lines(*HEAD, b"want " + ID.upper(), FLUSH), True),
        (lines(*HEAD, b"deepen -1", FLUSH), True),
        (FETCH[:-2], True),
        (OLD, True),
        (FETCH, False),
        (lines(b"want " + ID, b"want " + ID + b" ofs-delta", FLUSH), False),
        (FLUSH + FLUSH, False),
    ],
)
def test_what_git_does_not_write_is_refused(data: bytes, version2: bool) -> None:
    with pytest.raises(MalformedError):
        read(data, version2=version2)


def test_more_than_any_repository_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_request, "MOST_READ", 1 << 20)
    reader = FetchReader(version2=True, encoding=None)
    list(reader.feed(lines(*HEAD)))
    haves = lines(b"have " + ID) * 1000
    for _ in range((1 << 20) // len(haves)):
        list(reader.feed(haves))
    with pytest.raises(MalformedError, match="fewer refs"):
        list(reader.feed(haves))


def test_of_an_offer_what_is_passed_on_stays_as_it_is() -> None:
    service, first = lines(b"# service=git-upload-pack", FLUSH), ID + b" HEAD\0ofs-delta symref=HEAD:refs/heads/main"
    version0 = service + lines(first, ID + b" refs/heads/main", b"shallow " + ID, FLUSH)
    version2 = lines(b"version 2", b"agent=g/1", b"ls-refs=unborn", b"fetch=shallow filter", b"fetch", FLUSH)
    for offered in (version0, version2, service + version2):
        reader = Advertisement(Service.FETCH)
        assert b"".join(reader.feed(offered[at : at + 1]) for at in range(len(offered))) == offered
