"""What the gateway takes from a ClaudeSandbox as the API server tells it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api import meta
from claude_sandbox.gateway.budget.ledger import Budget
from claude_sandbox.gateway.config.cluster import GitSecret, SecretKey, ServiceSecret
from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.git.push.rules import PushRules
from claude_sandbox.gateway.git.repositories import Repository
from claude_sandbox.gateway.kubernetes import names
from claude_sandbox.gateway.kubernetes.declared import Declared, Pod, read_sandbox
from claude_sandbox.gateway.services.declared import Header

SPEC: dict[str, Any] = {
    "backend": {"type": "Kubernetes"},
    "credentials": {"apiKeySecretRef": {"name": "anthropic-api-key", "key": "token"}, "delivery": "Brokered"},
    "model": {"allowed": ["claude-sonnet-*"]},
    "network": {"egress": {"allowedDomains": ["github.com", "*.example.org:8443"], "allowedCIDRs": [], "dns": {}}},
    "budget": {"maxCostUSD": "20", "maxOutputTokens": 2000000, "window": "24h"},
    "repositories": [
        {
            "path": "a",
            "url": "git@github.com:team/a.git",
            "credentialsSecretRef": {"name": "git"},
            "push": {"branches": ["claude/*"], "force": True},
        },
        {"path": "b", "url": "https://git.example.org:8443/b", "ref": "main", "depth": 1},
    ],
    "resources": {"cpu": "2"},
}
STATUS = {"workload": {"name": "sandbox-work", "uid": "pod-uid-1", "node": "n"}}


def sandbox(spec: Any = SPEC, status: Any = STATUS, **metadata: Any) -> dict[str, Any]:
    named = {"name": "work", "namespace": "team-a", "uid": "uid-1", "resourceVersion": "7", **metadata}
    return {"metadata": named, "spec": spec, "status": status}


def read(spec: Any = SPEC, status: Any = STATUS, **metadata: Any) -> Declared:
    found = read_sandbox(sandbox(spec, status, **metadata))
    assert found is not None
    return found


def test_every_field_that_concerns_the_gateway_is_taken() -> None:
    found = read()
    one = found.sandbox
    assert (one.uid, one.namespace, one.name, found.pod) == (
        "uid-1",
        "team-a",
        "work",
        Pod("sandbox-work", "pod-uid-1"),
    )
    assert (one.credential, one.oauth) == (SecretKey("anthropic-api-key", "token"), False)
    assert (one.models, [str(entry) for entry in one.allowed]) == (
        ("claude-sonnet-*",), ["github.com", "*.example.org:8443"]
    )  # fmt: skip
    assert one.budget == Budget(20 * 10**9, 2_000_000, 86400.0)
    assert (one.identity, one.anonymous_proxy, one.apis) == ((), False, frozenset(("Messages", "Models")))
    assert one.repositories == (
        Repository(
            "https://github.com/team/a.git", "github.com/team/a", "github.com", GitSecret("git"),
            PushRules(("claude/*",), True, False, ()),
        ),
        Repository("https://git.example.org:8443/b", "git.example.org:8443/b", "git.example.org"),
    )  # fmt: skip


@pytest.mark.parametrize("spec", [{}, {"network": None, "budget": None}, {"network": {"egress": {}}, "model": {}}])
def test_what_is_not_there_gives_nothing_but_every_model(spec: dict[str, Any]) -> None:
    one = read(spec).sandbox
    assert (one.credential, one.models, one.allowed, one.budget) == (None, (), (), Budget())
    assert one.repositories == ()


def test_a_credential_is_brokered_by_default_and_not_where_it_is_mounted() -> None:
    reference = {"apiKeySecretRef": {"name": "k"}}
    assert read({"credentials": reference}).sandbox.credential == SecretKey("k", "api-key")
    assert read({"credentials": {**reference, "delivery": "Mounted"}}).sandbox.credential is None
    token = read({"credentials": {"oauthTokenSecretRef": {"name": "k", "key": "t"}}}).sandbox
    assert (token.credential, token.oauth) == (SecretKey("k", "t"), True)


SERVICE: dict[str, Any] = {
    "name": "issues", "host": "issues.example.org:8443", "paths": ["/api/*"], "methods": ["GET", "POST"],
    "header": {"prefix": "Bearer ", "valueFrom": {"secretKeyRef": {"name": "k"}}},
    "requestsPerMinute": 60, "registry": {"type": "NPM", "path": "/api/"},
}  # fmt: skip


def test_services_are_taken_with_their_secrets_and_for_which_host_these_have_to_be() -> None:
    (one,) = read({**SPEC, "services": [SERVICE]}).sandbox.services
    assert one.header == Header("authorization", "Bearer ", ServiceSecret("k", "token", "issues.example.org:8443"))
    assert (one.name, one.authority, one.url) == ("issues", "issues.example.org:8443", "http://issues.services")
    assert ([str(path) for path in one.paths], sorted(one.methods), one.per_minute, one.registry) == (
        ["/api/*"], ["GET", "POST"], 60, "NPM"
    )  # fmt: skip


@pytest.mark.parametrize("changed", [{"paths": []}, {"host": "*.example.org"}, {"methods": ["TRACE"]}, {"name": "A"},
                                     {"paths": ["/../x"]}, {"host": "10.0.0.1"},
                                     {"header": {**SERVICE["header"], "name": "Host"}}])  # fmt: skip
def test_a_service_that_none_can_be_refuses_the_sandbox(changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="services"):
        read({**SPEC, "services": [{**SERVICE, **changed}]})


def test_a_sandbox_on_docker_or_on_its_way_out_is_not_the_gateways() -> None:
    assert read_sandbox(sandbox({**SPEC, "backend": {"type": "Docker"}})) is None
    assert read_sandbox(sandbox(deletionTimestamp="2026-01-01T00:00:00Z")) is None


def test_one_in_quarantine_keeps_its_account_and_has_nothing_else() -> None:
    found = read({**SPEC, "services": [SERVICE], "incident": {"state": "Quarantined", "note": "it pushed to main"}})
    assert found.pod is None
    one = found.sandbox
    assert (one.credential, one.allowed, one.services, one.repositories) == (None, (), (), ())
    assert (one.uid, one.budget) == (read().sandbox.uid, read().sandbox.budget)
    assert read({**SPEC, "incident": {"state": "KeyCompromised"}}).pod is not None


WORKLOADS: tuple[Any, ...] = (
    None, [], {}, {"workload": None}, {"workload": []}, {"workload": {"name": "sandbox-work"}},
    {"workload": {"name": "sandbox-work", "uid": ""}}, {"workload": {"name": "sandbox-work", "uid": 7}},
    {"workload": {"name": "sandbox-other", "uid": "u"}}, {"workload": {"uid": "u"}},
)  # fmt: skip


@pytest.mark.parametrize("status", WORKLOADS, ids=str)
def test_only_a_pod_of_the_sandboxs_own_name_is_its_pod(status: Any) -> None:
    assert read(status=status).pod is None


@pytest.mark.parametrize(
    ("status", "reason", "cloning"),
    [("False", "Cloning", True), ("False", "CloneFailed", True), ("False", "NotCloned", False),
     ("True", "Cloned", False), ("Unknown", "Cloning", False), (None, "Cloning", False)],
)  # fmt: skip
def test_repositories_are_being_cloned_where_the_status_says_so(status: Any, reason: str, cloning: bool) -> None:
    conditions = [
        {"type": "Ready", "status": "False"},
        {"type": "RepositoriesReady", "status": status, "reason": reason},
    ]
    assert read(status={**STATUS, "conditions": conditions}).cloning is cloning
    assert not read({**SPEC, "repositories": []}, {**STATUS, "conditions": conditions}).cloning


WRONG = {
    "credentials": [("spec.credentials", []), ("spec.credentials.delivery", {"delivery": "Both"}),
                    ("spec.credentials.apiKeySecretRef.name", {"apiKeySecretRef": {"name": "../a"}}),
                    ("spec.credentials.apiKeySecretRef.name", {"apiKeySecretRef": {"name": "a" * 300}}),
                    ("spec.credentials.apiKeySecretRef.name", {"apiKeySecretRef": {}}),
                    ("spec.credentials.apiKeySecretRef.key", {"apiKeySecretRef": {"name": "a", "key": ".."}}),
                    ("spec.credentials.apiKeySecretRef.key", {"apiKeySecretRef": {"name": "a", "key": "..data"}}),
                    ("spec.credentials.apiKeySecretRef.key", {"apiKeySecretRef": {"name": "a", "key": "a/b"}}),
                    ("spec.credentials.oauthTokenSecretRef",
                     {"apiKeySecretRef": {"name": "a"}, "oauthTokenSecretRef": {"name": "a"}})],
    "model": [("spec.model", "claude"), ("spec.model.allowed", {"allowed": []}),
              ("spec.model.allowed[0]", {"allowed": [1]}), ("spec.model.allowed", {"allowed": "claude-*"})],
    "network": [("spec.network.egress", {"egress": []}),
                ("spec.network.egress.allowedDomains", {"egress": {"allowedDomains": "a.org"}}),
                ("spec.network.egress.allowedDomains[0]", {"egress": {"allowedDomains": ["10.0.0.1"]}}),
                ("spec.network.egress.allowedDomains[1]", {"egress": {"allowedDomains": ["a.org", "*.com"]}}),
                ("spec.network.egress.allowedDomains", {"egress": {"allowedDomains": ["a.org"] * 1001}})],
    "budget": [("spec.budget", "20"), ("spec.budget.maxCostUSD", {"maxCostUSD": 20}),
               ("spec.budget.maxOutputTokens", {"maxOutputTokens": 0}), ("spec.budget.window", {"window": "soon"}),
               # A limit that this does not know must not be taken for none.
               ("spec.budget.maxRequests", {"maxCostUSD": "20", "maxRequests": 7}),
               ("spec.budget.maxCostUSD", {"window": "24h"}), ("spec.budget.maxCostUSD", {})],
    "repositories": [("spec.repositories", "x"), ("spec.repositories[0]", ["x"]), ("spec.repositories[0].url", [{}]),
                     ("spec.repositories[0].url", [{"url": "http://a.b/c"}]),
                     ("spec.repositories[0].url", [{"url": "ssh://git@a.b:22/c"}]),
                     ("spec.repositories[0].url", [{"url": "https://10.0.0.1/c"}]),
                     ("spec.repositories", [{"url": "https://a.b/c"}, {"url": "git@a.b:c.git"}]),
                     ("spec.repositories", [{"url": f"https://a.b/{i}"} for i in range(101)]),
                     ("spec.repositories[0].credentialsSecretRef.name",
                      [{"url": "https://a.b/c", "credentialsSecretRef": {"name": "../x"}}]),
                     ("spec.repositories[0].push.branches", [{"url": "https://a.b/c", "push": {"branches": []}}])],
    "backend": [("spec.backend", "Docker"), ("spec.backend.type", {"type": 1})],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "part", "value"), [(field, part, value) for part in WRONG for field, value in WRONG[part]], ids=str
)
def test_what_is_of_another_kind_is_refused_with_its_field(field: str, part: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        read({**SPEC, part: value})
    assert error.value.field == field


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SPEC, *STATUS, "egress", "uid"]), inner)
    ),
    max_leaves=8,
)


@given(_json, _json, st.sampled_from(sorted(SPEC)))
def test_whatever_is_there_is_read_or_refused(value: Any, status: Any, part: str) -> None:
    for obj in ({"metadata": value, "spec": value, "status": status}, sandbox({**SPEC, part: value}, status)):
        try:
            found = read_sandbox(obj)
        except ConfigError:
            continue
        assert found is None or isinstance(found, Declared)


def test_names_are_the_operators() -> None:
    assert (names.GROUP, names.VERSION, names.KIND, names.PLURAL) == (meta.GROUP, meta.VERSION, meta.KIND, meta.PLURAL)
    assert (names.USAGE_KIND, names.USAGE_PLURAL) == (meta.USAGE_KIND, meta.USAGE_PLURAL)
    assert (names.SECRET_TYPE, names.LABEL_SECRET_OPT_IN, names.LABEL_SECRET_OPT_IN_VALUE) == (
        meta.SECRET_TYPE, meta.LABEL_SECRET_OPT_IN, meta.LABEL_SECRET_OPT_IN_VALUE
    )  # fmt: skip
    assert (names.SERVICE_SECRET_TYPE, names.LABEL_SANDBOX) == (meta.SERVICE_SECRET_TYPE, meta.LABEL_SANDBOX)
    assert names.GIT_SECRET_TYPE == meta.GIT_SECRET_TYPE
    assert names.child_name("work") == meta.child_name("work")
