"""Verifies projected ServiceAccount tokens against the cluster's keys. No I/O but the library's look at the clock.

A pod's token is a JWT (RFC 7519) that the API server signed; its keys are at `/openid/v1/jwks`, its name in the claim
`iss` (https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery).
Whoever can verify a signature can't tell with it whether the pod still runs: that is for who compares the pod's UID.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

ALGORITHMS = ("RS256", "ES256", "ES384", "ES512")
"""With which kube-apiserver signs (`--service-account-signing-key-file` takes RSA and ECDSA keys). None is symmetric:
a public key is no secret to sign with."""
SKEW = 30.0
"""Seconds by which the API server's clock may be ahead of this one (it gives its own verifier a minute)."""
_MAX_TOKEN = 8 * 1024
_MAX_KEYS = 64
_REQUIRED = ("iss", "aud", "exp", "nbf", "sub", "kubernetes.io")


class TokenError(Exception):
    """The token is not taken. `reason` is one word of a closed set, and has nothing of the token in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownKeyError(TokenError):
    """No key has this identifier: there may be a newer one."""

    def __init__(self) -> None:
        super().__init__("UnknownKey")


@dataclass(frozen=True)
class Keys:
    """What tokens are verified with: the issuer's name, and its public keys by their identifiers (`kid`). `text`: what
    it was read from; two are the same when that is."""

    issuer: str
    by_id: Mapping[str, jwt.PyJWK] = field(compare=False, hash=False)
    text: str = ""


@dataclass(frozen=True)
class BoundPod:
    """Whose token it is. `expires`: seconds since the epoch."""

    namespace: str
    name: str
    uid: str
    service_account: str
    expires: float


def read_keys(discovery: Any, key_set: Any) -> Keys:
    """The documents of `/.well-known/openid-configuration` and `/openid/v1/jwks`. Raises ValueError.

    Keys of other kinds, and for other uses, are left out.
    """
    issuer = discovery.get("issuer") if isinstance(discovery, dict) else None
    listed = key_set.get("keys") if isinstance(key_set, dict) else None
    if not isinstance(issuer, str) or not issuer:
        raise ValueError("the API server's discovery document names no issuer")
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise ValueError(f"the API server's key set has no list of keys, or more than {_MAX_KEYS}")
    found = {}
    for one in listed:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig":
            continue
        kid = one.get("kid")
        if not isinstance(kid, str) or not kid or one.get("kty") not in ("RSA", "EC"):
            continue
        try:
            key = jwt.PyJWK(one)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in ALGORITHMS:
            found[kid] = key
    return Keys(issuer, found, json.dumps(listed, sort_keys=True))


def verify(token: str, keys: Keys, audience: str, now: float) -> BoundPod:
    """Whose token it is. `now`: seconds since the epoch.

    Raises UnknownKeyError where another look at the keys may help, else TokenError.
    """
    if len(token) > _MAX_TOKEN or token.count(".") != 2:
        raise TokenError("NoToken")
    claims = _signed(token, keys, audience)
    # Of several audiences, another could pass it on to this one.
    if claims["aud"] not in (audience, [audience]):
        raise TokenError("Audience")
    pod = _bound(claims)
    if pod.expires <= now:
        raise TokenError("Expired")
    return pod


def _signed(token: str, keys: Keys, audience: str) -> dict[str, Any]:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenError("NoToken") from None
    # `none`, and HMAC with the public key for its secret, are what readers of JWTs fell for.
    if header.get("alg") not in ALGORITHMS:
        raise TokenError("Algorithm")
    kid = header.get("kid")
    if not isinstance(kid, str) or kid not in keys.by_id:
        raise UnknownKeyError
    key = keys.by_id[kid]
    try:
        # The algorithm is the key's own, whatever the token says.
        return jwt.decode(
            token, key, algorithms=[key.algorithm_name], audience=audience, issuer=keys.issuer, leeway=SKEW,
            options={"require": list(_REQUIRED)},
        )  # fmt: skip
    except jwt.PyJWTError as error:
        raise TokenError(_reason(error)) from None
    except (ValueError, TypeError, RecursionError):
        raise TokenError("Claims") from None


def _reason(error: jwt.PyJWTError) -> str:
    reasons: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
        (jwt.ExpiredSignatureError, "Expired"),
        (jwt.ImmatureSignatureError, "NotYetValid"),
        (jwt.InvalidAudienceError, "Audience"),
        (jwt.InvalidIssuerError, "Issuer"),
        (jwt.InvalidAlgorithmError, "Algorithm"),
        (jwt.InvalidSignatureError, "Signature"),
        (jwt.MissingRequiredClaimError, "Claims"),
    )
    return next((reason for kind, reason in reasons if isinstance(error, kind)), "NoToken")


def _bound(claims: Mapping[str, Any]) -> BoundPod:
    """The pod that the token is bound to. Raises TokenError: tokens that are bound to none outlive every pod."""
    inner, expires = claims["kubernetes.io"], claims["exp"]
    try:
        namespace, pod, account = inner["namespace"], inner["pod"], inner["serviceaccount"]["name"]
        texts = (namespace, pod["name"], pod["uid"], account)
    except (KeyError, TypeError):
        raise TokenError("NotBound") from None
    if not all(isinstance(text, str) and text for text in texts) or isinstance(expires, bool):
        raise TokenError("Claims")
    # The same said twice, by the API server itself: where the two differ, one of them is not what it is taken for.
    if not isinstance(expires, int | float) or claims["sub"] != f"system:serviceaccount:{namespace}:{account}":
        raise TokenError("Claims")
    return BoundPod(*texts, expires=float(expires))
