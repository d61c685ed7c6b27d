"""A Sigstore of a test's own: an authority that gives certificates, its log, and the log of signatures (Rekor).

Each has a key and no server: what they would answer is made here, as their specifications say (RFC 6962 for the
certificates' log, github.com/transparency-dev/formats for checkpoints). `trusted_root` tells of all three.
"""

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from signing import envelope

from claude_sandbox.controller.images import signatures

SIGNED = signatures.SIGNED
_SCTS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUER, _ISSUER_V2 = (x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}") for number in (1, 8))
_LOG = "log.example"


def _new() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_der(key)).digest()


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _sign(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True)
class Sigstore:
    """Replace a key to have one part be another's (`replace`)."""

    authority: ec.EllipticCurvePrivateKey = field(default_factory=_new)
    certificates_log: ec.EllipticCurvePrivateKey = field(default_factory=_new)
    log: ec.EllipticCurvePrivateKey = field(default_factory=_new)
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def trusted_root(self) -> str:
        """As a trusted_root.json."""
        since = {"start": (self.now - timedelta(days=365)).isoformat().replace("+00:00", "Z")}

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            public = {"rawBytes": _b64(_der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": since}
            about = {"baseUrl": f"https://{_LOG}", "hashAlgorithm": "SHA2_256"}
            return about | {"publicKey": public, "logId": {"keyId": _b64(_id(key))}}

        root = self._root().public_bytes(Encoding.DER)
        authority = {
            "subject": {"organization": "example", "commonName": "authority"},
            "uri": "https://authority.example",
            "certChain": {"certificates": [{"rawBytes": _b64(root)}]},
            "validFor": since,
        }
        found = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log)],
            "certificateAuthorities": [authority],
            "ctlogs": [log(self.certificates_log)],
            "timestampAuthorities": [],
        }
        return json.dumps(found)

    def sign(
        self, digest: str, issuer: str, subject: str, *, predicate: str = SIGNED, after: timedelta = timedelta(0)
    ) -> bytes:
        """The bundle of a signature. `after`: when it was made, after the certificate."""
        key = _new()
        certificate = self._certificate(key, issuer, subject)
        signed = envelope(key, digest, predicate)
        pem = certificate.public_bytes(Encoding.PEM)
        payload = base64.b64decode(signed["payload"])
        body = json.dumps(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(b"whatever").hexdigest()},
                    "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                    "signatures": [{"signature": signed["signatures"][0]["sig"], "verifier": _b64(pem)}],
                },
            }
        ).encode()
        material = {
            "certificate": {"rawBytes": _b64(certificate.public_bytes(Encoding.DER))},
            "tlogEntries": [self._entry(body, int((self.now + after).timestamp()))],
        }
        media = f"{signatures.BUNDLE}.v0.3+json"
        return json.dumps({"mediaType": media, "verificationMaterial": material, "dsseEnvelope": signed}).encode()

    def _entry(self, body: bytes, when: int) -> dict[str, Any]:
        """Of a log that has nothing else."""
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"{_LOG} - 1\n1\n{_b64(root)}\n"
        checkpoint = f"{note}\n\u2014 {_LOG} {_b64(_id(self.log)[:4] + _sign(self.log, note.encode()))}\n"
        said = {"body": _b64(body), "integratedTime": when, "logID": _id(self.log).hex(), "logIndex": 0}
        promise = _sign(self.log, json.dumps(said, separators=(",", ":"), sort_keys=True).encode())
        return {
            "logIndex": "0",
            "logId": {"keyId": _b64(_id(self.log))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(when),
            "inclusionPromise": {"signedEntryTimestamp": _b64(promise)},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": _b64(body),
        }

    def _root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        builder = x509.CertificateBuilder(
            issuer_name=name, subject_name=name, public_key=self.authority.public_key(), serial_number=1,
            not_valid_before=self.now - timedelta(days=365), not_valid_after=self.now + timedelta(days=365),
        )  # fmt: skip
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.authority.public_key())
        return (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(self.authority, hashes.SHA256())
        )

    def _certificate(self, key: ec.EllipticCurvePrivateKey, issuer: str, subject: str) -> x509.Certificate:
        name: x509.GeneralName = x509.RFC822Name(subject)
        if "://" in subject:
            name = x509.UniformResourceIdentifier(subject)
        builder = (
            x509.CertificateBuilder(
                issuer_name=self._root().subject, subject_name=x509.Name([]), public_key=key.public_key(),
                serial_number=x509.random_serial_number(),
                not_valid_before=self.now - timedelta(minutes=5), not_valid_after=self.now + timedelta(minutes=5),
            )
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key()), critical=False
            )
            .add_extension(x509.UnrecognizedExtension(_ISSUER, issuer.encode()), critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V2, _tlv(0x0C, issuer.encode())), critical=False)
        )  # fmt: skip
        # What the log signs is the certificate but for the log's own word.
        first = _with(builder, b"").sign(self.authority, hashes.SHA256())
        return _with(builder, self._scts(first.tbs_precertificate_bytes)).sign(self.authority, hashes.SHA256())

    def _scts(self, certificate: bytes) -> bytes:
        when = int(self.now.timestamp() * 1000)
        said = struct.pack("!BBQH", 0, 0, when, 1) + _id(self.authority)
        said += len(certificate).to_bytes(3, "big") + certificate + struct.pack("!H", 0)
        signature = _sign(self.certificates_log, said)
        one = b"\0" + _id(self.certificates_log) + struct.pack("!QHBBH", when, 0, 4, 3, len(signature)) + signature
        return struct.pack("!HH", len(one) + 2, len(one)) + one


def _with(builder: x509.CertificateBuilder, scts: bytes) -> x509.CertificateBuilder:
    return builder.add_extension(x509.UnrecognizedExtension(_SCTS, _tlv(0x04, scts)), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _tlv(tag: int, content: bytes) -> bytes:
    """As DER."""
    length = bytes([len(content)]) if len(content) < 128 else b"\x81" + bytes([len(content)])
    return bytes([tag]) + length + content
