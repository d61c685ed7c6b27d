"""The certificate of the sessions' port is exchanged without a restart, and tells when it ends."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from claude_sandbox.controller.sessions.certificate import Certificate
from claude_sandbox.localcluster.pki.certificates import KeyPair, Subject, issue, new_ca

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def written(directory: Path, name: str, since: datetime = NOW) -> tuple[tuple[str, str], x509.Certificate]:
    """A pair in files, which are the same each time; and the certificate."""
    pair: KeyPair = issue(new_ca("tests", since), Subject(name, server=True, client=False, names=(name,)), since)
    certificate, key = directory / "tls.crt", directory / "tls.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return (str(certificate), str(key)), x509.load_pem_x509_certificate(pair.certificate)


async def served(context: ssl.SSLContext) -> x509.Certificate:
    """What who connects is shown."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        own = ssl.create_default_context()
        own.check_hostname, own.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1], ssl=own)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    return x509.load_der_x509_certificate(shown)


async def test_what_is_written_into_the_files_is_shown_to_who_connects_then(tmp_path: Path) -> None:
    files, first = written(tmp_path, "one")
    certificate = Certificate(files)
    assert certificate.ends == first.not_valid_after_utc
    assert await served(certificate.context) == first
    _, second = written(tmp_path, "two", NOW + timedelta(days=1))
    assert await served(certificate.context) == first
    certificate.look()
    assert await served(certificate.context) == second
    assert certificate.ends == second.not_valid_after_utc


async def test_what_can_not_be_loaded_leaves_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files, first = written(tmp_path, "one")
    certificate, key = Certificate(files), (tmp_path / "tls.key").read_bytes()
    written(tmp_path, "two")
    # Half of it was written.
    (tmp_path / "tls.key").write_bytes(key)
    for broken in (b"no certificate", b""):
        certificate.look()
        assert await served(certificate.context) == first
        assert certificate.ends == first.not_valid_after_utc
        (tmp_path / "tls.crt").write_bytes(broken)
    assert "can't be loaded" in caplog.text
    with pytest.raises(ValueError, match="PEM"):
        Certificate(files)


async def test_one_of_its_own_is_made_anew_in_time() -> None:
    at = [NOW]
    certificate = Certificate(None, lambda: at[0])
    first = await served(certificate.context)
    at[0] += timedelta(days=59)
    certificate.look()
    assert await served(certificate.context) == first
    at[0] += timedelta(days=2)
    certificate.look()
    assert await served(certificate.context) != first
    assert certificate.ends > first.not_valid_after_utc
