"""Tokens that are no sandbox's, or not this gateway's to take, at the broker and at the proxy; all but the forged ones
were signed by the cluster's own API server.

Whoever has some token of the cluster wants another sandbox's key, models and destinations: with a token of a pod that
is no sandbox's (anybody may make pods in some namespace), of a pod in the place of a sandbox's, of another namespace's
sandbox, of no pod at all, for another audience, or of one that has ended; or with a token of its own making. A check
that verifies the signature alone (`signature_only`, as people write it) takes each of the first kind, in the same
test. What closes them: the claims and the algorithms (`gateway/kubernetes/tokens.py`), and that the pod has to be the
one that the sandbox's status names, by name, UID, namespace and ServiceAccount (`gateway/kubernetes/identities.py`).
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from gateway_place import Place, ask, place, ready
from gatewaykit import Gateway, Provider, basic, provider
from tokenkit import AUDIENCE, Signer, elliptic, signed_with_public_key, unsigned

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane


@dataclass(frozen=True)
class Lab:
    """A gateway with one sandbox, `work`, whose pod's token is `good`; the cluster's own signing key is `signer`."""

    place: Place
    gateway: Gateway
    api: Provider
    signer: Signer
    good: str
    other_namespace: str

    def signature_only(self, token: str) -> bool:
        """Whether a check takes it that verifies the signature and nothing else."""
        key = jwt.PyJWK(self.signer.jwk())
        options: Any = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
        return bool(jwt.decode(token, key, algorithms=["ES256"], options=options))

    def forged(self, **changed: Any) -> str:
        """The good token with claims changed, signed with the cluster's own key: only a thief of it could."""
        claims = jwt.decode(self.good, options={"verify_signature": False})
        return self.signer.token({**claims, **changed})


@pytest.fixture
async def lab(control_plane: Cluster, tmp_path: Path) -> AsyncIterator[Lab]:
    async with place(control_plane, tmp_path) as here, provider() as api:
        await here.make()
        await here.secret()
        await here.sandbox("work")
        other = f"{here.namespace}-other"
        await here.api.create(r.NAMESPACES, {"metadata": {"name": other}})
        private = serialization.load_pem_private_key(
            (control_plane.layout.pki / "service-account.key").read_bytes(), None
        )
        with here.gateway(api.url) as gateway:
            await ready(gateway)
            good = await here.token("sandbox-work")
            signer = Signer(jwt.get_unverified_header(good)["kid"], "ES256", private)
            yield Lab(here, gateway, api, signer, good, other)


async def _no_sandboxs_pod(lab: Lab) -> str:
    await lab.place.account("mine")
    await lab.place.pod("mine")
    return await lab.place.token("mine")


async def _sandboxs_account_in_another_pod(lab: Lab) -> str:
    await lab.place.pod("with-its-account", account="sandbox-work")
    return await lab.place.token("sandbox-work", pod="with-its-account")


async def _other_account_in_the_sandboxs_pod(lab: Lab) -> str:
    """The status names a pod of the right name that somebody made with an account of their own."""
    await lab.place.api.create(
        r.SANDBOXES,
        {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": "second"},
         "spec": {"credentials": {"apiKeySecretRef": {"name": "anthropic-api-key"}}}},
        lab.place.namespace,
    )  # fmt: skip
    await lab.place.report("second", await lab.place.pod("sandbox-second", account="mine"))
    await asyncio.sleep(1.0)  # by then the gateway has heard of it
    return await lab.place.token("mine", pod="sandbox-second")


async def _pod_made_anew(lab: Lab) -> str:
    """The sandbox's pod went, and one of its name and account came that the operator did not make."""
    await lab.place.api.delete(r.PODS, "sandbox-work", lab.place.namespace)
    async with asyncio.timeout(30):
        while "sandbox-work" in await _pods(lab):  # noqa: ASYNC110  # the server's, not this loop's
            await asyncio.sleep(0.1)
    await lab.place.pod("sandbox-work")
    return await lab.place.token("sandbox-work")


async def _pods(lab: Lab) -> set[str]:
    return {one["metadata"]["name"] for one in (await lab.place.api.list(r.PODS, lab.place.namespace)).items}


async def _other_namespace(lab: Lab) -> str:
    await lab.place.account("sandbox-work", lab.other_namespace)
    await lab.place.pod("sandbox-work", namespace=lab.other_namespace)
    return await lab.place.token("sandbox-work", namespace=lab.other_namespace)


async def _for_the_api_server(lab: Lab) -> str:
    return await lab.place.token("sandbox-work", audience=None)


async def _for_others(lab: Lab) -> str:
    return await lab.place.token("sandbox-work", audience="vault")


async def _of_no_pod(lab: Lab) -> str:
    return await lab.place.token("sandbox-work", pod=None)


async def _ended(lab: Lab) -> str:
    return lab.forged(exp=int(time.time()) - 1)


async def _to_come(lab: Lab) -> str:
    return lab.forged(nbf=int(time.time()) + 86400)


async def _other_issuer(lab: Lab) -> str:
    return lab.forged(iss="https://other.example.org")


async def _several_audiences(lab: Lab) -> str:
    return lab.forged(aud=[AUDIENCE, "vault"])


Make = Callable[[Lab], Awaitable[str]]
SIGNED: dict[str, tuple[str, Make]] = {
    "a pod of no sandbox": ("NoSandboxsPod", _no_sandboxs_pod),
    "the sandbox's account in another pod": ("NoSandboxsPod", _sandboxs_account_in_another_pod),
    "another account in the pod that the status names": ("NoSandboxsPod", _other_account_in_the_sandboxs_pod),
    "a sandbox of the same name elsewhere": ("OtherNamespace", _other_namespace),
    "for the API server": ("Audience", _for_the_api_server),
    "for somebody else": ("Audience", _for_others),
    "for this gateway and somebody else": ("Audience", _several_audiences),
    "of no pod": ("NotBound", _of_no_pod),
    "one that has ended": ("Expired", _ended),
    "one that is to come": ("NotYetValid", _to_come),
    "of another issuer": ("Issuer", _other_issuer),
    # The last, since it takes the sandbox's pod away.
    "a pod in the place of the sandbox's": ("NoSandboxsPod", _pod_made_anew),
}


async def test_tokens_that_the_cluster_signed_and_that_are_no_sandboxs(lab: Lab) -> None:
    assert (await ask(lab.gateway, lab.good))[0] == 200
    await lab.gateway.audited(1)
    lab.api.seen.clear()
    for name, (reason, make) in SIGNED.items():
        token = await make(lab)
        assert lab.signature_only(token), f"{name}: as an attack it does not work"
        await _refused(lab, token, reason, name)


async def test_tokens_that_the_cluster_did_not_sign(lab: Lab) -> None:
    kid = lab.signer.kid
    public = lab.signer.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims = jwt.decode(lab.good, options={"verify_signature": False})
    head, body, signature = lab.good.split(".")
    _, other, _ = (await _for_others(lab)).split(".")
    own = elliptic("my-key")
    forged = {
        "alg none": (unsigned(lab.good, alg="none", kid=kid), "Algorithm"),
        "alg None": (unsigned(lab.good, alg="None", kid=kid), "Algorithm"),
        "no signature": (f"{head}.{body}.", "Signature"),
        "the signature of another token": (f"{head}.{other}.{signature}", "Signature"),
        "HS256 with the public key": (signed_with_public_key(lab.good, public, kid), "Algorithm"),
        "a key of the attacker's under the cluster's name": (own.token(claims, kid=kid), "Signature"),
        "a key of the attacker's": (own.token(claims), "UnknownKey"),
        "a key in the header": (own.token(claims, kid=kid, jwk=own.jwk()), "Signature"),
        "a key to be fetched": (own.token(claims, kid=kid, jku=f"{lab.api.url}/keys"), "Signature"),
        "a path as the key's name": (own.token(claims, kid="../../dev/null"), "UnknownKey"),
    }
    for name, (token, reason) in forged.items():
        # As an attack it works against who believes what the token says of itself.
        assert jwt.decode(token, options={"verify_signature": False})["sub"].endswith(":sandbox-work"), name
        await _refused(lab, token, reason, name)
    assert (await ask(lab.gateway, lab.good))[0] == 200


async def _refused(lab: Lab, token: str, reason: str, name: str) -> None:
    before = len(lab.gateway.audit())
    assert await ask(lab.gateway, token) == (401, f"the gateway does not know this identity ({reason})"), name
    host, _, port = lab.gateway.proxy.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"CONNECT github.com:443 HTTP/1.1\r\nhost: github.com:443\r\n"
                 f"proxy-authorization: {basic(token)}\r\n\r\n".encode())  # fmt: skip
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.transport.abort()
    assert answer.startswith(b"HTTP/1.1 407 "), name
    assert lab.api.seen == [], name
    lines = (await lab.gateway.audited(before + 2))[before:]
    assert [(line["verdict"], line["rule"], line.get("sandbox")) for line in lines] == [
        ("Refused", f"identity: {reason}", None)
    ] * 2, name
    assert token not in json.dumps(lines)
    assert base64.b64encode(f"sandbox:{token}".encode()).decode() not in lab.gateway.output()
