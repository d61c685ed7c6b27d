"""What a request names, and whether it is a repository that was declared."""

import pytest

from claude_sandbox.gateway.config.fields import Fields
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
