"""The demo's git server as a program, with git as its client; and what the demo makes of what it says."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.docker.gateway.settings import gateway_settings
from claude_sandbox.demo import gateways
from claude_sandbox.demo.place import Place
from claude_sandbox.demo.provider import CLAUDE_API, Provider, StandIn
from claude_sandbox.demo.work import repository, server
from claude_sandbox.demo.work.repository import HOST, GitServer
from claude_sandbox.install.errors import SetupError

PATIENCE = 30.0


@dataclass(frozen=True)
class Running:
    """The server on this machine; its files are in `files`."""

    port: int
    files: Path

    def url(self, token: str) -> str:
        user = f"x-access-token:{token}@" if token else ""
        return f"https://{user}{HOST}:{self.port}/{server.REPOSITORY}"

    @property
    def token(self) -> str:
        return (self.files / "token").read_text()

    def git(self, *arguments: str, at: Path | None = None) -> tuple[int, str]:
        """As a client that believes the server's certificate, and knows where it is."""
        known = ("-c", f"http.sslCAInfo={self.files / 'certificate.pem'}")
        resolved = ("-c", f"http.curloptResolve={HOST}:{self.port}:127.0.0.1")
        who = {f"GIT_{one}_{what}": "a@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0", **who}
        done = subprocess.run(
            ["git", *known, *resolved, *arguments], cwd=at or self.files, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    @property
    def place(self) -> Place:
        """As its container would be: what is asked for by its path there is asked for here."""

        def run(*argv: str) -> tuple[int, str]:
            command = [one.replace(repository.FILES, str(self.files)) for one in argv]
            done = subprocess.run(
                command, cwd=self.files, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            return done.returncode, done.stdout

        return Place(run, "docker exec git")


@contextlib.contextmanager
def serving(files: Path) -> Iterator[Running]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    *_, source, _, _, _, host = repository.program("", 0)
    log = files.parent / "git-server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", source, "127.0.0.1", str(port), str(files), host], stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not ((files / "certificate.pem").exists() and _listens(port)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield Running(port, files)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    files = tmp_path_factory.mktemp("git") / "files"
    files.mkdir()
    with serving(files) as found:
        yield found


def test_nobody_gets_in_without_the_token(running: Running) -> None:
    for token in ("", "another", f"{running.token}x"):
        code, said = running.git("ls-remote", running.url(token))
        assert code != 0
        assert "refs/heads" not in said
    code, said = running.git("ls-remote", running.url(running.token))
    assert (code, "refs/heads/main" in said) == (0, True)


@pytest.mark.parametrize("header", ["Bearer TOKEN", "Basic TOKEN", "Basic !", "Basic", "", "Basic eDp5"])
def test_a_credential_of_another_form_opens_nothing(header: str) -> None:
    assert not server.allowed(header.replace("TOKEN", "t"), "t")
    assert server.allowed(f"Basic {base64.b64encode(b'anybody:t').decode()}", "t")


def test_it_is_cloned_its_test_fails_and_what_is_pushed_is_there(running: Running, tmp_path: Path) -> None:
    clone, url = tmp_path / "clone", running.url(running.token)
    assert running.git("clone", "-q", url, str(clone))[0] == 0
    tried = subprocess.run([sys.executable, "-m", "unittest"], cwd=clone, capture_output=True, text=True, check=False)
    assert (tried.returncode, "nmae" in tried.stderr) == (1, True)
    # So much that git sends it in chunks.
    (clone / "large").write_bytes(os.urandom(3 << 20))
    running.git("checkout", "-qb", "claude/large", at=clone)
    running.git("add", "large", at=clone)
    running.git("commit", "-qm", "large", at=clone)
    code, said = running.git("push", "-q", "origin", "HEAD", at=clone)
    assert code == 0, said
    pushed = running.git("rev-parse", "HEAD", at=clone)[1].strip()
    found = repository.found(running.place, "127.0.0.1", running.port, print)
    assert found.branches()["claude/large"] == pushed
    assert "claude/large" in found.listing()[1]


def test_a_server_that_was_lost_has_the_same_first_commit_and_begun_again_nothing_else(
    running: Running, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    with serving(files) as other:
        first = other.git("ls-remote", other.url(other.token), "main")
        assert first == running.git("ls-remote", running.url(running.token), "main")
        before = {one: one.read_bytes() for one in files.iterdir() if one.is_file()}
        assert other.token != running.token
    with serving(files) as again:
        assert {one: one.read_bytes() for one in files.iterdir() if one.is_file()} == before
        assert again.git("ls-remote", again.url(again.token), "main")[1].split()[0] == first[1].split()[0]


def test_nobody_else_may_read_the_token_and_the_key(running: Running) -> None:
    for name in ("token", "key.pem"):
        assert (running.files / name).stat().st_mode & 0o077 == 0


def given(port: int) -> GitServer:
    return GitServer(Place(lambda *_: (0, ""), ""), "10.1.2.3", HOST if port == 443 else f"{HOST}:{port}", "t", "pem")


@pytest.mark.parametrize("port", [443, 38443])
def test_a_sandbox_may_declare_it_and_its_secret_is_for_it_alone(port: int) -> None:
    found = given(port)
    spec = ClaudeSandboxSpec.model_validate(
        {"credentials": {"apiKeySecretRef": {"name": "key"}}, "repositories": found.declared}
    )
    (one,) = spec.repositories
    assert one.push is not None
    assert one.push.branches == ["claude/*"]
    secret = found.secret("agents", {})
    assert (secret["type"], secret["stringData"]["host"]) == ("claudesandbox.dev/git", one.url.split("/")[2])
    assert one.credentials_secret_ref is not None
    assert one.credentials_secret_ref.name == secret["metadata"]["name"]


def test_gateways_are_told_where_it_is_and_believe_it_of_nobody_else(running: Running) -> None:
    found = repository.found(running.place, "10.1.2.3", running.port, print)
    told = gateways.settings(CLAUDE_API, found)
    assert gateway_settings(json.dumps(told)) == told
    assert "provider" not in told
    assert told["egress"]["privateNetworks"] == ["10.1.2.3/32"]
    stand_in = Provider("allowed.example.com", "", StandIn("http://10.1.2.4:80", "10.1.2.4"))
    told = gateways.settings(stand_in, found)
    assert gateway_settings(json.dumps(told)) == told
    assert told["provider"] == {"baseURL": "http://10.1.2.4:80"}
    assert gateways.settings(CLAUDE_API, None) == {}
    assert set(told["egress"]["privateNetworks"]) == {"10.1.2.3/32", "10.1.2.4/32"}


def test_a_cluster_expands_nothing_in_its_command() -> None:
    # https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
    assert not any("$(" in part for part in repository.program("", 8443))


def test_a_server_that_does_not_begin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "_PATIENCE", 0.0)
    place = Place(lambda *_: (1, "cat: certificate.pem: No such file"), "")
    with pytest.raises(SetupError, match="No such file"):
        repository.found(place, "10.1.2.3", 443, print)
