"""Which ServiceAccount tokens are taken, and whose they are said to be."""

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from tokenkit import (
    AUDIENCE,
    DISCOVERY,
    ISSUER,
    Signer,
    claims,
    elliptic,
    signed_with_public_key,
    stop_clock,
    unsigned,
)

from claude_sandbox.gateway.kubernetes.tokens import BoundPod, Keys, TokenError, UnknownKeyError, read_keys, verify

NOW = time.time()
SIGNER = Signer()
OTHER = Signer("key-2")
CURVE = elliptic()
KEYS = read_keys(DISCOVERY, {"keys": [SIGNER.jwk(), CURVE.jwk()]})
GOOD = SIGNER.token(claims(NOW))


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_clock(monkeypatch, NOW)


def refused(token: str, now: float = NOW) -> str:
    with pytest.raises(TokenError) as error:
        verify(token, KEYS, AUDIENCE, now)
    assert str(error.value) == error.value.reason
    return error.value.reason


@pytest.mark.parametrize("signer", [SIGNER, CURVE], ids=["RSA", "ECDSA"])
def test_a_pods_token_names_the_pod(signer: Signer) -> None:
    found = verify(signer.token(claims(NOW)), KEYS, AUDIENCE, NOW)
    assert found == BoundPod("team-a", "sandbox-work", "pod-uid-1", "sandbox-work", float(int(NOW) + 3600))


BOUND = claims(NOW)["kubernetes.io"]
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("Expired", {"exp": int(NOW) - 60}),
    ("Expired", {"exp": int(NOW) - 1}),
    ("NotYetValid", {"nbf": int(NOW) + 86400}),
    ("Audience", {"aud": ["https://kubernetes.default.svc"]}),
    ("Audience", {"aud": [AUDIENCE, "https://kubernetes.default.svc"]}),
    ("Audience", {"aud": [f"{AUDIENCE}x"]}),
    ("Claims", {"aud": []}),
    ("Issuer", {"iss": "https://other.example.org"}),
    ("Claims", {"aud": None}),
    ("Claims", {"exp": None}),
    ("Claims", {"nbf": None}),
    ("Claims", {"iss": None}),
    ("Claims", {"kubernetes.io": None}),
    ("Claims", {"sub": "system:serviceaccount:team-b:sandbox-work"}),
    ("NotBound", {"kubernetes.io": {name: value for name, value in BOUND.items() if name != "pod"}}),
    ("NotBound", {"kubernetes.io": []}),
    ("Claims", {"kubernetes.io": {**BOUND, "pod": {"name": "sandbox-work", "uid": ""}}}),
    ("Claims", {"kubernetes.io": {**BOUND, "pod": {"name": "sandbox-work", "uid": ["pod-uid-1"]}}}),
]


@pytest.mark.parametrize(("reason", "changed"), WRONG, ids=[f"{reason} {list(one)}" for reason, one in WRONG])
def test_a_token_of_the_cluster_with_wrong_claims_is_refused(reason: str, changed: dict[str, Any]) -> None:
    assert refused(SIGNER.token(claims(NOW, **changed))) == reason


def test_a_token_of_no_key_of_the_cluster_is_refused() -> None:
    public = SIGNER.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert refused(OTHER.token(claims(NOW), kid="key-1")) == "Signature"
    assert refused(unsigned(GOOD, alg="none")) == "Algorithm"
    assert refused(unsigned(GOOD, alg="none", kid="key-1")) == "Algorithm"
    assert refused(unsigned(GOOD, alg="RS256", kid="key-1")) == "Signature"
    assert refused(signed_with_public_key(GOOD, public, "key-1")) == "Algorithm"
    # The algorithm is the key's, not the token's.
    assert refused(unsigned(GOOD, alg="ES256", kid="key-1")) == "Algorithm"
    head, body, signature = GOOD.split(".")
    assert refused(f"{head}.{body[:-4]}AAAA.{signature}") in ("Signature", "NoToken")
    with pytest.raises(UnknownKeyError):
        verify(OTHER.token(claims(NOW)), KEYS, AUDIENCE, NOW)
    with pytest.raises(UnknownKeyError):
        verify(unsigned(GOOD, alg="RS256"), KEYS, AUDIENCE, NOW)


# Named: a token is another in each run, and those that share the tests have to call them the same.
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(".", id="a dot"),
        pytest.param("..", id="dots"),
        pytest.param("a.b", id="two parts"),
        pytest.param("a.b.c", id="no JSON"),
        pytest.param("é.é.é", id="no ASCII"),
        pytest.param(f"{'a' * 9000}.b.c", id="too long"),
        pytest.param(f"{GOOD}.x", id="a fourth part"),
        pytest.param("\udcff.a.b", id="no text"),
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refused(text) == "NoToken"


def test_a_token_outlives_its_end_by_nothing() -> None:
    end = int(NOW) + 3600
    assert verify(GOOD, KEYS, AUDIENCE, end - 0.5).expires == end
    assert refused(GOOD, end) == "Expired"


def test_of_a_key_set_only_keys_that_can_sign_such_tokens_are_taken() -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"}
    strange = [secret, {**OTHER.jwk(), "use": "enc"}, {**OTHER.jwk(), "kid": ""}, {**OTHER.jwk(), "alg": "PS256"}, 7]
    broken = {**OTHER.jwk(), "n": "!"}
    assert set(read_keys(DISCOVERY, {"keys": [*strange, broken, SIGNER.jwk()]}).by_id) == {"key-1"}
    assert read_keys(DISCOVERY, {"keys": []}) == Keys(ISSUER, {}, "[]")
    for discovery, key_set in (({}, {"keys": []}), (DISCOVERY, {}), (DISCOVERY, {"keys": [{}] * 65}), ([], [])):
        with pytest.raises(ValueError, match="API server"):
            read_keys(discovery, key_set)
