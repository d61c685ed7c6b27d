"""ClaudeImagePolicies among the files, and what they say of ClaudeSandboxes without asking a registry."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from manifest_files import STANDARD, Object, judged
from signing import pem_of

from claude_sandbox.api.status import Result
from claude_sandbox.blueprint.build import parse_image

WITH_IMAGE = replace(STANDARD, profile=None, image=parse_image("example.org/o@sha256:" + "c" * 64, "IfNotPresent"))
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
KEY = pem_of(ec.generate_private_key(ec.SECP256R1()))
NAMESPACE: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "agents", "labels": {"team": "a"}}}
ACME = [{"repository": "ghcr.io/acme"}]


def sandbox(repository: str | None = "ghcr.io/acme/x", tag: str | None = "1", **spec: Any) -> Object:
    secret = {"apiKeySecretRef": {"name": "anthropic-api-key"}}
    image = {"image": {"repository": repository, "tag": tag}} if repository else {}
    return {
        "apiVersion": "claudesandbox.dev/v1alpha1",
        "kind": "ClaudeSandbox",
        "metadata": {"name": "alice", "namespace": "agents"},
        "spec": {"credentials": secret, **image, **spec},
    }


def policy(name: str = "ours", **spec: Any) -> Object:
    kind = {"apiVersion": "claudesandbox.dev/v1alpha1", "kind": "ClaudeImagePolicy"}
    return {**kind, "metadata": {"name": name}, "spec": spec}


def said(*documents: Object) -> tuple[Result, str]:
    outcome = judged(*documents, standard=WITH_IMAGE)
    [one] = outcome.judged
    [found] = [each for each in one.findings if each.control.id == "IMG-02"]
    assert bool(found.remedy) is (found.result is Result.FAIL)
    return found.result, found.verdict.message


def test_without_policies_nothing_is_said() -> None:
    assert said(sandbox())[0] is Result.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("spec", "wanted", "part"),
    [
        ({"permitted": ACME}, Result.PASS, ""),
        ({"permitted": [{"repository": "ghcr.io/other"}]}, Result.FAIL, "does not permit ghcr.io/acme/x"),
        ({"permitted": [{"repository": "ghcr.io/acme", "requireDigest": True}]}, Result.FAIL, "by digest only"),
        (
            {
                "permitted": [{"repository": "*", "requireDigest": True}],
                "pins": [{"repository": "ghcr.io/acme/x", "tag": "1", "digest": DIGEST}],
            },
            Result.PASS,
            "",
        ),
        (
            {
                "permitted": [{"repository": "*", "publicKeys": [KEY]}],
                "registries": [{"host": "ghcr.io"}],
            },
            Result.UNKNOWN,
            "asks for a signature of ghcr.io/acme/x:1",
        ),
        ({"permitted": [{"repository": "*", "publicKeys": [KEY]}]}, Result.FAIL, "no policy names ghcr.io"),
        (
            {
                "permitted": [{"repository": "*"}],
                "attestations": [{"predicateType": "https://cyclonedx.org/bom", "publicKeys": [KEY]}],
                "registries": [{"host": "ghcr.io"}],
            },
            Result.UNKNOWN,
            "asks for an attestation https://cyclonedx.org/bom",
        ),
        ({"permitted": [{"repository": "*"}], "tomorrow": True}, Result.FAIL, "can't be understood"),
        ({"permitted": ACME, "operatorImage": "Judged"}, Result.FAIL, "does not permit example.org/o"),
    ],
)
def test_what_can_be_said_without_a_registry_is_said(spec: dict[str, Any], wanted: Result, part: str) -> None:
    result, message = said(sandbox(), policy(**spec))
    assert result is wanted, message
    assert part in message


def test_of_several_each_is_asked_and_the_order_of_files_makes_no_difference() -> None:
    mine, theirs = policy(permitted=ACME), policy("theirs", permitted=[{"repository": "docker.io"}])
    assert said(mine, theirs, sandbox())[0] is Result.FAIL
    assert said(sandbox(), theirs, mine)[0] is Result.FAIL
    assert said(sandbox(), mine)[0] is Result.PASS


def test_a_sandbox_on_docker_is_refused_as_well() -> None:
    on_docker = {"backend": {"type": "Docker"}}
    assert said(sandbox(**on_docker), policy(permitted=[{"repository": "ghcr.io/other"}]))[0] is Result.FAIL
    assert said(sandbox(**on_docker), policy(permitted=ACME))[0] is Result.UNKNOWN


def test_a_tag_that_is_followed_needs_a_registry_that_may_be_asked() -> None:
    follows = sandbox(updatePolicy={"strategy": "Notify"})
    assert "may ask" in said(follows, policy(permitted=ACME))[1]
    assert said(follows, policy(permitted=ACME, registries=[{"host": "ghcr.io"}]))[0] is Result.PASS


def test_a_policy_of_other_namespaces_counts_for_nothing_and_one_of_perhaps_this_is_unknown() -> None:
    def chosen(team: str) -> Object:
        return policy(permitted=[{"repository": "x.test"}], namespaceSelector={"matchLabels": {"team": team}})

    assert said(sandbox(), NAMESPACE, chosen("a"))[0] is Result.FAIL
    assert said(sandbox(), NAMESPACE, chosen("b"))[0] is Result.NOT_APPLICABLE
    result, message = said(sandbox(), chosen("b"))
    assert result is Result.UNKNOWN
    assert "labels of namespace agents are not in the files" in message


def test_a_policy_that_is_wrong_is_told_by_its_file_and_line() -> None:
    outcome = judged(sandbox(), policy(permitted=[]), standard=WITH_IMAGE)
    assert ["ClaudeImagePolicy ours" in str(one) for one in outcome.problems] == [True]
    assert not judged(sandbox(), policy(permitted=ACME), standard=WITH_IMAGE).problems
