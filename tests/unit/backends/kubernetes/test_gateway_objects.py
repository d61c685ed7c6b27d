"""The gateway's objects: hardened as a sandbox is, put back when they differ, and known for one name only."""

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.backends.base import Cause
from claude_sandbox.backends.kubernetes.gateway import certificates, objects
from claude_sandbox.backends.kubernetes.gateway.plan import Live, desired, plan_gateway, plan_removal
from claude_sandbox.backends.kubernetes.plan import Verb
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.compliance.pods.pod_security import violations
from claude_sandbox.gateway.config.config import parse

NOW = datetime(2026, 11, 1, tzinfo=UTC)
GIVEN = objects.Brokering(parse_image("example.org/operator@sha256:" + "a" * 64, "IfNotPresent"))
WISH = objects.Wish("agents", frozenset({"key", "other"}), mounted=False, certificate="c" * 32)


def alive(wish: objects.Wish = WISH) -> dict[str, Any]:
    """All of it, as the API server has it."""
    found = {kind: copy.deepcopy(dict(one)) for kind, one in desired(wish, GIVEN).items()}
    for one in found.values():
        one["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    return found


def test_its_pods_are_restricted() -> None:
    template = objects.deployment(WISH, GIVEN)["spec"]["template"]
    pod = {"metadata": template["metadata"], "spec": template["spec"]}
    assert violations(pod, "restricted", 34) == ()


def test_it_may_look_at_pods_only_where_it_lends_by_their_addresses() -> None:
    def looks(wish: objects.Wish) -> list[Any]:
        return [rule["verbs"] for rule in objects.role(wish)["rules"] if rule["resources"] == ["pods"]]

    assert looks(WISH) == []
    assert looks(replace(WISH, pods=True)) == [["list", "watch"]]


@pytest.mark.parametrize(
    ("limits", "each", "mib"),
    [
        ({}, 256 << 20, 1024),
        ({"pushBytes": 1 << 30}, 1 << 30, 4096),
        ({"pushBytes": 100 << 20, "pushesAtOnce": 8}, 100 << 20, 800),
        ({"spoolBytes": (64 << 20) + 1}, 256 << 20, 65),
    ],
)
def test_pushes_have_room_on_the_nodes_disk_and_a_bound(limits: dict[str, int], each: int, mib: int) -> None:
    deployment = objects.deployment(WISH, replace(GIVEN, settings={"limits": limits}))
    template = deployment["spec"]["template"]
    read = parse(template["metadata"]["annotations"][meta.ANNOTATION_GATEWAY])
    container = template["spec"]["containers"][0]
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    mount = mounts[str(read.spool)]
    assert not mount.get("readOnly")
    volume = next(one for one in template["spec"]["volumes"] if one["name"] == mount["name"])
    assert volume["emptyDir"] == {"sizeLimit": f"{mib}Mi"}
    # The program holds to the bound by itself, and the pod's own limit leaves room for its logs beside it.
    assert read.limits.push_bytes == each
    assert read.limits.spool_bytes == limits.get("spoolBytes", mib << 20)
    assert container["resources"]["limits"]["ephemeral-storage"] == f"{mib + 64}Mi"


def test_the_program_takes_its_configuration() -> None:
    settings = {"provider": {"baseURL": "https://llm.example.org"}, "egress": {"deniedDomains": ["example.com"]}}
    read = parse(objects.configuration(replace(GIVEN, settings=settings), mounted=True))
    assert read.cluster is not None
    assert read.cluster.audience == objects.AUDIENCE
    assert read.provider.base_url == "https://llm.example.org"
    assert read.broker.certificate is not None


def test_it_listens_in_clusters_of_either_family() -> None:
    read = parse(objects.configuration(GIVEN, mounted=False))
    assert {read.broker.host, read.proxy.host, read.health.host} == {"*"}


def test_a_pod_that_is_to_end_has_time_for_what_it_is_to_wait_for() -> None:
    settings = {"limits": {"drainSeconds": 60}}
    for given, drain in ((GIVEN, parse(objects.configuration(GIVEN, mounted=False)).limits.drain),
                         (replace(GIVEN, settings=settings), 60)):  # fmt: skip
        pod = objects.deployment(WISH, given)["spec"]["template"]["spec"]
        lingers = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > lingers + drain


def test_what_is_in_order_is_left_alone() -> None:
    assert plan_gateway(desired(WISH, GIVEN), Live(alive()), been=True).steps == ()


def test_the_first_time_the_program_comes_last() -> None:
    plan = plan_gateway(desired(WISH, GIVEN), Live({}), been=False)
    assert [step.kind for step in plan.stages[-1]] == ["Deployment"]
    assert {step.cause for step in plan.steps} == {Cause.PROVISION}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Role", ("rules", 0, "verbs"), ["*"]),
        ("RoleBinding", ("subjects", 0, "name"), "default"),
        ("NetworkPolicy", ("spec", "ingress"), [{}]),
        ("Service", ("spec", "selector"), {"app": "other"}),
        ("PodDisruptionBudget", ("spec", "minAvailable"), 0),
        ("ServiceAccount", ("automountServiceAccountToken",), True),
        ("Deployment", ("spec", "replicas"), 0),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "image"), "example.org/other"),
        ("Deployment", ("spec", "template", "spec", "hostNetwork"), True),
        ("Deployment", ("spec", "template", "metadata", "annotations", meta.ANNOTATION_GATEWAY), "{}"),
    ],
)
def test_what_differs_is_put_back(kind: str, path: tuple[Any, ...], value: Any) -> None:
    found = alive()
    *way, last = path
    place: Any = found[kind]
    for part in way:
        place = place[part]
    place[last] = value
    (step,) = plan_gateway(desired(WISH, GIVEN), Live(found), been=True).steps
    assert (step.kind, step.verb, step.cause) == (kind, Verb.APPLY, Cause.HEAL)


@pytest.mark.parametrize("address", ["10.96.0.7", "fd00:10:96::7"])
def test_the_service_keeps_its_address_whatever_else_of_it_is_put_back(address: str) -> None:
    wish, found = replace(WISH, address=address), alive()
    found["Service"]["spec"] |= {"clusterIP": address, "externalIPs": ["192.0.2.7"]}
    (step,) = plan_gateway(desired(wish, GIVEN), Live(found), been=True).steps
    assert (step.kind, step.cause, step.manifest["spec"]["clusterIP"]) == ("Service", Cause.HEAL, address)


@pytest.mark.parametrize("kind", ["Role", "NetworkPolicy", "Deployment"])
def test_what_lost_its_labels_is_still_its_own(kind: str) -> None:
    found = alive()
    found[kind]["metadata"]["labels"] = {}
    plan = plan_gateway(desired(WISH, GIVEN), Live(found), been=True)
    assert ([step.kind for step in plan.steps], plan.foreign) == ([kind], ())


def test_of_a_role_it_is_known_which_secrets_it_grants() -> None:
    assert objects.granted_secrets(alive()["Role"]) == WISH.secrets
    assert objects.granted_secrets(None) == frozenset()
    assert objects.granted_secrets(objects.role(replace(WISH, mounted=True))) == frozenset()


def test_what_is_lost_is_made_again() -> None:
    for kind in alive():
        found = alive()
        del found[kind]
        (step,) = plan_gateway(desired(WISH, GIVEN), Live(found), been=True).steps
        assert (step.kind, step.verb, step.cause) == (kind, Verb.CREATE, Cause.HEAL)


def test_what_was_never_made_was_not_lost() -> None:
    """As after an operator that ended in the middle of making it."""
    found = alive()
    del found["Deployment"], found["RoleBinding"]
    wanted = desired(WISH, GIVEN)
    assert {step.cause for step in plan_gateway(wanted, Live(found), been=False).steps} == {Cause.PROVISION}
    assert {step.cause for step in plan_gateway(wanted, Live(found), been=True).steps} == {Cause.HEAL}


def test_another_secret_is_a_wish_and_no_heal() -> None:
    wish = replace(WISH, secrets=frozenset({"key"}))
    (step,) = plan_gateway(desired(wish, GIVEN), Live(alive()), been=True).steps
    assert (step.kind, step.cause, step.paths) == ("Role", Cause.UPDATE, ("rules",))


def test_a_binding_to_another_role_is_made_anew() -> None:
    found = alive()
    found["RoleBinding"]["roleRef"]["name"] = "admin"
    (step,) = plan_gateway(desired(WISH, GIVEN), Live(found), been=True).steps
    assert (step.kind, step.verb) == ("RoleBinding", Verb.DELETE)


def test_what_somebody_else_made_is_told_and_left_alone() -> None:
    found = {"Deployment": alive()["Deployment"]}
    found["Deployment"]["metadata"] |= {"labels": {}, "annotations": {}}
    plan = plan_gateway(desired(WISH, GIVEN), Live(found), been=True)
    assert (plan.steps, plan.foreign) == ((), (f"Deployment {meta.GATEWAY}",))
    assert plan_removal(Live(found)).steps == ()


def test_the_program_goes_before_what_bounds_it() -> None:
    kinds = [step.kind for step in plan_removal(Live(alive())).steps]
    assert kinds[0] == "Deployment"
    assert set(kinds) == set(alive())


def test_secrets_are_mounted_where_nobody_may_read_them() -> None:
    manifest = desired(replace(WISH, mounted=True), GIVEN)
    assert not [rule for rule in manifest["Role"]["rules"] if "secrets" in rule["resources"]]
    volumes = manifest["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"key", "other"} < {volume.get("secret", {}).get("secretName") for volume in volumes}


def test_a_certificate_is_kept_until_it_is_about_to_end_and_its_authority_longer() -> None:
    first = certificates.renewed(None, "gateway", NOW)
    assert certificates.renewed(first, "gateway", NOW + timedelta(days=59)) is first
    second = certificates.renewed(first, "gateway", NOW + timedelta(days=61))
    assert (second.authority, second.certificate != first.certificate) == (first.authority, True)
    third = certificates.renewed(second, "gateway", NOW + timedelta(days=3640))
    assert third.authority != first.authority


@pytest.mark.parametrize("part", ["authority", "authority_key", "certificate", "key"])
def test_what_is_broken_of_it_is_made_anew(part: str) -> None:
    good, other = certificates.renewed(None, "gateway", NOW), certificates.renewed(None, "gateway", NOW)
    for broken in ("", "nonsense", getattr(other, part)):
        mended = certificates.renewed(replace(good, **{part: broken}), "gateway", NOW)
        assert certificates.is_good(mended, "gateway", NOW)


def test_no_key_is_in_what_is_printed() -> None:
    assert "PRIVATE" not in repr(certificates.renewed(None, "gateway", NOW))
