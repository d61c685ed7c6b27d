"""Signatures without keys: who signed is told by a certificate, and that by a trust root of the policy's."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from gate_place import GatePlace, refused
from image_registry import ImageRegistry
from own_sigstore import Sigstore
from signing import bundle, pem_of, put_bundle, put_bundles

from claude_sandbox.api.validate import InvalidSpec, parse_image_policy_spec
from claude_sandbox.controller.images.keyless import Identity, TrustRootError, check_trust_root, is_signed_by
from claude_sandbox.controller.images.signatures import SIGNED

ISSUER, SUBJECT = (
    "https://token.example",
    "https://github.com/acme/agents/.github/workflows/release.yaml@refs/heads/main",
)
WHO = (Identity(ISSUER, SUBJECT),)
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
OURS = Sigstore()


def good(document: bytes, *who: Identity, digest: str = DIGEST, root: Sigstore = OURS) -> bool:
    return is_signed_by(document, digest, SIGNED, who or WHO, root.trusted_root)


@pytest.mark.parametrize(
    "who",
    [
        Identity(ISSUER, SUBJECT),
        Identity(ISSUER, SUBJECT.partition("@")[0] + "@*"),
        Identity(ISSUER, "https://github.com/acme/*"),
    ],
)
def test_who_may_sign_has_signed(who: Identity) -> None:
    assert good(OURS.sign(DIGEST, ISSUER, SUBJECT), who)
    assert good(OURS.sign(DIGEST, ISSUER, SUBJECT), Identity(ISSUER, "somebody else"), who)


def test_an_address_of_mail_is_an_identity() -> None:
    assert good(OURS.sign(DIGEST, ISSUER, "alice@example.org"), Identity(ISSUER, "alice@example.org"))


@pytest.mark.parametrize(
    "who",
    [
        Identity("https://other.example", SUBJECT),
        Identity(ISSUER, SUBJECT[:-1]),
        Identity(ISSUER, SUBJECT + "x"),
        Identity(ISSUER, "https://github.com/acme-evil/*"),
        Identity(ISSUER, "github.com/acme/*"),
    ],
)
def test_nobody_else_has_signed(who: Identity) -> None:
    assert not good(OURS.sign(DIGEST, ISSUER, SUBJECT), who)


def test_each_of_several_has_an_issuer_of_its_own() -> None:
    """The right name by another issuer, and another name by the right one."""
    both = (Identity(ISSUER, SUBJECT), Identity("https://other.example", "alice@example.org"))
    assert not good(OURS.sign(DIGEST, "https://other.example", SUBJECT), *both)
    assert not good(OURS.sign(DIGEST, ISSUER, "alice@example.org"), *both)


def test_of_one_name_by_two_issuers_each_counts() -> None:
    other = "https://other.example"
    both = (Identity(other, SUBJECT), Identity(ISSUER, SUBJECT))
    for who in (both, both[::-1]):
        assert good(OURS.sign(DIGEST, ISSUER, SUBJECT), *who)
        assert good(OURS.sign(DIGEST, other, SUBJECT), *who)
        assert not good(OURS.sign(DIGEST, "https://third.example", SUBJECT), *who)


def _changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    found = json.loads(OURS.sign(DIGEST, ISSUER, SUBJECT))
    change(found)
    return json.dumps(found).encode()


def _entry(found: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = found["verificationMaterial"]["tlogEntries"][0]
    return entry


THEIRS = Sigstore()
WRONG: dict[str, Callable[[], bytes]] = {
    "another authority": lambda: replace(OURS, authority=THEIRS.authority).sign(DIGEST, ISSUER, SUBJECT),
    "a certificate in no log": lambda: replace(OURS, certificates_log=THEIRS.log).sign(DIGEST, ISSUER, SUBJECT),
    "another log of signatures": lambda: replace(OURS, log=THEIRS.log).sign(DIGEST, ISSUER, SUBJECT),
    "all of another": lambda: THEIRS.sign(DIGEST, ISSUER, SUBJECT),
    "signed after the certificate": lambda: OURS.sign(DIGEST, ISSUER, SUBJECT, after=timedelta(hours=1)),
    "signed before it": lambda: OURS.sign(DIGEST, ISSUER, SUBJECT, after=-timedelta(hours=1)),
    "another image": lambda: OURS.sign(OTHER, ISSUER, SUBJECT),
    "an attestation": lambda: OURS.sign(DIGEST, ISSUER, SUBJECT, predicate="https://cyclonedx.org/bom"),
    "no log": lambda: _changed(lambda found: found["verificationMaterial"].update(tlogEntries=[])),
    "no promise": lambda: _changed(lambda found: _entry(found).pop("inclusionPromise")),
    "no proof": lambda: _changed(lambda found: _entry(found).pop("inclusionProof")),
    "another time": lambda: _changed(lambda found: _entry(found).update(integratedTime="1")),
    "another's entry": lambda: _changed(
        lambda found: found["verificationMaterial"].update(
            tlogEntries=json.loads(OURS.sign(OTHER, ISSUER, SUBJECT))["verificationMaterial"]["tlogEntries"]
        )
    ),
    "another's envelope": lambda: _changed(
        lambda found: found.update(dsseEnvelope=json.loads(OURS.sign(OTHER, ISSUER, SUBJECT))["dsseEnvelope"])
    ),
    "by a key": lambda: bundle(ec.generate_private_key(ec.SECP256R1()), DIGEST),
    "nothing": lambda: b"",
    "no bundle": lambda: b"[]",
    "too deep": lambda: b'{"a":' * 100_000,
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_as_the_trust_root_says_is_no_signature(what: str) -> None:
    assert not good(WRONG[what]())


def test_what_can_be_no_trust_root_is_told() -> None:
    for text in ("", "[]", "{}", "{" * 100_000, '{"mediaType": "application/json"}'):
        with pytest.raises(TrustRootError):
            check_trust_root(text)
    empty = json.loads(OURS.trusted_root) | {"tlogs": []}
    with pytest.raises(TrustRootError, match="can't be read"):
        is_signed_by(b"", DIGEST, SIGNED, WHO, json.dumps(empty))


@pytest.fixture
async def registry() -> AsyncIterator[ImageRegistry]:
    async with ImageRegistry() as found:
        yield found


@pytest.fixture
async def place() -> AsyncIterator[GatePlace]:
    found = GatePlace()
    yield found
    await found.gate.close()


def wanted(registry: ImageRegistry, **more: Any) -> dict[str, Any]:
    permitted = {"repository": registry.host, "identities": [{"issuer": ISSUER, "subject": SUBJECT}], **more}
    registries = [{"host": registry.host, "plainHttp": True}]
    return {"permitted": [permitted], "registries": registries, "trustRoot": OURS.trusted_root}


async def test_a_policy_permits_what_its_identities_have_signed(registry: ImageRegistry, place: GatePlace) -> None:
    place.policy(**wanted(registry))
    digest, evil = registry.put("a", "1", "a"), registry.put("b", "1", "b")
    put_bundle(registry, "a", digest, OURS.sign(digest, ISSUER, SUBJECT))
    assert (await place.told(repository=f"{registry.host}/a", tag="1")).image.digest == digest
    put_bundle(registry, "b", evil, THEIRS.sign(evil, ISSUER, SUBJECT))
    assert "public keys and identities" in refused(await place.told(repository=f"{registry.host}/b", tag="1"))


async def test_a_policy_has_it_attested_by_identities(registry: ImageRegistry, place: GatePlace) -> None:
    """Who signs is not who attests; and what is attested is one thing of one image, by one who may."""
    scan, scanner = "https://cosign.sigstore.dev/attestation/vuln/v1", SUBJECT.replace("release", "scan")
    attestation = {"predicateType": scan, "identities": [{"issuer": ISSUER, "subject": scanner}]}
    place.policy(**wanted(registry), attestations=[attestation])
    digest = registry.put("a", "1")
    signed = OURS.sign(digest, ISSUER, SUBJECT)
    attested = OURS.sign(digest, ISSUER, scanner, predicate=scan)
    for number, other in enumerate((
        None,
        OURS.sign(digest, ISSUER, SUBJECT, predicate=scan),
        OURS.sign(digest, ISSUER, scanner, predicate="https://cyclonedx.org/bom"),
        OURS.sign(OTHER, ISSUER, scanner, predicate=scan),
        THEIRS.sign(digest, ISSUER, scanner, predicate=scan),
        bundle(ec.generate_private_key(ec.SECP256R1()), digest, scan),
    )):  # fmt: skip
        name = f"refused-{number}"
        registry.put(name, "1")
        put_bundles(registry, name, digest, *[one for one in (signed, other) if one is not None])
        message = refused(await place.told(repository=f"{registry.host}/{name}", tag="1"))
        assert f"no attestation {scan} by any of its public keys and identities" in message
    put_bundles(registry, "a", digest, signed, attested)
    assert (await place.told(repository=f"{registry.host}/a", tag="1")).image.digest == digest
    # Attested it is, and not signed.
    put_bundles(registry, "b", registry.put("b", "1"), attested)
    assert "attestation" not in refused(await place.told(repository=f"{registry.host}/b", tag="1"))


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"attestations": [{"predicateType": "https://cyclonedx.org/bom"}]}, "publicKeys"),
        (
            {
                "attestations": [
                    {
                        "predicateType": "https://cyclonedx.org/bom",
                        "identities": [{"issuer": ISSUER, "subject": SUBJECT}],
                    }
                ]
            },
            "trustRoot",
        ),
    ],
)
def test_an_attestation_by_nobody_and_by_identities_without_a_trust_root_are_refused(
    more: dict[str, Any], field: str
) -> None:
    body = {"metadata": {"name": "p"}, "spec": {"permitted": [{"repository": "*"}], **more}}
    with pytest.raises(InvalidSpec, match=field):
        parse_image_policy_spec(body)


async def test_a_key_beside_identities_counts_as_well(registry: ImageRegistry, place: GatePlace) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    place.policy(**wanted(registry, publicKeys=[pem_of(key)]))
    digest = registry.put("a", "1")
    put_bundle(registry, "a", digest, bundle(key, digest))
    assert (await place.told(repository=f"{registry.host}/a", tag="1")).image.digest == digest


async def test_a_trust_root_that_is_none_permits_nothing(registry: ImageRegistry, place: GatePlace) -> None:
    place.policy(**wanted(registry) | {"trustRoot": "{}"})
    assert "trustRoot" in refused(place.ask(repository=f"{registry.host}/a", tag="1"))
    digest = registry.put("a", "1")
    put_bundle(registry, "a", digest, OURS.sign(digest, ISSUER, SUBJECT))
    empty = json.loads(OURS.trusted_root) | {"tlogs": []}
    place.policy(**wanted(registry) | {"trustRoot": json.dumps(empty)})
    assert "trustRoot" in refused(await place.told(repository=f"{registry.host}/a", tag="1"))
