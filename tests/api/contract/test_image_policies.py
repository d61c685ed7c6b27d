"""ClaudeImagePolicies: the API server and the models refuse the same, and say what to write instead."""

from typing import Any

import pytest
from contract_server import Server
from cryptography.hazmat.primitives.asymmetric import ec
from signing import pem_of

from claude_sandbox.api import meta
from claude_sandbox.api.crds import definitions
from claude_sandbox.api.validate import InvalidSpec, parse_image_policy_spec

ACME = "registry.example.org/acme"
KEY = pem_of(ec.generate_private_key(ec.SECP256R1()))
WHO = {"issuer": "https://issuer.example.org", "subject": "ci@example.org"}
DIGEST = f"sha256:{'0' * 64}"
PIN = {"repository": ACME, "tag": "1", "digest": DIGEST}
BOM = {"predicateType": "https://cyclonedx.org/bom"}

GOOD: dict[str, dict[str, Any]] = {
    "one repository": {"permitted": [{"repository": ACME}]},
    "one below another": {"permitted": [{"repository": ACME}, {"repository": f"{ACME}/tools"}, {"repository": "*"}]},
    "two tags pinned": {"permitted": [{"repository": "*"}], "pins": [PIN, PIN | {"tag": "2"}]},
    "two attested of one": {"permitted": [{"repository": "*"}], "attestations": [BOM | {"publicKeys": [KEY]}] * 2},
}
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "one repository twice": (
        {"permitted": [{"repository": ACME, "publicKeys": [KEY]}, {"repository": "*"}, {"repository": ACME}]},
        "spec.permitted",
        "write one entry",
    ),
    "one registry twice": (
        {
            "permitted": [{"repository": "*"}],
            "registries": [{"host": "registry.example.org"}, {"host": "registry.example.org", "plainHttp": True}],
        },
        "spec.registries",
        "write one entry",
    ),
    "one tag pinned twice": (
        {"permitted": [{"repository": "*"}], "pins": [PIN, PIN | {"digest": f"sha256:{'1' * 64}"}]},
        "spec.pins",
        "remove one of them",
    ),
    "nothing permitted": ({"permitted": []}, "spec.permitted", "at least 1"),
    "identities that nothing is known of": (
        {"permitted": [{"repository": ACME, "identities": [WHO]}]},
        "spec.trustRoot",
        "trusted_root.json",
    ),
    "an attestation of nobody's": (
        {"permitted": [{"repository": "*"}], "attestations": [BOM]},
        "spec.attestations[0].publicKeys",
        "write a public key",
    ),
    "a login without TLS": (
        {
            "permitted": [{"repository": "*"}],
            "registries": [{"host": "r.test", "plainHttp": True, "credentialsSecretRef": {"name": "login"}}],
        },
        "spec.registries[0].plainHttp",
        "remove plainHttp",
    ),
}


def policy(spec: dict[str, Any]) -> dict[str, Any]:
    kind = definitions.IMAGE_POLICY.kind
    return {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": {"name": "tried"}, "spec": spec}


@pytest.fixture
async def policies(with_crd: Any) -> Any:
    async with Server(with_crd, definitions.IMAGE_POLICY) as server:
        yield server


@pytest.mark.controlplane
@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
async def test_a_good_policy_is_stored_as_the_models_read_it(policies: Server, spec: dict[str, Any]) -> None:
    answer = await policies.create(policy(spec), dry_run=True)
    assert answer.accepted, answer.message
    read = parse_image_policy_spec(policy(spec))
    assert answer.body["spec"] == read.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.controlplane
@pytest.mark.parametrize(("spec", "field", "remedy"), BAD.values(), ids=BAD)
async def test_a_bad_policy_is_refused_with_field_and_remedy(
    policies: Server, spec: dict[str, Any], field: str, remedy: str
) -> None:
    answer = await policies.create(policy(spec), dry_run=True)
    assert answer.code == 422, answer.message
    assert any(named.startswith(field) and remedy in message for named, message in answer.causes), answer.causes


@pytest.mark.parametrize(("spec", "field", "remedy"), BAD.values(), ids=BAD)
def test_the_models_refuse_it_too(spec: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_image_policy_spec(policy(spec))
    assert any(error.path.startswith(field) for error in refused.value.errors), refused.value.errors


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
def test_the_models_take_what_is_good(spec: dict[str, Any]) -> None:
    parse_image_policy_spec(policy(spec))
