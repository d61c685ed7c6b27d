"""Only what may select a pod is judged for it: what is left out changes nothing, and a large namespace is no burden."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.evidence.selecting import selected_by_policy, selected_by_service
from claude_sandbox.compliance.pods.policy_size import selects
from claude_sandbox.compliance.pods.selectors import matches
from claude_sandbox.kubernetes_api.informers.store import Store

_KEYS = st.sampled_from([meta.LABEL_SANDBOX, meta.LABEL_SANDBOX_UID, "app"])
_VALUES = st.sampled_from(["a", "b", ""])
_LABELS = st.dictionaries(_KEYS, _VALUES, max_size=3)
_EXPRESSIONS = st.lists(
    st.one_of(
        st.builds(lambda key: {"key": key, "operator": "Exists"}, _KEYS),
        st.builds(lambda key, value: {"key": key, "operator": "NotIn", "values": [value]}, _KEYS, _VALUES),
    ),
    max_size=2,
)


def _object(number: int, spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "agents", "name": f"n{number}", "uid": f"u{number}", "resourceVersion": "1"}
    return {"metadata": metadata, "spec": spec}


def _chosen(objects: list[dict[str, Any]], function: Any, labels: dict[str, str]) -> list[str]:
    store = Store({"sandbox": function})
    store.replace(objects)
    keys = dict.fromkeys((None, labels.get(meta.LABEL_SANDBOX)))
    return [one["metadata"]["name"] for key in keys for one in store.by_index("sandbox", ("agents", key))]


@given(st.lists(st.tuples(_LABELS, _EXPRESSIONS), max_size=6), _LABELS)
def test_no_policy_that_selects_a_pod_is_left_out(
    selectors: list[tuple[dict[str, str], list[Any]]], labels: dict[str, str]
) -> None:
    policies = [
        _object(number, {"podSelector": {"matchLabels": one, "matchExpressions": expressions}})
        for number, (one, expressions) in enumerate(selectors)
    ]
    found = {one["metadata"]["name"] for one in policies if selects(one, labels)}
    assert found <= set(_chosen(policies, selected_by_policy, labels))


@given(st.lists(st.one_of(st.none(), _LABELS), max_size=6), _LABELS)
def test_no_service_that_selects_a_pod_is_left_out(
    selectors: list[dict[str, str] | None], labels: dict[str, str]
) -> None:
    services = [_object(number, {"selector": one}) for number, one in enumerate(selectors)]
    found = {
        one["metadata"]["name"]
        for one in services
        if one["spec"]["selector"] and matches({"matchLabels": one["spec"]["selector"]}, labels)
    }
    assert found <= set(_chosen(services, selected_by_service, labels))


def test_those_of_other_sandboxes_are_not_looked_at() -> None:
    """A policy for each of very many sandboxes, and one for all: two are looked at for each sandbox."""
    policies = [
        _object(number, {"podSelector": {"matchLabels": {meta.LABEL_SANDBOX: f"s{number}"}}}) for number in range(3000)
    ]
    policies.append(
        _object(3000, {"podSelector": {"matchExpressions": [{"key": meta.LABEL_SANDBOX, "operator": "Exists"}]}})
    )
    assert _chosen(policies, selected_by_policy, {meta.LABEL_SANDBOX: "s7"}) == ["n3000", "n7"]
