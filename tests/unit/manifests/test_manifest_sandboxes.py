"""ClaudeSandboxes, judged before they are created, as what the operator would make of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from manifest_files import STANDARD, Object, judged, results

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import Result
from claude_sandbox.blueprint.build import parse_image

P, F, U = Result.PASS, Result.FAIL, Result.UNKNOWN
GOOD = Path(__file__).parents[2] / "api" / "good_documents"
BAD = Path(__file__).parents[2] / "api" / "bad_documents"
OPTIONAL = {"PRIV-06", "KERN-06", "RES-05", "SEC-05"}
WITH_IMAGE = replace(STANDARD, profile=None, image=parse_image("example.org/o@sha256:" + "c" * 64, "IfNotPresent"))


def sandbox(**spec: object) -> Object:
    secret = {"apiKeySecretRef": {"name": "anthropic-api-key"}}
    return {
        "apiVersion": "claudesandbox.dev/v1alpha1",
        "kind": "ClaudeSandbox",
        "metadata": {"name": "alice", "namespace": "agents"},
        "spec": {"credentials": secret, **spec},
    }


@pytest.mark.parametrize("file", sorted(GOOD.glob("*.yaml")), ids=lambda file: file.stem)
def test_of_what_is_valid_nothing_that_is_required_fails(file: Path) -> None:
    outcome = judged(file.read_text(), standard=WITH_IMAGE)
    assert outcome.problems == ()
    for one in outcome.judged:
        failing = {each.control.id for each in one.findings if each.required and each.result is F}
        # A quota, a runtime and a time to end at are asked for at the level Hardened.
        assert failing <= (OPTIONAL if file.stem == "everything" else set())


@pytest.mark.parametrize("file", sorted(BAD.glob("*.yaml")), ids=lambda file: file.stem)
def test_what_is_not_valid_is_told_by_file_line_and_field(file: Path) -> None:
    text = file.read_text()
    if "kind: ClaudeSandbox" not in text:
        return
    outcome = judged(text, standard=WITH_IMAGE)
    assert outcome.judged == ()
    assert outcome.problems
    assert all(one.file == "x.yaml" and one.line > 0 for one in outcome.problems)


def test_what_the_operator_would_make_is_judged() -> None:
    found = results(sandbox(), standard=WITH_IMAGE)
    assert {found[id] for id in ("PRIV-01", "PRIV-02", "FS-01", "RES-01", "NET-01", "ID-01", "SEC-04", "IMG-03")} == {P}
    assert {id for id, one in found.items() if one is F} == OPTIONAL - {"SEC-05"}


def test_what_it_asks_for_counts() -> None:
    assert results(sandbox(security={"userNamespace": True}), standard=WITH_IMAGE)["PRIV-06"] is P
    mounted = sandbox(credentials={"apiKeySecretRef": {"name": "k"}, "delivery": "Mounted"})
    assert results(mounted, standard=WITH_IMAGE)["SEC-05"] is F


def test_a_policy_beside_it_that_widens_counts() -> None:
    wide = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "wide", "namespace": "agents"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    }
    whole = replace(WITH_IMAGE, whole=True)
    assert results(sandbox(), standard=whole)["NET-02"] is P
    assert results(sandbox(), wide, standard=whole)["NET-02"] is F
    assert results(sandbox(), wide, standard=WITH_IMAGE)["NET-02"] is F


def test_without_the_operators_image_what_is_of_the_image_is_unknown() -> None:
    found = results(sandbox(), standard=replace(STANDARD, profile=None))
    assert {found[id] for id in ("IMG-01", "IMG-03", "FS-08")} == {U}


def test_its_own_profile_decides_unless_another_is_asked_for() -> None:
    def required(text: Object, profile: object) -> bool:
        [one] = judged(text, standard=replace(WITH_IMAGE, profile=profile)).judged  # type: ignore[arg-type]
        return next(each.required for each in one.findings if each.control.id == "IMG-01")

    assert not required(sandbox(), None)
    assert required(sandbox(), Profile.PRODUCTION)
    production = yaml.safe_load((GOOD / "production.yaml").read_text())
    assert required(production, None)


def test_on_docker_all_is_left_to_the_engine() -> None:
    assert set(results(sandbox(backend={"type": "Docker"}), standard=WITH_IMAGE).values()) == {U}


def test_an_exception_that_would_have_no_effect_is_told_with_its_field() -> None:
    exception = {"control": "NET-99", "reason": "it is so", "owner": "team@example.org", "expires": "2099-01-01"}
    outcome = judged(yaml.safe_dump(sandbox(compliance={"exceptions": [exception]})))
    assert "spec.compliance.exceptions[0].control: is NET-99" in str(outcome.problems[0])


MOUNTED = {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}


def test_what_another_profile_would_refuse_is_told_field_by_field() -> None:
    text = yaml.safe_dump(
        sandbox(image={"repository": "ghcr.io/acme/claude", "tag": "1"}, workspace={"readOnly": False})
    )
    in_production = replace(WITH_IMAGE, profile=Profile.PRODUCTION)
    assert judged(text, standard=replace(WITH_IMAGE, profile=None)).problems == ()
    told = [str(one) for one in judged(text, standard=in_production).problems]
    assert all("profile Production would refuse it: spec." in one for one in told)
    fields = [one.split("refuse it: ")[1].partition(":")[0] for one in told]
    assert fields == ["spec.image.digest", "spec.workspace.readOnly", "spec.budget", "spec.lifecycle", "spec.backup"]
    target = {"type": "VolumeClaim", "claimName": "backups"}
    backup = {"schedule": "30 2 * * *", "target": target, "passwordSecretRef": {"name": "backups"}}
    bounded = {"budget": {"maxCostUSD": "20"}, "lifecycle": {"ttl": "30d"}, "backup": backup}
    assert judged(yaml.safe_dump(sandbox(**bounded)), standard=in_production).problems == ()
    # Each choice that is not made is told, and by itself.
    wide = {"egress": {"allowedCIDRs": ["93.0.0.0/8"]}}
    for more, field in (
        ({"credentials": MOUNTED, "budget": None}, "spec.credentials.delivery"),
        ({"workspace": {"type": "EmptyDir"}, "backup": None}, "spec.workspace.type"),
        ({"workspace": {"readOnly": False}}, "spec.workspace.readOnly"),
        ({"network": wide}, "spec.network.egress.allowedCIDRs"),
        ({"image": {"repository": "ghcr.io/acme/claude", "tag": "1"}}, "spec.image.digest"),
        ({"compliance": {"level": "Restricted"}}, "spec.compliance.level"),
        ({"lifecycle": {"idleTimeout": "1h"}}, "spec.lifecycle"),
    ):
        told = [str(one) for one in judged(yaml.safe_dump(sandbox(**bounded | more)), standard=in_production).problems]
        assert f"refuse it: {field}:" in " ".join(told), (field, told)
    reason = {"workspace": {"readOnly": False, "writableReason": "It writes code."}}
    assert judged(yaml.safe_dump(sandbox(**bounded | reason)), standard=in_production).problems == ()
