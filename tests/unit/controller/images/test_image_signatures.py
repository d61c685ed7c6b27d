"""What counts as a signature of an image, and what does not."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from signing import PrivateKey, bundle, pem_of, signed, statement

from claude_sandbox.controller.images.signatures import SIGNED, KeyRefusedError, is_bundle, is_statement, public_key

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
OURS = ec.generate_private_key(ec.SECP256R1())
THEIRS = ec.generate_private_key(ec.SECP256R1())
KEYS: list[PrivateKey] = [OURS, ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_a_signature_by_one_of_the_keys_counts(key: PrivateKey) -> None:
    keys = [public_key(pem_of(THEIRS)), public_key(pem_of(key))]
    assert is_statement(statement(DIGEST), signed(key, statement(DIGEST)), DIGEST, keys)
    assert is_bundle(bundle(key, DIGEST), DIGEST, SIGNED, keys)


@pytest.mark.parametrize(
    ("payload", "signature", "digest"),
    [
        pytest.param(statement(DIGEST), signed(THEIRS, statement(DIGEST)), DIGEST, id="another's key"),
        pytest.param(statement(OTHER), signed(OURS, statement(OTHER)), DIGEST, id="another image's"),
        pytest.param(statement(""), signed(OURS, statement("")), "", id="an empty digest"),
        pytest.param(statement(None), signed(OURS, statement(None)), DIGEST, id="no digest"),
        pytest.param(statement(DIGEST), signed(OURS, statement(OTHER)), DIGEST, id="signature of another statement"),
        pytest.param(statement(DIGEST), "", DIGEST, id="empty signature"),
        pytest.param(statement(DIGEST), "!", DIGEST, id="signature that is no base64"),
        pytest.param(
            statement(DIGEST, "atomic container signature"),
            signed(OURS, statement(DIGEST, "atomic container signature")),
            DIGEST,
            id="signature of another kind",
        ),
        pytest.param(b"[]", signed(OURS, b"[]"), DIGEST, id="no statement"),
        pytest.param(b"\xff", signed(OURS, b"\xff"), DIGEST, id="no text"),
    ],
)
def test_a_statement_that_is_no_signature_of_the_digest(payload: bytes, signature: str, digest: str) -> None:
    assert not is_statement(payload, signature, digest, [public_key(pem_of(OURS))])


def changed(document: bytes, **envelope: Any) -> bytes:
    found = json.loads(document)
    found["dsseEnvelope"] |= envelope
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(bundle(THEIRS, DIGEST), id="another's key"),
        pytest.param(bundle(OURS, OTHER), id="another image's"),
        pytest.param(bundle(OURS, ""), id="an empty digest"),
        pytest.param(bundle(OURS, DIGEST, "https://spdx.dev/Document"), id="an attestation of something else"),
        pytest.param(changed(bundle(OURS, DIGEST), signatures=[]), id="no signatures"),
        pytest.param(changed(bundle(OURS, DIGEST), signatures=None), id="null for signatures"),
        pytest.param(changed(bundle(OURS, DIGEST), payload=base64.b64encode(b"{}").decode()), id="another payload"),
        pytest.param(changed(bundle(OURS, DIGEST), payloadType="text/plain"), id="another type"),
        pytest.param(b"{}", id="nothing"),
        pytest.param(b"[" * 100_000, id="too deep"),
    ],
)
def test_a_bundle_that_is_no_signature_of_the_digest(document: bytes) -> None:
    assert not is_bundle(document, DIGEST, SIGNED, [public_key(pem_of(OURS))])


def test_without_keys_nothing_is_signed() -> None:
    assert not is_statement(statement(DIGEST), signed(OURS, statement(DIGEST)), DIGEST, [])
    assert not is_bundle(bundle(OURS, DIGEST), DIGEST, SIGNED, [])


@pytest.mark.parametrize(
    "pem",
    ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", pem_of(rsa.generate_private_key(65537, 1024))],  # noqa: S505
    ids=["nothing", "no key", "too short a key"],
)
def test_what_is_no_key_is_refused(pem: str) -> None:
    with pytest.raises(KeyRefusedError):
        public_key(pem)
