"""Connections by mutual TLS and by ssh: who is refused, who refuses, and what is said of it."""

import os
import ssl
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from engine_documents import good_bridge, good_info, good_version
from small_engine import SmallEngine

from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.backends.docker.engine.connection.client_credentials import (
    ClientCredentials,
    SshCredentials,
    TlsCredentials,
)
from claude_sandbox.backends.docker.engine.connection.connect import connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError, ConnectErrorReason

ANSWERS = {"info": good_info(), "version": good_version(), "networks/bridge": good_bridge()}


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def issue(name: str, by: Issued | None = None, address: str | None = None) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return Issued(builder.sign(by.key if by else key, hashes.SHA256()), key)


AUTHORITY, STRANGER = issue("authority"), issue("stranger")
OPERATOR = issue("operator", AUTHORITY)
GOOD = TlsCredentials(AUTHORITY.pem, OPERATOR.pem, OPERATOR.key_pem)


def served(tmp_path: Path, address: str = "127.0.0.1") -> ssl.SSLContext:
    """As dockerd --tlsverify."""
    server = issue("engine", AUTHORITY, address)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(server.pem + server.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.load_verify_locations(cadata=AUTHORITY.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture
def tls_engine(tmp_path: Path) -> Iterator[SmallEngine]:
    with SmallEngine(("127.0.0.1", 0), ANSWERS, served(tmp_path)) as engine:
        yield engine


def refused(endpoint: str, credentials: ClientCredentials | None) -> ConnectError:
    with pytest.raises(ConnectError) as error:
        connect(parse(endpoint), credentials, timeout=5)
    return error.value


def test_both_sides_show_a_certificate(tls_engine: SmallEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither is to come between the operator and an engine.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    with connect(parse(f"tcp://127.0.0.1:{tls_engine.port}"), GOOD) as engine:
        assert engine.documents().info == good_info()
        engine.ping()


def test_an_engine_of_another_authority_is_not_trusted(tls_engine: SmallEngine) -> None:
    error = refused(f"tcp://127.0.0.1:{tls_engine.port}", replace(GOOD, ca=STRANGER.pem))
    assert error.reason is ConnectErrorReason.UNTRUSTED
    assert tls_engine.asked == []


def test_an_authority_that_the_machine_trusts_is_not_trusted_with_engines(
    tls_engine: SmallEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(AUTHORITY.pem)
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(bundle))
    error = refused(f"tcp://127.0.0.1:{tls_engine.port}", replace(GOOD, ca=STRANGER.pem))
    assert error.reason is ConnectErrorReason.UNTRUSTED


def test_a_certificate_of_another_host_is_not_trusted(tmp_path: Path) -> None:
    with SmallEngine(("127.0.0.1", 0), ANSWERS, served(tmp_path, "192.0.2.1")) as engine:
        error = refused(f"tcp://127.0.0.1:{engine.port}", GOOD)
    assert error.reason is ConnectErrorReason.UNTRUSTED
    assert "IP address mismatch" in error.message


@pytest.mark.parametrize("attempt", range(5))
def test_an_engine_that_refuses_the_operator_is_told_from_one_that_is_away(
    tls_engine: SmallEngine, attempt: int
) -> None:
    forged = issue("operator", STRANGER)
    credentials = TlsCredentials(AUTHORITY.pem, forged.pem, forged.key_pem)
    error = refused(f"tcp://127.0.0.1:{tls_engine.port}", credentials)
    assert (error.reason, error.passes) == (ConnectErrorReason.DENIED, False)
    assert tls_engine.asked == []


def test_an_engine_that_speaks_no_tls_is_not_spoken_to(tmp_path: Path) -> None:
    with SmallEngine(("127.0.0.1", 0), ANSWERS) as engine:
        assert refused(f"tcp://127.0.0.1:{engine.port}", GOOD).reason is ConnectErrorReason.UNTRUSTED
        assert engine.asked == []


@pytest.mark.parametrize(
    "credentials",
    [
        replace(GOOD, ca=b"nonsense"),
        replace(GOOD, ca=b"\xff\xfe"),
        replace(GOOD, key=STRANGER.key_pem),
        replace(GOOD, certificate=b"nonsense"),
        replace(
            GOOD,
            key=OPERATOR.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"passphrase"),
            ),
        ),
    ],
    ids=["no authority", "no text", "another key", "no certificate", "passphrase"],
)
def test_what_is_no_certificate_or_key_is_said_without_its_content(credentials: TlsCredentials) -> None:
    error = refused("tcp://127.0.0.1:1", credentials)
    assert error.reason is ConnectErrorReason.BAD_CREDENTIALS
    assert "PEM" in error.message
    assert error.__cause__ is None


def test_keys_are_on_no_disk(tls_engine: SmallEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    unlistened = False

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and not unlistened and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE:
            written.append(str(arguments[0]))

    sys.addaudithook(listen)
    with connect(parse(f"tcp://127.0.0.1:{tls_engine.port}"), GOOD) as engine:
        engine.ping()
    unlistened = True
    assert [path for path in written if not path.startswith("/proc/")] == []


# By ssh. The program is a stand-in that does what OpenSSH's client does once it has logged in, or says what it says.

_STAND_IN = """\
#!{python}
import os, socket, sys, threading
open({record!r}, "w").write("\\n".join(sys.argv[1:]))
open({record!r} + ".starts", "a").write("x")
options = dict(zip(sys.argv, sys.argv[1:]))
identity = [a for a in sys.argv if a.startswith("IdentityFile=")]
if identity:
    path = identity[0].partition("=")[2]
    open({record!r} + ".key", "w").write(open(path).read() + oct(os.stat(path).st_mode))
if {says!r}:
    sys.stderr.write({says!r})
    sys.exit(255)
sys.stderr.write("** WARNING: something that ssh says on every connection\\n")
engine = socket.socket(socket.AF_UNIX)
engine.connect({socket!r})
def pump():
    while data := os.read(0, 65536):
        engine.sendall(data)
    engine.shutdown(socket.SHUT_WR)
threading.Thread(target=pump, daemon=True).start()
while data := engine.recv(65536):
    os.write(1, data)
"""

SSH = SshCredentials(OPERATOR.key_pem, b"build-1 ssh-ed25519 AAAA")


class Ssh:
    """The stand-in, and what it was started with."""

    def __init__(self, directory: Path, socket: Path) -> None:
        self.record = directory / "arguments"
        self._program = directory / "ssh"
        self._socket = socket
        self.says("")

    def says(self, words: str) -> None:
        text = _STAND_IN.format(python=sys.executable, record=str(self.record), says=words, socket=str(self._socket))
        self._program.write_text(text)
        self._program.chmod(0o755)

    @property
    def arguments(self) -> list[str]:
        return self.record.read_text().splitlines()


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ssh]:
    socket = tmp_path / "docker.sock"
    with SmallEngine(socket, ANSWERS):
        programs = tmp_path / "bin"
        programs.mkdir()
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        yield Ssh(programs, socket)


def test_an_engine_is_reached_by_ssh(ssh: Ssh) -> None:
    with connect(parse("ssh://docker@build-1:2222"), SSH) as engine:
        assert engine.documents().info == good_info()
        engine.ping()
    arguments = ssh.arguments
    assert arguments[-3:] == ["--", "build-1", "docker system dial-stdio"]
    assert {"User=docker", "Port=2222", "BatchMode=yes", "StrictHostKeyChecking=yes"} <= set(arguments)


def test_one_login_is_enough_for_many_requests(ssh: Ssh) -> None:
    with connect(parse("ssh://docker@build-1"), SSH) as engine:
        for _ in range(3):
            engine.documents()
            engine.ping()
    assert Path(f"{ssh.record}.starts").read_text() == "x"


def test_the_key_reaches_ssh_and_is_in_no_file_and_no_argument(ssh: Ssh) -> None:
    with connect(parse("ssh://docker@build-1"), SSH) as engine:
        engine.ping()
    key = Path(f"{ssh.record}.key").read_text()
    # ssh refuses a key that others could read.
    assert key == SSH.private_key.decode() + oct(stat.S_IFREG | 0o600)
    assert SSH.private_key.decode()[40:80] not in ssh.record.read_text()
    (path,) = (one.partition("=")[2] for one in ssh.arguments if one.startswith("IdentityFile="))
    assert path.startswith("/proc/")
    # Nothing of the user's own comes between.
    assert ssh.arguments[1:3] == ["-F", "none"]


def test_without_a_secret_the_users_own_ssh_is_used(ssh: Ssh) -> None:
    with connect(parse("ssh://build-1")) as engine:
        engine.ping()
    assert "-F" not in ssh.arguments
    assert not [one for one in ssh.arguments if one.startswith(("IdentityFile", "User="))]
    assert "StrictHostKeyChecking=yes" in ssh.arguments


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("Host key verification failed.\r\n", ConnectErrorReason.UNTRUSTED),
        ("docker@build-1: Permission denied (publickey).\r\n", ConnectErrorReason.DENIED),
        ("bash: line 1: docker: command not found\n", ConnectErrorReason.UNSUPPORTED),
        ("permission denied while trying to connect to the Docker daemon socket", ConnectErrorReason.DENIED),
        ("ssh: connect to host build-1 port 22: Connection timed out\r\n", ConnectErrorReason.UNREACHABLE),
        ("zsh:1: command not found: docker\n", ConnectErrorReason.UNSUPPORTED),
        ("docker@build-1: Connection closed by remote host\r\n", ConnectErrorReason.UNREACHABLE),
        (
            'Load key "/proc/1/fd/9": bad permissions\r\nPermission denied (publickey).\n',
            ConnectErrorReason.BAD_CREDENTIALS,
        ),
        ("a private key\n", ConnectErrorReason.UNREACHABLE),
    ],
)
def test_what_ssh_says_becomes_a_remedy(ssh: Ssh, words: str, reason: ConnectErrorReason) -> None:
    ssh.says(words)
    error = refused("ssh://docker@build-1", SSH)
    assert error.reason is reason
    assert "a private key" not in error.message


def test_where_there_is_no_ssh_client_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    error = refused("ssh://docker@build-1", SSH)
    assert error.reason is ConnectErrorReason.UNSUPPORTED
    assert "openssh-client" in error.message
