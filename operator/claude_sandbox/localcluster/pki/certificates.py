"""X.509 certificates: what a certificate is to say, issuing it, and telling whether one still will do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=365)
# Younger than this, a certificate is left alone; a running cluster is so never met by an expired one
# as long as `up` is said once a month.
_RENEW_BEFORE = timedelta(days=30)
# Clocks of containers and machines that were just resumed may be behind.
_BACKDATE = timedelta(minutes=5)


@dataclass(frozen=True)
class Subject:
    """Who a certificate speaks for: the user's name, its groups, and, for a server, its names and addresses."""

    common_name: str
    groups: tuple[str, ...] = ()
    server: bool = False
    client: bool = True
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyPair:
    """A private key and its certificate, both PEM."""

    key: bytes
    certificate: bytes


def new_key() -> bytes:
    """A private key (NIST P-256, which all components take), PEM."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def public_key(key: bytes) -> bytes:
    """The public half of a private key, PEM."""
    return (
        _load(key)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def new_ca(name: str, now: datetime) -> KeyPair:
    """A certificate authority that can sign leaf certificates only."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key.public_key(), now, _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(_pem(key), certificate.public_bytes(serialization.Encoding.PEM))


def issue(ca: KeyPair, subject: Subject, now: datetime) -> KeyPair:
    """A certificate for `subject` with a new key, signed by `ca`."""
    issuer = x509.load_pem_x509_certificate(ca.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.groups]
    name = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)])
    builder = (
        _builder(name, issuer.subject, key.public_key(), now, _LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(subject)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(_load(ca.key).public_key()), critical=False)
    )
    if subject.names:
        alternative = x509.SubjectAlternativeName(_general_names(subject.names))
        builder = builder.add_extension(alternative, critical=False)
    certificate = builder.sign(_load(ca.key), hashes.SHA256())
    return KeyPair(_pem(key), certificate.public_bytes(serialization.Encoding.PEM))


def is_pair(pair: KeyPair) -> bool:
    """Whether both halves can be read and belong together (a crash between two writes may part them)."""
    try:
        return x509.load_pem_x509_certificate(pair.certificate).public_key() == _load(pair.key).public_key()
    except (ValueError, TypeError):
        return False


def will_do(pair: KeyPair, ca: KeyPair, subject: Subject, now: datetime) -> bool:
    """Whether the certificate belongs to its key, is signed by `ca`, says what it should, and stays valid.

    Anything that can't be read will not do.
    """
    if not is_pair(pair):
        return False
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.certificate))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _RENEW_BEFORE and _says(
        certificate, subject
    )


def _says(certificate: x509.Certificate, subject: Subject) -> bool:
    def values(oid: x509.ObjectIdentifier) -> set[str]:
        return {str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)}

    try:
        names = tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = ()
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    return (
        values(NameOID.COMMON_NAME) == {subject.common_name}
        and values(NameOID.ORGANIZATION_NAME) == set(subject.groups)
        and set(names) == set(_general_names(subject.names))
        and set(purposes) == set(_purposes(subject))
    )


def _purposes(subject: Subject) -> list[x509.ObjectIdentifier]:
    server = [ExtendedKeyUsageOID.SERVER_AUTH] if subject.server else []
    client = [ExtendedKeyUsageOID.CLIENT_AUTH] if subject.client else []
    return server + client


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    def general(name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ip_address(name))
        except ValueError:
            return x509.DNSName(name)

    return [general(name) for name in names]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _BACKDATE,
        not_valid_after=now + life,
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _load(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key, password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return loaded


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
