"""A ClaudeSandbox as it came over the wire becomes a spec, or errors that name the field and the remedy."""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from claude_sandbox.api.docker_hosts.spec import DockerHostSpec
from claude_sandbox.api.fields.lifecycle import utc
from claude_sandbox.api.kinds.backups import ClaudeSandboxBackupSpec
from claude_sandbox.api.kinds.image_policies import ClaudeImagePolicySpec
from claude_sandbox.api.meta import ANNOTATION_ACTIVE_AT, GROUP
from claude_sandbox.api.names import HOST_NAME, SANDBOX_NAME
from claude_sandbox.api.rules import RULE_ERROR, Rule
from claude_sandbox.api.spec import ClaudeSandboxSpec, Strict


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field. `path` is written as the API server does, for example `spec.env[0].name`.

    `message` says what to write instead. It never repeats the value, which could be a credential.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidSpec(Exception):  # noqa: N818 - named as the condition's reason
    """The document is not a sandbox or a host that could be used, because of `errors`."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = errors


S = TypeVar("S", bound=Strict)


def parse_spec(raw: Mapping[str, Any]) -> ClaudeSandboxSpec:
    """The spec of a whole ClaudeSandbox as the API server sends it. Raises InvalidSpec.

    Accepts what the CRD accepts and nothing else: no type is converted, unknown fields are refused, a null is an
    absent field, and defaults are filled in.
    """
    return _parse(ClaudeSandboxSpec, raw)


def parse_host_spec(raw: Mapping[str, Any]) -> DockerHostSpec:
    """The same for a DockerHost."""
    return _parse(DockerHostSpec, raw)


def parse_backup_spec(raw: Mapping[str, Any]) -> ClaudeSandboxBackupSpec:
    """The same for a ClaudeSandboxBackup."""
    return _parse(ClaudeSandboxBackupSpec, raw)


def parse_image_policy_spec(raw: Mapping[str, Any]) -> ClaudeImagePolicySpec:
    """The same for a ClaudeImagePolicy."""
    return _parse(ClaudeImagePolicySpec, raw)


def _parse(model: type[S], raw: Mapping[str, Any]) -> S:
    spec = raw.get("spec")
    if spec is None:
        raise InvalidSpec((FieldError("spec", _MESSAGES["missing"]),))
    try:
        return model.model_validate(spec, by_alias=True, by_name=False)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise InvalidSpec(tuple(found for detail in details for found in _errors(detail))) from None


_RESERVED_KEY = re.compile(rf"(?:[^/]+\.)?{re.escape(GROUP)}/")


def refused_metadata(raw: Mapping[str, Any]) -> tuple[FieldError, ...]:
    """What is wrong with a ClaudeSandbox's metadata.

    Labels and annotations of the operator's own are refused: they would be taken for its own words. No schema sees
    them. The name is checked as well, in case the object was made under another version of the CRD.
    """
    metadata = raw.get("metadata") or {}
    return tuple(_metadata_errors(metadata, SANDBOX_NAME, {ANNOTATION_ACTIVE_AT})) + tuple(_active_at(metadata))


def refused_host_metadata(raw: Mapping[str, Any]) -> tuple[FieldError, ...]:
    """The same for a DockerHost."""
    return tuple(_metadata_errors(raw.get("metadata") or {}, HOST_NAME))


def _active_at(metadata: Mapping[str, Any]) -> Iterable[FieldError]:
    said = (metadata.get("annotations") or {}).get(ANNOTATION_ACTIVE_AT)
    if said is not None and utc(said) is None:
        message = "must be a time in UTC, for example 2027-03-31T18:00:00Z: write one, or remove it"
        yield FieldError(f"metadata.annotations[{ANNOTATION_ACTIVE_AT}]", message)


def _metadata_errors(metadata: Mapping[str, Any], name: Rule, own: Container[str] = ()) -> Iterable[FieldError]:
    """`own`: annotations of the operator's group that are users' to write."""
    if not name.holds(metadata.get("name") or ""):
        yield FieldError("metadata.name", name.message)
    for kind in ("labels", "annotations"):
        for key in metadata.get(kind) or ():
            if _RESERVED_KEY.match(key) and not (kind == "annotations" and key in own):
                yield FieldError(f"metadata.{kind}[{key}]", f"{GROUP}/ is reserved for the operator: remove it")


def _errors(detail: ErrorDetails) -> Iterable[FieldError]:
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    context = detail.get("ctx", {})
    if detail["type"] == RULE_ERROR:
        for below, message in context["failed"]:
            yield FieldError(path + (f".{below}" if below and not below.startswith("[") else below), message)
        return
    message = _MESSAGES.get(detail["type"], detail["msg"])
    yield FieldError(path, message.format_map(context) if context else message)


_MESSAGES = {
    "missing": "Required value",
    "dict_type": "must be an object with fields",
    "too_short": "must have at least {min_length} items",
    "extra_forbidden": "unknown field: check its spelling and where it belongs, or remove it",
    "string_type": "must be a string: quote it",
    "int_type": "must be an integer, without quotes",
    "bool_type": "must be true or false, without quotes",
    "list_type": "must be a list",
    "model_type": "must be an object with fields",
    "model_attributes_type": "must be an object with fields",
    "enum": "must be one of {expected}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} items",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
