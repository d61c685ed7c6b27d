"""Which Secrets give a credential, and that nothing goes on with an old key unnoticed."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.watches.secret_opt_in import has_opted_in
from claude_sandbox.gateway.config.cluster import GitSecret, SecretKey, ServiceSecret
from claude_sandbox.gateway.destinations.scopes import serves
from claude_sandbox.gateway.git.credentials.credential import Password, read_scope
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError
from claude_sandbox.gateway.kubernetes.credentials import MountedSecrets, WatchedSecrets, read
from claude_sandbox.gateway.services.declared import Unopened

KEY = SecretKey("k", "api-key")
SERVICE = meta.SERVICE_SECRET_TYPE
LABELLED = {meta.LABEL_SECRET_OPT_IN: meta.LABEL_SECRET_OPT_IN_VALUE}


def secret(text: bytes = b"sk-1\n", kind: str = meta.SECRET_TYPE, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "k", "resourceVersion": "7", **metadata}, "type": kind,
        "data": {"api-key": base64.b64encode(text).decode(), "other": "b3RoZXI="},
    }  # fmt: skip


def test_a_secret_that_opted_in_gives_its_key_and_its_generation() -> None:
    for one in (secret(), secret(kind="Opaque", labels=LABELLED)):
        found = read(one, KEY)
        assert (found.text, found.generation, found.problem) == ("sk-1", "7", "")
        assert "sk-1" not in repr(found)


@pytest.mark.parametrize("kind", [meta.SECRET_TYPE, "Opaque", ""])
@pytest.mark.parametrize(
    "labels", [None, {}, LABELLED, {meta.LABEL_SECRET_OPT_IN: "false"}, {"other": "true"}], ids=str
)
def test_it_has_opted_in_where_the_operator_says_so(kind: str, labels: dict[str, str] | None) -> None:
    one = secret(kind=kind, labels=labels)
    assert (read(one, KEY).text is not None) is has_opted_in(one)


@pytest.mark.parametrize(
    ("kind", "labels", "host", "given"),
    [(SERVICE, {}, "a.example.org", True), (meta.SECRET_TYPE, {}, "a.example.org", False),
     ("Opaque", {SERVICE: "true"}, "https://A.example.org:443/", True), ("Opaque", LABELLED, "a.example.org", False),
     (SERVICE, {}, "b.example.org", False), (SERVICE, {}, "a.example.org:8443", False),
     (SERVICE, {}, "a.example.org/part", False), (SERVICE, {}, "", False), (SERVICE, {}, "xa.example.org", False)],
)  # fmt: skip
def test_a_service_gets_what_opted_in_to_that_and_is_for_its_host(
    kind: str, labels: dict[str, str], host: str, given: bool
) -> None:
    one = secret(kind=kind, labels=labels)
    one["data"]["host"] = base64.b64encode(host.encode()).decode()
    found = read(one, ServiceSecret("k", "api-key", "a.example.org"))
    assert (found.text, bool(found.problem)) == (("sk-1", False) if given else (None, True))
    opted = kind == SERVICE or SERVICE in labels
    assert given or found.why is (Unopened.OTHER_HOST if opted else Unopened.NOT_OPTED_IN)
    assert read(one, KEY).text is None or kind == meta.SECRET_TYPE or labels == LABELLED


def test_a_mounted_secret_for_another_host_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "token").write_text("t")
    wanted = ServiceSecret("k", "token", "a.example.org")
    mounted = MountedSecrets(tmp_path, lambda: None)
    mounted.want([wanted])
    found = mounted.get(wanted)
    assert found is not None
    assert found.text is None
    (tmp_path / "k" / "host").write_text("a.example.org\n")
    mounted.want([wanted])
    found = mounted.get(wanted)
    assert found is not None
    assert found.text == "t"


def git(kind: str = meta.GIT_SECRET_TYPE, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
    return {"metadata": {"name": "g", "resourceVersion": "7", "labels": labels}, "type": kind, "data": encoded}


def test_a_secret_for_git_is_for_one_server_and_for_nothing_else() -> None:
    given = {"host": "GitHub.com", "token": "ghp-1"}
    for one in (git(**given), git("Opaque", {meta.GIT_SECRET_TYPE: "true"}, **given)):
        found = read(one, GitSecret("g"))
        assert (found.scope, found.git, found.text, found.problem) == (
            "github.com", Password("x-access-token", "ghp-1"), None, ""
        )  # fmt: skip
        assert "ghp-1" not in repr(found)
        # A credential is used for what its Secret says, and not by whoever names it.
        assert read(one, SecretKey("g", "token")).text is None
    assert read(secret(name="g"), GitSecret("g")).git is None
    for one in (git("Opaque", **given), git(token="x"), git(host="github.com"), git(host="a b", token="x")):
        found = read(one, GitSecret("g"))
        assert found.git is None
        assert found.problem


@pytest.mark.parametrize(
    ("host", "at", "is_for"),
    [
        ("github.com", "github.com/team/a", True),
        ("github.com/team", "github.com/team/a", True),
        ("https://github.com/team/a.git", "github.com/team/a", True),
        ("github.com:443", "github.com/team/a", True),
        ("github.com/team", "github.com/team-b/a", False),
        ("github.com", "github.com.example.org/a", False),
        ("github.com", "github.com:8443/a", False),
        ("git.example.org:8443", "git.example.org/a", False),
        ("github.com/team/a", "github.com/team/a-b", False),
        ("github.com/Team", "github.com/team/a", False),
        ("GitHub.com", "github.com/team/a", True),
        ("code.git", "code.git/team/a", True),
        ("code", "code.git/team/a", False),
    ],
)
def test_whom_a_credential_is_for(host: str, at: str, is_for: bool) -> None:
    assert serves(read_scope({"host": host.encode()}), at) is is_for


WRONG: list[dict[str, Any]] = [
    secret(deletionTimestamp="2026-01-01T00:00:00Z"), secret(name="another"), secret(b""), secret(b"two words"),
    secret(b"a\r\nx-injected: 1"), secret("é".encode()), secret(b"a" * 20_000),
    {**secret(), "data": {}}, {**secret(), "data": None}, {**secret(), "data": {"api-key": "?"}},
    {**secret(), "data": {"api-key": 7}}, {**secret(), "data": []},
]  # fmt: skip


@pytest.mark.parametrize("one", WRONG, ids=range(len(WRONG)))
def test_what_can_be_no_credential_is_none(one: dict[str, Any]) -> None:
    found = read(one, KEY)
    assert found.text is None
    assert found.problem


def test_an_object_without_a_version_is_no_answer() -> None:
    with pytest.raises(ApiServerError):
        read({"metadata": {}}, KEY)


async def test_of_mounted_secrets_the_wanted_are_read_and_followed(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "api-key").write_text("sk-1\n")
    changes: list[int] = []
    found = MountedSecrets(tmp_path, lambda: changes.append(1))
    assert found.get(KEY) is None
    found.want([KEY, SecretKey("gone", "api-key")])
    assert [getattr(found.get(key), "text", "") for key in (KEY, SecretKey("gone", "api-key"))] == ["sk-1", None]
    following = asyncio.create_task(found.run())
    (tmp_path / "k" / "api-key").write_text("sk-2\n")
    async with asyncio.timeout(10):
        while not changes:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert getattr(found.get(KEY), "text", "") == "sk-2"
    following.cancel()


async def test_should_following_a_secret_end_by_itself_all_of_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(WatchedSecrets, "_once", broken)
    found = WatchedSecrets(ApiServer(tmp_path, "http://127.0.0.1:9"), "team-a", lambda: None)
    running = asyncio.create_task(found.run())
    found.want([KEY])
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, 10)


async def test_a_mounted_secret_for_git_is_read_by_its_keys(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    for name, text in (("host", "github.com"), ("username", "u"), ("password", "p w")):
        (tmp_path / "g" / name).write_text(text)
    found = MountedSecrets(tmp_path, lambda: None)
    found.want([GitSecret("g"), GitSecret("gone")])
    assert getattr(found.get(GitSecret("g")), "git", None) == Password("u", "p w")
    assert "not mounted" in getattr(found.get(GitSecret("gone")), "problem", "")
