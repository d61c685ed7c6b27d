"""What roles grant an account, of whatever size and shape; and what is said where that is not known."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from compliant_sandbox import compliant
from hostile import TEXTS
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.evidence.grants import (
    MOST_BINDINGS,
    MOST_SUBJECTS,
    Grant,
    granted,
    identities,
    meant,
    subjects,
    telling,
    told_subjects,
)
from claude_sandbox.compliance.evidence.pods import Access, KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.pods import findings

EVIDENCE = compliant().evidence()
SECRETS = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
HARMLESS = {"nonResourceURLs": ["/version"], "verbs": ["get"]}


def judged(evidence: KubernetesEvidence) -> tuple[Result, str]:
    (found,) = (one for one in findings(evidence) if one.control.id == "ID-03")
    return found.result, found.verdict.message


def of(*grants: Grant) -> Reading[tuple[Grant, ...]]:
    return Reading(grants, EvidenceSource.LIVE_OBJECT, EVIDENCE.now)


def binding(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "b", "namespace": "agents"}, "roleRef": {"kind": "Role", "name": "r"}, **fields}


def test_what_is_granted_fails_and_is_told_the_worst_first() -> None:
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    grants = [Grant("RoleBinding x", "agents", pods)] * 4 + [Grant("ClusterRoleBinding y", None, SECRETS)]
    result, message = judged(replace(EVIDENCE, grants=of(*grants)))
    assert result is Result.FAIL
    assert message.startswith(
        "the ServiceAccount may list secrets (ClusterRoleBinding y); the ServiceAccount may get pods"
    )
    assert message.endswith("is granted 2 more rules")


def test_where_roles_are_not_known_nothing_passes_and_the_other_witness_still_fails_it() -> None:
    unread = replace(EVIDENCE, grants=Unread("the operator may not list roles"))
    result, message = judged(unread)
    assert result is Result.UNKNOWN
    assert "may not list roles" in message
    old = replace(EVIDENCE, grants=replace(of(), observed_at=EVIDENCE.now - 2 * EVIDENCE.max_age))
    assert judged(old)[0] is Result.UNKNOWN
    allowed = Reading((Access("create", "", "pods", "", True),), EvidenceSource.ACCESS_REVIEW, EVIDENCE.now)
    for evidence in (unread, EVIDENCE):
        assert judged(replace(evidence, access=allowed))[0] is Result.FAIL
    # What no role grants, another authorizer does.
    assert judged(replace(EVIDENCE, access=allowed))[1] == "the ServiceAccount may create pods, which no role grants it"


@pytest.mark.parametrize(
    "rule",
    [
        SECRETS,
        {"nonResourceURLs": ["*"], "verbs": ["get"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        {"nonResourceURLs": ["/version"], "verbs": ["get", "post"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
        {"apiGroups": ["*"], "resources": ["selfsubjectaccessreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews"], "verbs": ["*"]},
    ],
)
def test_a_rule_that_grants_more_than_everybody_has_is_told(rule: dict[str, Any]) -> None:
    assert telling([HARMLESS, rule]) == (rule,)
    assert telling([HARMLESS]) == ()


def test_of_roles_and_bindings_of_any_size_a_bounded_part_is_kept() -> None:
    words = [f"{number}{'x' * 1000}" for number in range(2000)]
    rules = [{"apiGroups": words, "resources": words, "resourceNames": words, "verbs": words} for _ in range(50)]
    began = time.process_time()
    assert len(json.dumps(telling(rules))) < 10_000
    reviews = {"apiGroups": ["authorization.k8s.io"] * 9000, "resources": ["selfsubjectaccessreviews"] * 9000}
    assert telling([{**reviews, "verbs": ["create"]}]) == ()
    # In pairs it would be minutes.
    assert time.process_time() - began < 2
    many = [{"kind": "ServiceAccount", "name": f"a{number}"} for number in range(MOST_SUBJECTS + 1)]
    # It is for everybody then, and so for the account that it may name.
    assert set(subjects(binding(subjects=many))) & set(identities("agents", "sandbox-alice"))
    assert len(subjects(binding(subjects=many[1:]))) == MOST_SUBJECTS
    people = [{"kind": "User", "name": f"u{number}"} for number in range(5000)]
    assert told_subjects(binding(subjects=people)) == ()


def test_more_bindings_than_an_account_without_rights_needs_are_not_taken_for_none() -> None:
    assert isinstance(granted([binding()] * (MOST_BINDINGS + 1), lambda *_: ()), str)
    assert granted([binding()] * MOST_BINDINGS, lambda *_: ()) == ()


@given(
    st.lists(st.fixed_dictionaries({"kind": st.sampled_from(["User", "Group", "ServiceAccount", "X"]), "name": TEXTS}))
)
def test_whom_a_binding_is_for_is_understood_whatever_it_names(some: list[dict[str, Any]]) -> None:
    for one in subjects(binding(subjects=some)):
        assert one.startswith(("user ", "group "))
        meant(one)
