"""What a gateway goes by that reads its configuration from a file, when the file is wrong for a while."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.config.follow import Follower
from claude_sandbox.gateway.trust import trust_of

WRONG = ["{", '{"version": 1, "listen": {}, "sandboxes": [], "no such field": 1}', "\x00"]


class Files:
    """A configuration with one sandbox, its credential, and what was told."""

    def __init__(self, root: Path) -> None:
        self.document, self.key, self.table = root / "gateway.json", root / "key", root / "prices.json"
        self.key.write_text("sk-one")
        self.told: list[str] = []
        self.write()
        self.follower = Follower(self.document, self.told.append)
        self.follower.start()

    def write(self, **more: Any) -> None:
        identity = [hashlib.sha256(b"one").hexdigest()]
        sandbox = {"uid": "uid-1", "identitySHA256": identity, "credential": {"file": str(self.key)}}
        self.document.write_text(json.dumps({"version": 1, "listen": {}, "sandboxes": [sandbox], **more}))

    @property
    def key_in_use(self) -> str | None:
        found = self.follower.live.credentials.get("uid-1")
        return found.text if found else None


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize("wrong", WRONG)
def test_one_that_is_wrong_changes_nothing_and_is_told_once(files: Files, wrong: str) -> None:
    files.document.write_text(wrong)
    assert [files.follower.look(), files.follower.look()] == [False, False]
    assert files.key_in_use == "sk-one"
    assert files.follower.report() != {"configuration": "followed"}
    assert len(files.told) == 1


@pytest.mark.parametrize("wrong", WRONG)
def test_once_it_is_again_what_it_was_it_is_followed(files: Files, wrong: str) -> None:
    """Nothing has changed then, and yet it was said for ever that it is not followed."""
    for _ in range(2):
        files.document.write_text(wrong)
        files.follower.look()
        files.write()
        assert not files.follower.look()
        assert files.follower.report() == {"configuration": "followed"}
    assert len(files.told) == 2


@pytest.mark.parametrize("wrong", WRONG)
def test_a_credential_that_is_taken_away_meanwhile_is_used_no_more(files: Files, wrong: str) -> None:
    files.document.write_text(wrong)
    files.follower.look()
    files.key.unlink()
    assert files.follower.look()
    assert files.key_in_use is None
    assert files.follower.report() != {"configuration": "followed"}
    files.key.write_text("sk-two")
    assert files.follower.look()
    assert files.key_in_use == "sk-two"


@pytest.mark.parametrize("wrong", ["{", "[]", '{"models": 1}'])
def test_so_it_is_while_its_prices_are_wrong(files: Files, wrong: str) -> None:
    files.write(pricesFile=str(files.table))
    assert not files.follower.look()
    files.table.write_text(wrong)
    assert not files.follower.look()
    assert "pricesFile" in str(files.follower.report()["configuration"])
    files.key.unlink()
    assert files.follower.look()
    assert files.key_in_use is None
    with pytest.raises(ConfigError):
        Follower(files.document, files.told.append).start()


@pytest.mark.parametrize("section", ["provider", "egress"])
def test_another_authority_in_the_same_file_is_believed_from_then_on(
    files: Files, tmp_path: Path, section: str
) -> None:
    """An administrator replaces it where the old one runs out, or is not to be believed any more."""
    ca = tmp_path / "ca.pem"
    ca.write_text("one")
    files.write(**{section: {"caFile": str(ca)}})
    assert files.follower.look()
    before = trust_of(files.follower.live.config)
    ca.write_text("another")
    assert files.follower.look()
    assert trust_of(files.follower.live.config) != before
    for gone in (lambda: ca.write_text("\n"), ca.unlink):
        gone()
        files.follower.look()
        # Nothing in its place would be the system's own.
        assert trust_of(files.follower.live.config).files == (ca,)
