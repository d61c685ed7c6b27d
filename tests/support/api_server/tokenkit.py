"""ServiceAccount tokens as kube-apiserver makes them, by keys of the tests' own."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Self

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = "claude-sandbox-gateway"
DISCOVERY = {"issuer": ISSUER}


@dataclass(frozen=True)
class Signer:
    """A key of a cluster."""

    kid: str = "key-1"
    algorithm: str = "RS256"
    private: Any = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def jwk(self) -> dict[str, Any]:
        make = RSAAlgorithm if self.algorithm.startswith("RS") else ECAlgorithm
        found: dict[str, Any] = make.to_jwk(self.private.public_key(), as_dict=True)
        return {**found, "use": "sig", "kid": self.kid, "alg": self.algorithm}

    def token(self, claims: dict[str, Any], **header: Any) -> str:
        return jwt.encode(claims, self.private, self.algorithm, {"kid": self.kid, **header})


def elliptic(kid: str = "key-ec") -> Signer:
    return Signer(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))


def stop_clock(patch: pytest.MonkeyPatch, now: float) -> None:
    """Have tokens judged as of `now`: a run of all tests takes longer than one is good for."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(now, tz)

    patch.setattr("jwt.api_jwt.datetime", Stopped)


def claims(now: float, *, uid: str = "pod-uid-1", sandbox: str = "work", **changed: Any) -> dict[str, Any]:
    """The claims of the token of a sandbox's pod in namespace team-a; None takes one away."""
    account = f"sandbox-{sandbox}"
    found = {
        "iss": ISSUER, "aud": [AUDIENCE], "sub": f"system:serviceaccount:team-a:{account}", "jti": "j",
        "iat": int(now), "nbf": int(now), "exp": int(now) + 3600,
        "kubernetes.io": {
            "namespace": "team-a", "pod": {"name": account, "uid": uid}, "warnafter": int(now) + 3607,
            "serviceaccount": {"name": account, "uid": "account-uid"}, "node": {"name": "n", "uid": "node-uid"},
        },
        **changed,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def unsigned(token: str, **header: Any) -> str:
    """The same claims with a header of one's own, and no signature."""
    return f"{_part({'typ': 'JWT', **header})}.{token.split('.')[1]}."


def signed_with_public_key(token: str, public: bytes, kid: str) -> str:
    """The same claims, HS256 with the public key as the secret."""
    body = f"{_part({'alg': 'HS256', 'kid': kid})}.{token.split('.')[1]}"
    signature = hmac.new(public, body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
