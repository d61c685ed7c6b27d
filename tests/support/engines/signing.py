"""Signatures of images, of each form that cosign makes, and of forms that it would not make."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from image_registry import MANIFEST, ImageRegistry, digest_of

from claude_sandbox.controller.images import signatures

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
IN_TOTO = "application/vnd.in-toto+json"


def pem_of(key: PrivateKey) -> str:
    """The public key."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def signed(key: PrivateKey, content: bytes) -> str:
    match key:
        case ec.EllipticCurvePrivateKey():
            found = key.sign(content, ec.ECDSA(hashes.SHA256()))
        case ed25519.Ed25519PrivateKey():
            found = key.sign(content)
        case rsa.RSAPrivateKey():
            found = key.sign(content, padding.PKCS1v15(), hashes.SHA256())
    return base64.b64encode(found).decode()


def statement(digest: Any, kind: str = "cosign container image signature") -> bytes:
    """What the older form signs."""
    critical = {"identity": {"docker-reference": "x"}, "image": {"docker-manifest-digest": digest}, "type": kind}
    return json.dumps({"critical": critical, "optional": None}).encode()


def envelope(key: PrivateKey, digest: str, predicate: str) -> dict[str, Any]:
    """A signed in-toto statement about an image's digest."""
    said = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": predicate,
        "predicate": {},
    }
    payload = json.dumps(said).encode()
    around = f"DSSEv1 {len(IN_TOTO)} {IN_TOTO} {len(payload)} ".encode() + payload
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": IN_TOTO,
        "signatures": [{"sig": signed(key, around)}],
    }


def bundle(key: PrivateKey, digest: str, predicate: str = "https://sigstore.dev/cosign/sign/v1") -> bytes:
    """The newer form."""
    found = envelope(key, digest, predicate)
    return json.dumps({"mediaType": f"{signatures.BUNDLE}.v0.3+json", "dsseEnvelope": found}).encode()


def attest(registry: ImageRegistry, repository: str, digest: str, key: PrivateKey, *predicates: str) -> None:
    """Attest things of it as cosign 2 did, in place of what was attested before."""
    layers = []
    for one in predicates:
        content = json.dumps(envelope(key, digest, one)).encode()
        registry.blobs[digest_of(content)] = content
        layers.append({"mediaType": signatures.ENVELOPE, "digest": digest_of(content), "size": len(content)})
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers}
    registry.put_manifest(repository, f"{digest.replace(':', '-')}.att", manifest)


def put_statement(registry: ImageRegistry, repository: str, digest: str, payload: bytes, signature: str) -> None:
    """Have the registry say of an image's digest that this is a statement about it, and its signature."""
    registry.blobs[digest_of(payload)] = payload
    layer = {
        "mediaType": signatures.SIMPLE_SIGNING,
        "digest": digest_of(payload),
        "size": len(payload),
        "annotations": {signatures.SIGNATURE: signature},
    }
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer]}
    registry.put_manifest(repository, f"{digest.replace(':', '-')}.sig", manifest)


def sign(registry: ImageRegistry, repository: str, digest: str, key: PrivateKey) -> None:
    """Sign it as cosign 2 did."""
    payload = statement(digest)
    put_statement(registry, repository, digest, payload, signed(key, payload))


def put_bundle(registry: ImageRegistry, repository: str, digest: str, content: bytes) -> None:
    """Have the registry say that this bundle refers to an image's digest, as cosign 3 has it do."""
    put_bundles(registry, repository, digest, content)


def put_bundles(registry: ImageRegistry, repository: str, digest: str, *contents: bytes) -> None:
    """Have it say so of these bundles, and of no others."""
    media, described = f"{signatures.BUNDLE}.v0.3+json", []
    for number, content in enumerate(contents):
        registry.blobs[digest_of(content)] = content
        layer = {"mediaType": media, "digest": digest_of(content), "size": len(content)}
        artifact = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": media, "layers": [layer]}
        found = registry.put_manifest(repository, f"artifact-{number}-{digest[-8:]}", artifact)
        described.append({"mediaType": MANIFEST, "digest": found, "size": 1, "artifactType": media})
    index = "application/vnd.oci.image.index.v1+json"
    registry.put_manifest(
        repository, digest.replace(":", "-"), {"schemaVersion": 2, "mediaType": index, "manifests": described}
    )
