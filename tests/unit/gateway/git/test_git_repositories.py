"""What a request names, and whether it is a repository that was declared."""

import pytest

from claude_sandbox.gateway.config.fields import Fields
from claude_sandbox.gateway.git.fetch import MOST_WANTS, WantReader
from claude_sandbox.gateway.git.pkt_line import FLUSH, packet
from claude_sandbox.gateway.git.repositories import asked, read_repository


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/git/a.org/team/x/info/refs", ("a.org/team/x", "info/refs")),
        ("/git/a.org/team/x.git/git-upload-pack", ("a.org/team/x", "git-upload-pack")),
        ("/git/a.org:8443/x/git-receive-pack", ("a.org:8443/x", "git-receive-pack")),
        ("/git/a.org/x/HEAD", ("a.org/x/HEAD", "")),
        ("/v1/messages", None),
        ("/gitx/a.org/x/info/refs", None),
    ],
)
def test_a_request_names_a_repository(path: str, found: tuple[str, str] | None) -> None:
    assert asked(path) == found


@pytest.mark.parametrize("url", ["https://A.org/team/x", "https://a.org:443/team/x.git", "https://a.org./team/x/"])
def test_however_it_is_written_it_is_one_repository(url: str) -> None:
    assert read_repository(Fields({"url": url}, "")).at == "a.org/team/x"


def test_what_a_fetch_asks_for_is_noted_up_to_a_limit_and_decides_nothing() -> None:
    wants, ids = WantReader(None), [b"%040x" % number for number in range(MOST_WANTS + 5)]
    for data in (packet(b"command=fetch"), b"0001", *(packet(b"want " + one + b"\n") for one in ids), FLUSH):
        wants.feed(data)
    assert wants.found == [one.decode() for one in ids[:MOST_WANTS]]
    strange = WantReader("gzip")
    strange.feed(b"no gzip")
    strange.feed(b"at all")
    assert strange.found == []
