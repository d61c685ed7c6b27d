"""Certificates, judged by OpenSSL through the standard library and by their own fields."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from claude_sandbox.localcluster.pki import certificates, pki
from claude_sandbox.localcluster.pki.certificates import KeyPair, Subject
from claude_sandbox.localcluster.pki.pki import Files

NOW = datetime.now(UTC)
SERVER = Subject("server", server=True, client=False, names=("127.0.0.1", "localhost"))
CLIENT = Subject("alice", ("agents", "testers"))


def _store(directory: Path, name: str, pair: KeyPair) -> Files:
    files = Files(directory, name)
    files.key.write_bytes(pair.key)
    files.certificate.write_bytes(pair.certificate)
    return files


def _handshake(directory: Path, ca: KeyPair, server: KeyPair, client: KeyPair, host: str) -> dict[str, object]:
    """What a TLS server that demands a client's certificate learns of the client."""
    authority = _store(directory, "ca", ca).certificate
    here, there = _store(directory, "server", server), _store(directory, "client", client)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.load_cert_chain(here.certificate, here.key)
    client_side = ssl.create_default_context(cafile=authority)
    client_side.load_cert_chain(there.certificate, there.key)
    seen: list[object] = []
    left, right = socket.socketpair()
    left.settimeout(10)
    right.settimeout(10)

    def serve() -> None:
        try:
            with server_side.wrap_socket(right, server_side=True) as connection:
                seen.append(connection.getpeercert())
                connection.sendall(b"x")
        except OSError as error:
            seen.append(error)
            right.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_side.wrap_socket(left, server_hostname=host) as connection:
            connection.recv(1)
    finally:
        thread.join(20)
    (learned,) = seen
    if isinstance(learned, OSError):
        raise learned
    assert isinstance(learned, dict)
    return learned


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_handshake_succeeds_and_names_the_user_and_its_groups(tmp_path: Path, host: str) -> None:
    ca = certificates.new_ca("test", NOW)
    pairs = certificates.issue(ca, SERVER, NOW), certificates.issue(ca, CLIENT, NOW)
    learned = _handshake(tmp_path, ca, *pairs, host)
    assert learned["subject"] == (
        (("organizationName", "agents"),),
        (("organizationName", "testers"),),
        (("commonName", "alice"),),
    )


def test_a_server_under_another_name_is_refused(tmp_path: Path) -> None:
    ca = certificates.new_ca("test", NOW)
    pairs = certificates.issue(ca, SERVER, NOW), certificates.issue(ca, CLIENT, NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, ca, *pairs, "10.0.0.1")


def test_a_client_of_another_authority_is_refused(tmp_path: Path) -> None:
    ca, other = certificates.new_ca("test", NOW), certificates.new_ca("test", NOW)
    pairs = certificates.issue(ca, SERVER, NOW), certificates.issue(other, CLIENT, NOW)
    with pytest.raises(ssl.SSLError):
        _handshake(tmp_path, ca, *pairs, "localhost")


def test_a_client_certificate_can_not_serve(tmp_path: Path) -> None:
    ca = certificates.new_ca("test", NOW)
    impostor = certificates.issue(ca, Subject("mallory", names=("localhost",)), NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, ca, impostor, certificates.issue(ca, CLIENT, NOW), "localhost")


def test_a_leaf_is_replaced_when_it_no_longer_does() -> None:
    ca, other = certificates.new_ca("test", NOW), certificates.new_ca("test", NOW)
    pair = certificates.issue(ca, SERVER, NOW)
    more_names = Subject("server", server=True, client=False, names=(*SERVER.names, "10.0.0.1"))
    assert certificates.will_do(pair, ca, SERVER, NOW)
    assert not certificates.will_do(pair, other, SERVER, NOW)
    assert not certificates.will_do(pair, ca, more_names, NOW)
    assert not certificates.will_do(pair, ca, CLIENT, NOW)
    assert not certificates.will_do(pair, ca, SERVER, NOW + timedelta(days=340))
    assert not certificates.will_do(KeyPair(certificates.new_key(), pair.certificate), ca, SERVER, NOW)
    assert not certificates.will_do(KeyPair(pair.key, b"damaged"), ca, SERVER, NOW)


def test_what_is_right_is_left_alone_and_what_is_lost_is_made_again(tmp_path: Path) -> None:
    leaves = pki.subjects(None, None)
    first = pki.ensure(tmp_path, leaves)
    assert first == {*leaves, *pki.AUTHORITIES, "service-account"}
    assert pki.ensure(tmp_path, leaves) == frozenset()
    Files(tmp_path, "admin").key.unlink()
    Files(tmp_path, "scheduler").certificate.write_text("damaged")
    assert pki.ensure(tmp_path, leaves) == {"admin", "scheduler"}


def test_a_node_adds_its_address_to_the_api_servers_certificate_and_keeps_the_authorities(tmp_path: Path) -> None:
    pki.ensure(tmp_path, pki.subjects(None, None))
    made = pki.ensure(tmp_path, pki.subjects("10.243.7.1", ("node-7", "10.243.7.2")))
    assert made == {"apiserver", "kubelet", "kubelet-server", "kube-proxy", "kube-router"}


def test_a_new_authority_makes_its_leaves_new(tmp_path: Path) -> None:
    pki.ensure(tmp_path, pki.subjects(None, None))
    Files(tmp_path, "etcd-ca").key.write_bytes(certificates.new_key())
    assert pki.ensure(tmp_path, pki.subjects(None, None)) == {"etcd-ca", "etcd", "apiserver-etcd-client"}


def test_nobody_else_can_read_any_of_it(tmp_path: Path) -> None:
    pki.ensure(tmp_path, pki.subjects("10.243.7.1", ("node-7", "10.243.7.2")))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
