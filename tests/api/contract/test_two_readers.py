"""What the models take of what concerns the gateway, the gateway takes too, and means the same by it; and no more."""

import json
from typing import Any

import pytest
from field_values import CREDENTIALS, POOLS, budgets
from hypothesis import given
from hypothesis import strategies as st
from judgement import judge
from pydantic import ValidationError

from claude_sandbox.api import meta
from claude_sandbox.api.fields.budget import Budget
from claude_sandbox.gateway.budget.ledger import Budget as Limits
from claude_sandbox.gateway.config.cluster import SecretKey
from claude_sandbox.gateway.config.config import Sandbox, read_budget
from claude_sandbox.gateway.config.fields import ConfigError, read_object
from claude_sandbox.gateway.kubernetes.declared import read_sandbox

Json = Any
KEY: Json = {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"}
ONLY_THE_MODELS_REFUSE: tuple[Json, ...] = (
    {"oauthTokenSecretRef": {"name": "a", "namespace": "b"}},
    {"oauthTokenSecretRef": {"name": "sk-ant-oat01-x"}},
)


def by_the_models(spec: Json) -> Json:
    """The spec as the API server stores it; None where it is refused."""
    document = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": "alice"}, "spec": spec}
    return judge(document).spec


def by_the_gateway(spec: Json) -> Sandbox | None:
    metadata = {"name": "alice", "namespace": "agents", "uid": "u"}
    try:
        # The gateway leaves those on Docker alone; in what it reads here there is no difference.
        found = read_sandbox({"metadata": metadata, "spec": {**spec, "backend": {"type": "Kubernetes"}}})
    except ConfigError:
        return None
    assert found is not None
    return found.sandbox


def budget_by_the_models(budget: Json) -> Json:
    try:
        read = Budget.model_validate(budget, by_alias=True, by_name=False)
    except ValidationError:
        return None
    return read.model_dump(mode="json", by_alias=True, exclude_none=True)


def budget_by_the_gateway(budget: Json) -> Limits | None:
    try:
        return read_object(budget, "spec.budget", read_budget)
    except ConfigError:
        return None


def agree_on(budget: Json) -> bool:
    """Whether both take it. Raises AssertionError where one does, or they mean something else."""
    stored, read = budget_by_the_models(budget), budget_by_the_gateway(budget)
    assert (stored is None) == (read is None), budget
    if stored is not None:
        # What the API server hands out is what the gateway reads.
        assert budget_by_the_gateway(json.loads(json.dumps(stored))) == read
        assert read is not None
        assert read.output == stored.get("maxOutputTokens")
        cost = Budget.model_validate(stored).cost
        assert (read.cost is None) == (cost is None)
        assert read.cost is None or cost is None or read.cost == cost * 10**9
    return stored is not None


def test_both_take_the_same_budgets() -> None:
    given = [budget for budget in budgets() if budget is not None]
    taken = [budget for budget in given if agree_on(budget)]
    assert 20 < len(taken) < len(given) - 20


amounts = st.from_regex(r"\A[0-9]{0,11}\.?[0-9]{0,11}\Z") | st.text("0123456789.eE+-_ ", max_size=12)
windows = st.from_regex(r"\A[0-9]{0,7}[smhdwSMHD]?\Z")


@given(
    st.fixed_dictionaries(
        {}, optional={"maxCostUSD": amounts, "maxOutputTokens": st.integers(-1, 10**12 + 1), "window": windows}
    )
)
def test_both_take_the_same_made_up_budgets(budget: Json) -> None:
    agree_on(budget)


@pytest.mark.parametrize("credentials", CREDENTIALS, ids=json.dumps)
def test_both_take_the_same_credentials(credentials: Json) -> None:
    spec = {"backend": {"type": "Docker"}, "credentials": {**credentials, "delivery": "Brokered"}}
    stored, read = by_the_models(spec), by_the_gateway(spec)
    if stored is None:
        # What is not there at all gives no key, whichever version of the CRD let that through.
        assert (
            read is None or read.credential is None or "sk-ant" in str(credentials) or "namespace" in str(credentials)
        )
        return
    named = stored["credentials"].get("oauthTokenSecretRef") or stored["credentials"]["apiKeySecretRef"]
    for sandbox in (read, by_the_gateway(stored)):
        assert sandbox is not None
        assert sandbox.credential == SecretKey(named["name"], named["key"])
        assert sandbox.oauth == ("oauthTokenSecretRef" in stored["credentials"])


def test_the_gateway_takes_every_list_of_models_that_the_models_take() -> None:
    stored = [
        by_the_models({"backend": {"type": "Docker"}, "credentials": KEY, "model": {"allowed": value}})
        for value in POOLS["allowed"]
    ]
    taken = [spec for spec in stored if spec is not None]
    assert len(taken) > 4
    for spec in taken:
        read = by_the_gateway(spec)
        assert read is not None, spec
        assert list(read.models) == spec["model"]["allowed"]
