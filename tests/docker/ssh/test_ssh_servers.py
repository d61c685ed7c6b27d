"""Connections by a real OpenSSH client and server: who gets in, who is refused, and what is said of it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from engine_documents import good_bridge, good_info, good_version
from process_tree import children, command_of
from small_engine import SmallEngine
from sshkit import STRANGER, SshServer, ssh_server

from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.backends.docker.engine.connection.client_credentials import SshCredentials
from claude_sandbox.backends.docker.engine.connection.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError, ConnectErrorReason

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("ssh_client")]

ANSWERS = {"info": good_info(), "version": good_version(), "networks/bridge": good_bridge()}


@pytest.fixture
def server(may_have_engines: None, tmp_path: Path) -> Iterator[SshServer]:
    """A server whose docker client finds an engine, if only one that says what it is."""
    sockets, own = tmp_path / "sockets", tmp_path / "ssh"
    sockets.mkdir()
    own.mkdir()
    with SmallEngine(sockets / "docker.sock", ANSWERS), ssh_server(own, sockets) as running:
        yield running


def refused(endpoint: str, credentials: SshCredentials | None) -> ConnectError:
    with pytest.raises(ConnectError) as error:
        connect(parse(endpoint), credentials, timeout=5)
    return error.value


def clients() -> list[int]:
    """The ssh clients that this process has started and that have not ended."""
    return [pid for pid in children(os.getpid()) if b"dial-stdio" in command_of(pid)]


def test_who_has_the_key_of_a_known_host_gets_to_its_engine(server: SshServer) -> None:
    with connect(parse(server.endpoint), server.credentials) as engine:
        assert engine.documents().info == good_info()
    assert clients() == []


@pytest.mark.parametrize(
    "pasted",
    [lambda key: key.strip(), lambda key: key.replace(b"\n", b"\r\n"), lambda key: b"\n" + key + b"\n"],
    ids=["without its last line's end", "lines ended as elsewhere", "empty lines around"],
)
def test_a_key_that_was_pasted_is_as_good(server: SshServer, pasted: Callable[[bytes], bytes]) -> None:
    credentials = replace(server.credentials, private_key=pasted(server.credentials.private_key))
    with connect(parse(server.endpoint), credentials) as engine:
        engine.ping()


def test_a_key_of_another_kind_and_form_is_as_good(server: SshServer) -> None:
    key = server.new_key("pem", "-t", "ecdsa", "-m", "PEM", "-N", "")
    assert key.startswith(b"-----BEGIN EC PRIVATE KEY")
    server.admit("pem")
    with connect(parse(server.endpoint), replace(server.credentials, private_key=key)) as engine:
        engine.ping()


def test_a_key_may_be_good_for_nothing_but_the_engine(server: SshServer) -> None:
    server.admit("client", 'restrict,command="docker system dial-stdio"')
    with connect(parse(server.endpoint), server.credentials) as engine:
        engine.ping()


def test_a_host_that_shows_another_key_is_refused(server: SshServer) -> None:
    server.new_key("another")
    error = refused(server.endpoint, replace(server.credentials, known_hosts=server.known_hosts("another")))
    assert error.reason is ConnectErrorReason.UNTRUSTED
    assert "known_hosts in the Secret" in error.message
    assert "ssh-keyscan" in error.message
    assert "Accepted" not in server.log


@pytest.mark.parametrize("known", [b"build-1 ssh-ed25519 AAAA\n", b"nonsense", b"\n"])
def test_a_host_that_is_not_known_is_refused(server: SshServer, known: bytes) -> None:
    error = refused(server.endpoint, replace(server.credentials, known_hosts=known))
    assert error.reason is ConnectErrorReason.UNTRUSTED
    assert "known_hosts in the Secret has no valid key of the host: add" in error.message
    assert "Accepted" not in server.log


def test_a_host_whose_key_was_revoked_is_refused(server: SshServer) -> None:
    known = server.credentials.known_hosts
    error = refused(server.endpoint, replace(server.credentials, known_hosts=known + b"@revoked " + known))
    assert error.reason is ConnectErrorReason.UNTRUSTED
    assert "Accepted" not in server.log


def test_a_key_that_the_host_does_not_let_in_is_told(server: SshServer) -> None:
    error = refused(server.endpoint, replace(server.credentials, private_key=server.new_key("another")))
    assert error.reason is ConnectErrorReason.DENIED
    assert "ssh-privatekey" in error.message
    assert "authorized_keys" in error.message


@pytest.mark.parametrize("kind", ["passphrase", "public half", "cut short", "nonsense"])
def test_what_is_no_key_is_said_without_its_content_and_without_asking_the_host(server: SshServer, kind: str) -> None:
    key = {
        "passphrase": server.new_key("locked", "-t", "ed25519", "-N", "a passphrase"),
        "public half": (server.directory / "client.pub").read_bytes(),
        "cut short": server.credentials.private_key[:200],
        "nonsense": b"\xff\xfe not a key",
    }[kind]
    error = refused(server.endpoint, replace(server.credentials, private_key=key))
    assert error.reason is ConnectErrorReason.BAD_CREDENTIALS
    assert "ssh-privatekey in the Secret" in error.message
    assert error.__cause__ is None
    assert key.splitlines()[0].decode(errors="replace") not in error.message
    assert "Connection from" not in server.log


def test_a_banner_is_not_taken_for_what_ssh_says(server: SshServer) -> None:
    server.says("Host key verification failed.\nPermission denied (publickey).\n")
    (server.directory.parent / "sockets" / "docker.sock").unlink()
    assert "no Docker Engine" in refused(server.endpoint, server.credentials).message
    error = refused(server.endpoint, replace(server.credentials, private_key=server.new_key("another")))
    assert error.reason is ConnectErrorReason.DENIED


def test_a_user_who_may_not_open_the_socket_is_told(server: SshServer) -> None:
    (server.directory.parent / "sockets" / "docker.sock").chmod(0o600)
    error = refused(server.endpoint_of(STRANGER), server.credentials)
    assert error.reason is ConnectErrorReason.DENIED
    assert "group docker" in error.message


def test_a_host_without_a_docker_client_is_told(server: SshServer) -> None:
    server.stop()
    server.path = "/nonexistent"
    server.start()
    error = refused(server.endpoint, server.credentials)
    assert error.reason is ConnectErrorReason.UNSUPPORTED
    assert "no docker client" in error.message


def test_a_host_that_nobody_listens_at_and_one_that_is_not_known_may_come(server: SshServer) -> None:
    server.stop()
    assert refused(server.endpoint, server.credentials).reason is ConnectErrorReason.UNREACHABLE
    error = refused("ssh://root@no-such-host.invalid", server.credentials)
    assert error.reason is ConnectErrorReason.UNREACHABLE
    assert "resolver" in error.message
    assert clients() == []


def test_a_server_that_is_killed_in_mid_session_is_noticed_and_can_be_reached_again(server: SshServer) -> None:
    with connect(parse(server.endpoint), server.credentials) as engine:
        engine.ping()
        server.stop()
        with pytest.raises(ConnectError) as error:
            engine.ping()
        assert error.value.passes
        server.start()
        engine.ping()
    assert clients() == []


def test_a_server_that_says_nothing_any_more_is_given_up_in_time(server: SshServer) -> None:
    with connect(parse(server.endpoint), server.credentials, timeout=1) as engine:
        engine.ping()
        with server.frozen(), pytest.raises(ConnectError) as error:
            engine.ping()
        assert error.value.passes
        engine.ping()


def test_all_that_come_at_once_get_in(server: SshServer) -> None:
    """A server turns some away at random when more than ten log in at a time."""

    def ask(engine: Connection) -> int:
        # Held until all have theirs, so that each has a connection of its own.
        with engine.api.get(f"{engine.api.base_url}/info", stream=True) as answer:
            return int(answer.status_code)

    with connect(parse(server.endpoint), server.credentials, timeout=20) as engine, ThreadPoolExecutor(24) as threads:
        assert list(threads.map(ask, [engine] * 24)) == [200] * 24
    assert "MaxStartups" not in server.log


def test_the_private_key_is_in_no_argument_no_environment_and_no_file(server: SshServer) -> None:
    secret = server.credentials.private_key.splitlines()[1]
    written: list[str] = []
    listening = True

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE:
            written.append(str(arguments[0]))

    sys.addaudithook(listen)
    with connect(parse(server.endpoint), server.credentials) as engine:
        engine.ping()
        listening = False
        (client,) = clients()
        arguments, environment = (Path(f"/proc/{client}", name).read_bytes() for name in ("cmdline", "environ"))
        identity = next(one for one in arguments.decode().split("\0") if one.startswith("IdentityFile="))
        file = Path(identity.partition("=")[2])
        # In this process's memory, for this user alone.
        assert file.read_bytes() == server.credentials.private_key
        assert str(file.readlink()).startswith("/memfd:")
        assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in arguments + environment
    assert [name for name in written if not name.startswith("/proc/")] == []
    # And gone with the connection.
    assert not file.exists()


_AS_A_USER = """
import sys
from pathlib import Path
from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.backends.docker.engine.connection.connect import connect
from claude_sandbox.backends.docker.engine.connection.client_credentials import SshCredentials
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError
endpoint, *files = sys.argv[1:]
credentials = SshCredentials(*(Path(file).read_bytes() for file in files)) if files else None
try:
    with connect(parse(endpoint), credentials) as engine:
        engine.ping()
except ConnectError as error:
    print(error.reason.value)
else:
    print("connected")
"""


def as_user(server: SshServer, *files: str) -> str:
    """What comes of connecting, where root has the server's `home` for a home directory."""
    (server.directory / "as_user.py").write_text(_AS_A_USER)
    script = f'mount --bind {server.directory}/passwd /etc/passwd; exec "$@"'
    command = [sys.executable, f"{server.directory}/as_user.py", server.endpoint]
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", *command,
         *(f"{server.directory}/{file}" for file in files)],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip


def test_with_a_secret_nothing_of_the_users_own_ssh_is_used_and_without_one_all_of_it(server: SshServer) -> None:
    own = server.directory / "home" / ".ssh"
    own.mkdir(mode=0o700)
    known, key = server.credentials.known_hosts, server.credentials.private_key
    (own / "known_hosts").write_bytes(known)
    (own / "id_ed25519").write_bytes(key)
    (own / "id_ed25519").chmod(0o600)
    (server.directory / "known").write_bytes(known)
    (server.directory / "unknown").write_bytes(b"build-1 ssh-ed25519 AAAA\n")
    server.new_key("another")
    assert as_user(server) == "connected"
    assert as_user(server, "client", "unknown") == ConnectErrorReason.UNTRUSTED.value
    assert as_user(server, "another", "known") == ConnectErrorReason.DENIED.value
    # Whoever may write there could have every connection go through a command of theirs.
    mark = server.directory / "mark"
    (own / "config").write_text(f"Host *\n  ProxyCommand touch {mark}\n")
    assert as_user(server, "client", "known") == "connected"
    assert not mark.exists()
    assert as_user(server) == ConnectErrorReason.UNREACHABLE.value
    assert mark.exists()
