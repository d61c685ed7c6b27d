"""Until when the certificates last that the operator connects to an engine with. Pure."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from claude_sandbox.backends.docker.engine.connection.client_credentials import ClientCredentials, TlsCredentials


@dataclass(frozen=True)
class CertificateEnd:
    """A certificate of a Secret by the Secret's key, and its last moment."""

    key: str
    at: datetime


def ends_of(credentials: ClientCredentials | None) -> tuple[CertificateEnd, ...]:
    """Of the operator's own certificate, and of the authorities that it trusts the one that ends first. Without TLS
    there are none; nor is there one where what is there can't be read, which no connection gets past."""
    if not isinstance(credentials, TlsCredentials):
        return ()
    found = []
    for key, pem in (("ca.crt", credentials.ca), ("tls.crt", credentials.certificate)):
        try:
            read = x509.load_pem_x509_certificates(pem)
        except ValueError:
            continue
        # The first of tls.crt is the operator's, and what follows leads to an authority.
        ends = [one.not_valid_after_utc for one in (read if key == "ca.crt" else read[:1])]
        found += [CertificateEnd(key, min(ends))] if ends else []
    return tuple(found)
