"""What is generated is what the models say, in a form that every Kubernetes takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import ROOT

from claude_sandbox.api import generate
from claude_sandbox.api.conditions import CONDITIONS, MEANINGS, ConditionType, Reason
from claude_sandbox.api.crds import definitions, docs
from claude_sandbox.api.credentials.leaks import REMEDY
from claude_sandbox.api.docker_hosts.conditions import HOST_CONDITIONS, HOST_MEANINGS, HostConditionType, HostReason
from claude_sandbox.api.validate import parse_host_spec


def schemas(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of the CRD with the path of its field."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from schemas(child, f"{path}.{name}")
    if "items" in schema:
        yield from schemas(schema["items"], f"{path}[]")


def fields(kind: definitions.Kind, part: str) -> dict[str, dict[str, Any]]:
    """Every schema of the kind's spec or status."""
    root = definitions.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(schemas(root["properties"][part], part))


SPEC, STATUS = fields(definitions.SANDBOX, "spec"), fields(definitions.SANDBOX, "status")
HOST_SPEC, HOST_STATUS = fields(definitions.HOST, "spec"), fields(definitions.HOST, "status")


def test_the_committed_files_are_those_of_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check", str(ROOT)]) == 0, capsys.readouterr()


def test_check_names_a_file_that_differs_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main([str(tmp_path)]) == 0
    changed = tmp_path / "crds" / definitions.SANDBOX.file
    changed.write_text("edited by hand\n", encoding="utf-8")
    assert generate.main(["--check", str(tmp_path)]) == 1
    assert f"crds/{definitions.SANDBOX.file} differs" in capsys.readouterr().err
    assert changed.read_text(encoding="utf-8") == "edited by hand\n"


@pytest.mark.parametrize("kind", definitions.KINDS, ids=lambda kind: kind.word)
def test_the_file_is_the_definition(kind: definitions.Kind) -> None:
    assert yaml.safe_load(definitions.to_yaml(kind)) == definitions.definition(kind)


@pytest.mark.parametrize(("path", "schema"), [*SPEC.items(), *STATUS.items(), *HOST_SPEC.items(), *HOST_STATUS.items()])
def test_everything_is_described_and_bounded(path: str, schema: dict[str, Any]) -> None:
    if not path.endswith("[]"):
        assert schema.get("description"), path
    if schema.get("type") == "array":
        assert schema["maxItems"] <= 100
    free = schema.get("type") == "string" and "enum" not in schema and "format" not in schema
    assert not free or schema["maxLength"] <= 4096
    # Structural schemas for every Kubernetes: no references, and no `anyOf` but that of integers or strings.
    assert not schema.keys() & {"$ref", "allOf", "oneOf", "not", "nullable"}
    assert "anyOf" not in schema or schema["x-kubernetes-int-or-string"]


@pytest.mark.parametrize(("path", "schema"), [*SPEC.items(), *HOST_SPEC.items()])
def test_objects_with_defaults_inside_have_a_default_themselves(path: str, schema: dict[str, Any]) -> None:
    if "properties" not in schema or "required" in schema or path.endswith("[]") or path == "spec.credentials":
        return  # what has to be there can't be left out, so its own parts are filled in
    if path == "spec.repositories[].push":
        return  # not there means that nothing may be pushed
    if not any("default" in child for child in schema["properties"].values()):
        return
    assert schema["default"] == {}


def test_only_the_key_is_required() -> None:
    required = {path: schema["required"] for path, schema in SPEC.items() if "required" in schema}
    assert required == {
        "spec": ["credentials"],
        # Either of two, which a rule asks for.
        "spec.credentials.apiKeySecretRef": ["name"],
        "spec.credentials.oauthTokenSecretRef": ["name"],
        # Optional themselves:
        "spec.backup": ["schedule", "target", "passwordSecretRef"],
        **{f"spec.{of}.target": ["type"] for of in ("backup", "restoreFrom")},
        **{f"spec.{of}.target.s3": ["endpoint", "bucket"] for of in ("backup", "restoreFrom")},
        **{f"spec.{of}.target.sftp": ["host", "user", "path"] for of in ("backup", "restoreFrom")},
        **{f"spec.{of}.target.credentialsSecretRef": ["name"] for of in ("backup", "restoreFrom")},
        "spec.backup.passwordSecretRef": ["name"],
        "spec.backend.hostRef": ["name"],
        "spec.image.pullSecretRefs[]": ["name"],
        "spec.backend.hostSelector": ["matchLabels"],
        "spec.image": ["repository"],
        "spec.incident": ["state"],
        "spec.updatePolicy.window": ["start", "hours"],
        "spec.restoreFrom.passwordSecretRef": ["name"],
        "spec.model": ["allowed"],
        "spec.env[]": ["name"],
        "spec.security.appArmorProfile": ["type"],
        "spec.services[]": ["name", "host", "paths"],
        "spec.services[].header": ["valueFrom"],
        "spec.services[].header.valueFrom": ["secretKeyRef"],
        "spec.services[].header.valueFrom.secretKeyRef": ["name"],
        "spec.services[].registry": ["type"],
        "spec.claudeCode.settings": ["name"],
        "spec.workspace.keepHome": ["size"],
        **{f"spec.claudeCode.{one}": ["name"] for one in ("memory", "mcpServers", "agents", "commands", "skills[]")},
        "spec.compliance.exceptions[]": ["control", "reason", "owner", "expires"],
        "spec.repositories[]": ["path", "url"],
        "spec.repositories[].credentialsSecretRef": ["name"],
        "spec.network.ports[]": ["name", "containerPort"],
    }


def test_only_the_endpoint_of_a_host_is_required() -> None:
    required = {path: schema["required"] for path, schema in HOST_SPEC.items() if "required" in schema}
    assert required == {
        "spec": ["endpoint"],
        # Optional themselves:
        "spec.credentialsSecretRef": ["name"],
        "spec.incident": ["state"],
        "spec.allowedNamespaces.selector": ["matchLabels"],
        "spec.images.allowed[]": ["repository"],
        "spec.images.credentials[]": ["repository", "secretRef"],
        "spec.images.credentials[].secretRef": ["name"],
    }


def test_a_host_serves_no_namespace_unless_it_says_so() -> None:
    spec = parse_host_spec({"spec": {"endpoint": "unix:///var/run/docker.sock"}})
    assert not spec.allowed_namespaces.permits("default", {"kubernetes.io/metadata.name": "default"})


def test_rules_about_credentials_keep_the_value_out_of_the_answer() -> None:
    for path, schema in SPEC.items():
        about = [rule for rule in schema.get("x-kubernetes-validations", ()) if rule["message"].endswith(REMEDY)]
        if not path.endswith("env[].name"):
            assert {rule.get("reason") for rule in about} <= {"FieldValueForbidden"}, path


def test_what_is_only_written_down_has_no_status_and_no_rule_and_every_field_is_optional_described_and_bounded() -> (
    None
):
    version = definitions.definition(definitions.USAGE)["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    assert "subresources" not in version
    assert "status" not in root["properties"]
    assert "x-kubernetes-validations" not in str(root)
    text = docs.to_markdown(definitions.USAGE)
    for path, schema in fields(definitions.USAGE, "spec").items():
        assert schema["description"]
        assert "required" not in schema
        assert schema.get("type") != "string" or "format" in schema or schema["maxLength"] <= 1 << 20
        assert f"### {path}\n" in text


def test_words_of_the_status_that_may_grow_are_no_enumeration() -> None:
    # A newer operator under an older CRD has to be able to write its status.
    for status in (STATUS, HOST_STATUS):
        assert "enum" not in status["status.conditions[].type"]
        assert "enum" not in status["status.conditions[].reason"]


@pytest.mark.parametrize(
    ("kind", "paths", "words"),
    [
        (definitions.SANDBOX, (*SPEC, *STATUS), (*ConditionType, *Reason)),
        (definitions.HOST, (*HOST_SPEC, *HOST_STATUS), (*HostConditionType, *HostReason)),
    ],
    ids=["sandbox", "host"],
)
def test_the_reference_has_every_field_condition_and_reason(
    kind: definitions.Kind, paths: tuple[str, ...], words: tuple[str, ...]
) -> None:
    text = docs.to_markdown(kind)
    for path in paths:
        assert path.endswith("[]") or f"### {path}\n" in text
    for word in words:
        assert f"| `{word}` |" in text


def test_every_condition_and_reason_is_explained() -> None:
    assert set(CONDITIONS) == set(ConditionType)
    assert set(MEANINGS) == set(Reason)
    assert set(HOST_CONDITIONS) == set(HostConditionType)
    assert set(HOST_MEANINGS) == set(HostReason)
