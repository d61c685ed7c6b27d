"""Whether somebody has signed a statement about an image's digest with one of some keys, as cosign does. Pure.

Two forms. The older: a manifest at the tag `sha256-HEX.sig`, each of whose layers is a statement ("simple signing")
with its signature as an annotation. The newer (cosign 3): an artifact that refers to the image, whose layer is a
Sigstore bundle with a DSSE envelope around an in-toto statement. Either way what is signed names a digest, and counts
only where that is exactly the one that is asked for: a signature of nothing, or of another image, is none.

An attestation is such an envelope too, with another predicate: in the older form one that is a layer itself, at the tag
`sha256-HEX.att`. Whoever is to have attested something has to have said just that; what is said in it is not judged.

What a transparency log says of a signature is not asked for: the key alone counts.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from claude_sandbox.controller.images.strangers import read

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
"""The media type of a layer that is a statement of the older form."""
SIGNATURE = "dev.cosignproject.cosign/signature"
"""Its annotation with the signature."""
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
"""The media type of a layer that is an attestation of the older form."""
PREDICATE = "dev.sigstore.bundle.predicateType"
"""The annotation by which what refers to an image says what is in it. Anybody may write it, so it only orders."""
BUNDLE = "application/vnd.dev.sigstore.bundle"
"""What the media type of a bundle begins with, whatever its version."""
IN_TOTO = "application/vnd.in-toto+json"
"""What is signed of the newer form, and of attestations."""
SIGNED = "https://sigstore.dev/cosign/sign/v1"
"""The predicate of a signature. An attestation of anything else (an SBOM, how it was built) is no signature."""
_LEAST_RSA = 2048
_MOST = 16
"""Signatures of one envelope that are tried."""


class KeyRefusedError(ValueError):
    """What was given is no public key that is taken; the message says why."""


def public_key(pem: str) -> PublicKey:
    """The key. Raises KeyRefusedError."""
    try:
        found = load_pem_public_key(pem.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefusedError("is no public key in PEM") from None
    if isinstance(found, rsa.RSAPublicKey) and found.key_size < _LEAST_RSA:
        raise KeyRefusedError(f"is an RSA key of fewer than {_LEAST_RSA} bits")
    if not isinstance(found, PublicKey):
        raise KeyRefusedError("is no key of ECDSA, Ed25519 or RSA")
    return found


def is_statement(payload: bytes, signature: str, digest: str, keys: Iterable[PublicKey]) -> bool:
    """Whether the older form's statement is one about this very digest, signed by one of the keys."""
    signed = _decoded(signature)
    # The signature first: what nobody has signed is not parsed.
    if signed is None or not any(_verifies(key, signed, payload) for key in keys):
        return False
    critical = _mapping(_mapping(read(payload)).get("critical"))
    named = _mapping(critical.get("image")).get("docker-manifest-digest")
    return critical.get("type") == "cosign container image signature" and _is_digest(named, digest)


def is_bundle(bundle: bytes, digest: str, predicate: str, keys: Iterable[PublicKey]) -> bool:
    """Whether the newer form's bundle is a statement of this predicate about this very digest, by one of the keys."""
    return _says(_mapping(_mapping(read(bundle)).get("dsseEnvelope")), digest, predicate, keys)


def is_envelope(envelope: bytes, digest: str, predicate: str, keys: Iterable[PublicKey]) -> bool:
    """The same of an attestation of the older form."""
    return _says(_mapping(read(envelope)), digest, predicate, keys)


def says_to_state(bundle: bytes, digest: str, predicate: str) -> bool:
    """Whether a bundle would be a statement of this predicate about this very digest, were it signed by who may."""
    payload = _decoded(_mapping(_mapping(read(bundle)).get("dsseEnvelope")).get("payload"))
    return payload is not None and states(payload, digest, predicate)


def _says(envelope: Mapping[str, Any], digest: str, predicate: str, keys: Iterable[PublicKey]) -> bool:
    payload = _decoded(envelope.get("payload"))
    if payload is None or envelope.get("payloadType") != IN_TOTO:
        return False
    # Pre-authentication encoding (github.com/secure-systems-lab/dsse).
    said = b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)
    found = envelope.get("signatures")
    signatures = [_decoded(_mapping(one).get("sig")) for one in found[:_MOST]] if isinstance(found, list) else []
    if not any(_verifies(key, one, said) for one in signatures if one is not None for key in keys):
        return False
    return states(payload, digest, predicate)


def states(payload: bytes, digest: str, predicate: str) -> bool:
    """Whether an in-toto statement, which somebody signed, is one of this predicate about this very digest."""
    statement = _mapping(read(payload))
    subjects = statement.get("subject")
    if statement.get("predicateType") != predicate or not isinstance(subjects, list):
        return False
    # Of several subjects one has to be the image; the others are the signer's own business.
    named = (_mapping(_mapping(one).get("digest")).get("sha256") for one in subjects)
    return any(isinstance(one, str) and _is_digest(f"sha256:{one}", digest) for one in named)


def _is_digest(named: object, digest: str) -> bool:
    # An empty digest would be equal to a statement's empty one.
    return bool(digest) and named == digest


def _verifies(key: PublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, payload, ec.ECDSA(_hash_for(key)))
            case ed25519.Ed25519PublicKey():
                key.verify(signature, payload)
            case rsa.RSAPublicKey():
                key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _hash_for(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    return {384: hashes.SHA384(), 521: hashes.SHA512()}.get(key.curve.key_size, hashes.SHA256())


def _decoded(text: object) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
