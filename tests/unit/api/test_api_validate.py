"""What a raw document becomes: a spec, or errors that a person can act on."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from repository import ROOT

from claude_sandbox.api.crds import definitions
from claude_sandbox.api.spec import ClaudeSandboxSpec, Profile, Retention
from claude_sandbox.api.validate import (
    FieldError,
    InvalidSpec,
    parse_host_spec,
    parse_spec,
    refused_host_metadata,
    refused_metadata,
)

DOCUMENTS = ROOT / "tests" / "api"
BACKUP = {
    "schedule": "30 2 * * *",
    "target": {"type": "VolumeClaim", "claimName": "backups"},
    "passwordSecretRef": {"name": "backups"},
}


def sandbox(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "alice"}, "spec": {"credentials": {"apiKeySecretRef": {"name": "key"}}, **spec}}


def errors(raw: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(raw)
    return {error.path: error.message for error in refused.value.errors}


def test_a_minimal_sandbox_has_safe_defaults() -> None:
    spec = parse_spec(sandbox())
    assert spec.profile is Profile.DEVELOPMENT
    # All goes by its gateway, which holds the key.
    assert spec.credentials.brokered
    assert spec.egress_cidrs == ()
    assert not spec.asks_resolver
    assert spec.workspace.effective_retention is Retention.RETAIN


def test_a_sandbox_that_holds_its_key_reaches_the_claude_api_by_its_addresses() -> None:
    spec = parse_spec(sandbox(credentials={"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}))
    assert spec.egress_cidrs == ("160.79.104.0/23", "2607:6bc0::/48")
    assert spec.asks_resolver


def test_in_production_no_sandbox_holds_its_key() -> None:
    mounted = {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}
    told = errors(sandbox(credentials=mounted, profile="Production", lifecycle={"ttl": "30d"}, backup=BACKUP))
    assert set(told) == {"spec.credentials.delivery"}
    assert "remove it" in told["spec.credentials.delivery"]


def test_in_production_what_is_not_bounded_is_refused_with_what_to_write() -> None:
    told = errors(sandbox(profile="Production"))
    assert set(told) == {"spec.budget", "spec.lifecycle", "spec.backup"}
    assert "maxCostUSD" in told["spec.budget"]
    assert "schedule" in told["spec.backup"]
    assert set(errors(sandbox(profile="Production", lifecycle={"idleTimeout": "30m"}))) == set(told)
    assert not parse_spec(sandbox(profile="Development")).in_production


@pytest.mark.parametrize(
    ("profile", "read_only", "effective"),
    [
        ("Development", None, False),
        ("Development", True, True),
        ("Development", False, False),
        ("Production", None, True),
        ("Production", True, True),
    ],
)
def test_the_profile_decides_whether_the_workspace_is_read_only(
    profile: str, read_only: bool | None, effective: bool
) -> None:
    bounds = {"budget": {"maxCostUSD": "20"}, "lifecycle": {"ttl": "30d"}, "backup": BACKUP}
    spec = parse_spec(sandbox(profile=profile, workspace={"readOnly": read_only}, **bounds))
    assert spec.effective_read_only is effective


@pytest.mark.parametrize("raw", [{}, {"spec": None}])
def test_a_sandbox_needs_a_spec(raw: Any) -> None:
    assert errors(raw) == {"spec": "Required value"}


def test_every_wrong_field_is_reported_with_its_path() -> None:
    found = errors(
        sandbox(
            resources={"cpu": "1m", "memory": "2GB"},
            env=[{"name": "A"}, {"name": "B-C"}],
            network={"ports": [{"name": "http"}]},
        )
    )
    assert list(found) == [
        "spec.env[1].name",
        "spec.resources.cpu",
        "spec.resources.memory",
        "spec.network.ports[0].containerPort",
    ]


def test_rules_about_several_fields_are_all_reported() -> None:
    found = errors(sandbox(workspace={"type": "EmptyDir", "retention": "Delete", "readOnly": True}))
    assert list(found) == ["spec.workspace.retention", "spec.workspace.readOnly"]


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({"args": ["x", 1]}, "spec.args[1]", "must be a string: quote it"),
        ({"args": "x"}, "spec.args", "must be a list"),
        ({"image": "x"}, "spec.image", "must be an object with fields"),
        (
            {"network": {"ports": [{"name": "a", "containerPort": "8080"}]}},
            "spec.network.ports[0].containerPort",
            "must be an integer, without quotes",
        ),
        ({"network": {"egress": {"dns": 1}}}, "spec.network.egress.dns", "must be true or false, without quotes"),
        ({"profile": "dev"}, "spec.profile", "must be one of 'Development' or 'Production'"),
        ({"args": ["x"] * 65}, "spec.args", "must have at most 64 items"),
        ({"args": ["x" * 4097]}, "spec.args[0]", "must have at most 4096 characters"),
        ({"resources": {"cpu": True}}, "spec.resources.cpu", "must be an integer or a string"),
        ({"operating_mode": "Suspended"}, "spec.operating_mode", "unknown field"),
    ],
)
def test_a_wrong_type_is_not_converted_and_the_message_says_what_to_write(
    spec: dict[str, Any], path: str, message: str
) -> None:
    assert message in errors(sandbox(**spec))[path]


def test_no_message_repeats_what_was_written() -> None:
    secret = "hunter2-hunter2"
    places: list[dict[str, Any]] = [
        {"profile": secret},
        {"image": {"repository": secret + ":x", "tag": secret + ":", "digest": secret}},
        {"args": [f"--password={secret}"]},
        {"env": [{"name": secret, "value": secret * 1000}]},
        {"credentials": {"apiKeySecretRef": {"name": secret + "/x", "key": secret + "/"}}},
        {"resources": {"cpu": secret}},
        {"workspace": {"storageClassName": secret + "/"}},
        {"network": {"egress": {"allowedCIDRs": [secret]}, "ports": [{"name": secret + "X", "containerPort": secret}]}},
    ]
    for spec in places:
        assert secret not in "".join(errors(sandbox(**spec)).values())


@pytest.mark.parametrize("key", ["claudesandbox.dev/sandbox", "claudesandbox.dev/", "x.claudesandbox.dev/y"])
@pytest.mark.parametrize("kind", ["labels", "annotations"])
def test_the_operators_own_labels_and_annotations_are_refused(kind: str, key: str) -> None:
    raw = sandbox()
    raw["metadata"][kind] = {"team": "research", key: "mine"}
    (error,) = refused_metadata(raw)
    assert error.path == f"metadata.{kind}[{key}]"
    assert "remove it" in error.message


@pytest.mark.parametrize("key", ["team", "example.com/claudesandbox.dev", "notclaudesandbox.dev/x"])
def test_other_labels_are_the_users_own(key: str) -> None:
    raw = sandbox()
    raw["metadata"]["labels"] = {key: "mine"}
    assert refused_metadata(raw) == ()


@pytest.mark.parametrize("name", ["", "Alice", "a.b", "a" * 46, "-a"])
def test_a_name_of_which_no_child_could_be_named_is_refused(name: str) -> None:
    assert [error.path for error in refused_metadata({"metadata": {"name": name}})] == ["metadata.name"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_any_spec_is_either_read_or_refused_with_paths(value: Any) -> None:
    before = copy.deepcopy(value)
    refused = _refused({"metadata": {"name": "a"}, "spec": value})
    assert all(error.path.startswith("spec") and error.message for error in refused)
    assert value == before


@pytest.mark.parametrize("path", sorted((DOCUMENTS / "good_documents").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_read_is_read_again_as_the_same(path: Path) -> None:
    spec = parse_spec(yaml.safe_load(path.read_text(encoding="utf-8")))
    dumped = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert parse_spec({"spec": dumped}) == spec


def test_the_defaults_keep_the_rules() -> None:
    defaults = parse_spec(sandbox()).model_dump(mode="json", by_alias=True)
    assert isinstance(parse_spec({"spec": defaults}), ClaudeSandboxSpec)


@pytest.mark.parametrize(
    ("kind", "directory"),
    [(definitions.SANDBOX, "bad_documents"), (definitions.HOST, "bad_host_documents")],
    ids=["sandbox", "host"],
)
def test_every_rule_refuses_one_of_the_bad_documents(kind: definitions.Kind, directory: str) -> None:
    reported = {error.message for raw in _documents(directory) for error in _refused(raw)}
    unused = set(_messages(definitions.definition(kind))) - reported
    assert unused == set()


def _documents(directory: str) -> Iterator[Any]:
    for path in (DOCUMENTS / directory).glob("*.yaml"):
        yield yaml.safe_load(path.read_text(encoding="utf-8"))


def _refused(raw: Any) -> tuple[FieldError, ...]:
    is_host = raw.get("kind") == definitions.HOST.kind
    refused = (refused_host_metadata if is_host else refused_metadata)(raw)
    try:
        (parse_host_spec if is_host else parse_spec)(raw)
    except InvalidSpec as error:
        return error.errors + refused
    return refused


def _messages(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [message for item in schema for message in _messages(item)]
    if not isinstance(schema, dict):
        return []
    # Rules about changes need two documents.
    own = [rule["message"] for rule in schema.get("x-kubernetes-validations", ()) if "oldSelf" not in rule["rule"]]
    return own + [message for value in schema.values() for message in _messages(value)]


def test_the_annotation_that_is_its_users_has_to_be_a_time() -> None:
    def refused(value: Any, name: str = "active-at") -> list[str]:
        raw = sandbox()
        raw["metadata"]["annotations"] = {f"claudesandbox.dev/{name}": value}
        return [error.message for error in refused_metadata(raw)]

    assert refused("2027-03-31T18:00:00Z") == refused("2027-03-31T18:00:00.123456Z") == []
    for value in ("now", "", "2027-03-31T18:00:00", "2027-03-31T18:00:00+01:00", "2027-02-30T18:00:00Z"):
        (message,) = refused(value)
        assert "for example 2027-03-31T18:00:00Z" in message
    assert refused("2027-03-31T18:00:00Z", "active-until")
    host = {"metadata": {"name": "one", "annotations": {"claudesandbox.dev/active-at": "2027-03-31T18:00:00Z"}}}
    assert refused_host_metadata(host)
