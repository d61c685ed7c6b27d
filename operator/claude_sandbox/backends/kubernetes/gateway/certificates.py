"""The certificate by which sandboxes know their namespace's gateway. Pure, but for the randomness of keys.

An authority for each namespace, which can speak for one name only: whoever trusts it trusts it for nothing else
(RFC 5280, 4.2.1.10). It outlives the certificate, since a program reads what it trusts once, when it starts.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
LIFE = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
_BACKDATE = timedelta(minutes=5)
"""Clocks of nodes may be behind."""


@dataclass(frozen=True)
class Bundle:
    """An authority and the certificate that it gave, all PEM. The keys are in no repr."""

    authority: str
    authority_key: str = field(repr=False)
    certificate: str = ""
    key: str = field(default="", repr=False)

    def data(self) -> dict[str, str]:
        """As in a Secret, by the names that are usual there."""
        return {
            "ca.crt": self.authority, "ca.key": self.authority_key,
            "tls.crt": self.certificate, "tls.key": self.key,
        }  # fmt: skip


def renewed(before: Bundle | None, name: str, now: datetime) -> Bundle:
    """The bundle that is good for a while: what there is, or with what is broken or about to end made anew."""
    if before is not None and is_good(before, name, now):
        return before
    # The certificate alone, where that is enough: sandboxes that run trust the authority that they were given.
    if before is None or not _is_authority(before, name, now):
        before = _authority(name, now)
    return _issued(before, name, now)


def is_good(bundle: Bundle, name: str, now: datetime) -> bool:
    """Whether nothing of it has to be renewed yet."""
    try:
        certificate = x509.load_pem_x509_certificate(bundle.certificate.encode())
        # Somebody may have written one of another authority into the Secret, which pods would not believe.
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(bundle.authority.encode()))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = serialization.load_pem_private_key(bundle.key.encode(), None)
        pair = isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == certificate.public_key()
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    named = names.get_values_for_type(x509.DNSName) == [name]
    return pair and named and _lasts(certificate, now) and _is_authority(bundle, name, now)


def good_until(bundle: Bundle) -> datetime:
    """When it is to be renewed."""
    ends = (x509.load_pem_x509_certificate(one.encode()) for one in (bundle.certificate, bundle.authority))
    return min(one.not_valid_after_utc for one in ends) - RENEW_BEFORE


def ends(good: datetime) -> datetime:
    """When it is of no use any more, by when it is to be renewed."""
    return good + RENEW_BEFORE


def _is_authority(bundle: Bundle, name: str, now: datetime) -> bool:
    try:
        authority = x509.load_pem_x509_certificate(bundle.authority.encode())
        key = serialization.load_pem_private_key(bundle.authority_key.encode(), None)
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return False
    pair = isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == authority.public_key()
    return pair and constraints == _constraints(name) and _lasts(authority, now)


def _lasts(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now and now + RENEW_BEFORE < certificate.not_valid_after_utc


def _authority(name: str, now: datetime) -> Bundle:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} of a namespace")])
    certificate = (
        _builder(subject, subject, key, now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(_constraints(name), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Bundle(_pem(certificate), _key(key))


def client(authority: Bundle, name: str, now: datetime) -> Bundle:
    """The same authority with a certificate for who connects, and not for who is connected to.

    It is good for as long as `good_until` says. `name` is one that the authority can speak for.
    """
    return _issued(authority, name, now, ExtendedKeyUsageOID.CLIENT_AUTH)


def _issued(
    authority: Bundle, name: str, now: datetime, use: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH
) -> Bundle:
    issuer = x509.load_pem_x509_certificate(authority.authority.encode())
    signer = serialization.load_pem_private_key(authority.authority_key.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101 - it was looked at
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, issuer.subject, key, now, LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Bundle(authority.authority, authority.authority_key, _pem(certificate), _key(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
    )


def _constraints(name: str) -> x509.NameConstraints:
    return x509.NameConstraints([x509.DNSName(name)], None)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
