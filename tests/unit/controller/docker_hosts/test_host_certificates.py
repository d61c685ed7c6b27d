"""The certificates by which a Docker host is reached: when each ends, and what is said of it before."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from claude_sandbox.api.docker_hosts.conditions import HostReason
from claude_sandbox.api.validate import parse_host_spec
from claude_sandbox.backends.docker.engine.connection.certificates import CertificateEnd, ends_of
from claude_sandbox.backends.docker.engine.connection.client_credentials import (
    ClientCredentialsError,
    SshCredentials,
    TlsCredentials,
)
from claude_sandbox.backends.docker.hosts.hosts import HostState
from claude_sandbox.cli.due import lines
from claude_sandbox.controller.docker_hosts.status import HostFindings, compose, worth_writing

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
TCP = {"endpoint": "tcp://192.0.2.7:2376", "credentialsSecretRef": {"name": "build-1"}}


def pem(ends: datetime) -> bytes:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(ends - timedelta(days=3650)).not_valid_after(ends)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def credentials(ca: bytes, own: bytes) -> TlsCredentials:
    return TlsCredentials(ca, own, b"")


def told(days: float, other: float = 900, **changes: Any) -> dict[str, Any]:
    """The status of a host one of whose certificates ends in so many days."""
    ends = (
        CertificateEnd("ca.crt", NOW + timedelta(days=other)),
        CertificateEnd("tls.crt", NOW + timedelta(days=days)),
    )
    found = {"spec": parse_host_spec({"spec": TCP}), "known": HostState(), "certificates": ends, **changes}
    return compose({}, 1, HostFindings(**found), NOW)


def condition(status: dict[str, Any]) -> tuple[str, str]:
    (found,) = (one for one in status["conditions"] if one["type"] == "CertificatesCurrent")
    return found["status"], found["reason"]


def test_the_end_of_each_is_read_and_of_authorities_the_first() -> None:
    soon, later = NOW + timedelta(days=5), NOW + timedelta(days=50)
    found = ends_of(credentials(pem(later) + pem(soon), pem(later) + pem(soon)))
    assert found == (CertificateEnd("ca.crt", soon), CertificateEnd("tls.crt", later))


def test_what_is_no_certificate_has_no_end_and_is_not_taken_for_current() -> None:
    assert ends_of(credentials(b"x", pem(NOW)))[0].key == "tls.crt"
    assert ends_of(SshCredentials(b"", b"")) == ends_of(None) == ()
    assert condition(told(500, certificates=())) == ("Unknown", "CertificatesUnread")


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (31, ("True", "CertificatesLast")),
        (30, ("False", "CertificateDue")),
        (0.1, ("False", "CertificateDue")),
        (0, ("False", "CertificateExpired")),
        (-9, ("False", "CertificateExpired")),
    ],
)
def test_the_condition_turns_a_month_before_the_end_and_at_the_end(days: float, expected: tuple[str, str]) -> None:
    assert condition(told(days)) == expected
    assert condition(told(500, other=days)) == expected


def test_where_there_are_none_or_nothing_is_known_it_says_so() -> None:
    plain = parse_host_spec({"spec": {"endpoint": "unix:///var/run/docker.sock"}})
    assert condition(told(1, spec=plain, certificates=())) == ("True", "NoCertificates")
    gone = ClientCredentialsError(HostReason.SECRET_NOT_FOUND, "There is no such Secret.")
    assert condition(told(1, secret=gone, certificates=())) == ("Unknown", "CertificatesUnread")
    assert condition(told(1, spec=None, invalid="x", certificates=())) == ("Unknown", "CertificatesUnread")


def test_it_is_among_what_is_due_by_its_date_and_a_status_at_rest_stays() -> None:
    status = told(40)
    document = {"kind": "DockerHost", "metadata": {"name": "build-1"}, "status": status}
    found = lines([document])
    assert [(line.of, line.date.name, line.is_due(NOW)) for line in found] == [
        ("DockerHost build-1", "tls.crt", False), ("DockerHost build-1", "ca.crt", False),
    ]  # fmt: skip
    assert found[0].is_due(NOW + timedelta(days=10))
    assert "2026-07-11" in found[0].date.message
    assert not worth_writing(status, told(40))
