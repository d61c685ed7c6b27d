"""What the models say to a document, and how that differs from the API server's answer."""

import re
from dataclasses import dataclass
from typing import Any

from contract_server import Answer

from claude_sandbox.api.crds import definitions
from claude_sandbox.api.validate import (
    FieldError,
    InvalidSpec,
    parse_host_spec,
    parse_spec,
    refused_host_metadata,
    refused_metadata,
)

Json = Any


@dataclass(frozen=True)
class Judgement:
    """What the models say to a document: errors, or the spec with its defaults."""

    errors: tuple[FieldError, ...]
    spec: Json


def judge(document: Json) -> Judgement:
    """The models' judgement."""
    is_host = document["kind"] == definitions.HOST.kind
    errors = (refused_host_metadata if is_host else refused_metadata)(document)
    try:
        spec = (parse_host_spec if is_host else parse_spec)(document)
    except InvalidSpec as error:
        return Judgement((*errors, *error.errors), None)
    return Judgement(errors, spec.model_dump(mode="json", by_alias=True, exclude_none=True))


def disagreement(document: Json, answer: Answer) -> str | None:
    """How the API server's answer differs from what the models say."""
    ours = judge(document)
    if answer.code not in {201, 400, 422}:
        return f"unexpected answer {answer.code}: {answer.message}"
    if answer.accepted:
        if ours.errors:
            return f"accepted by the API server, refused by the models: {ours.errors}"
        if ours.spec != answer.body["spec"]:
            return f"stored as {answer.body['spec']}, read as {ours.spec}"
        return None
    if not ours.errors:
        return f"accepted by the models, refused by the API server: {answer.message}"
    return _unlike(ours.errors, answer)


def _unlike(errors: tuple[FieldError, ...], answer: Answer) -> str | None:
    # The API server reports unknown fields first and alone, as text, also below a field of the wrong type.
    if answer.code == 400:
        named = [error for error in errors if f'unknown field "{error.path}' in answer.message]
        return None if named else f"{errors} names none of the fields in {answer.message}"
    fields = [field for field, _ in answer.causes]
    named = [error for error in errors if any(_is_about(error.path, field) for field in fields)]
    # It does not evaluate rules for a document with fields of the wrong type, missing or too long.
    complete = "some validation rules were not checked" not in answer.message
    if not named or (complete and len(named) < len(errors)):
        return f"{errors} and {answer.causes} name different fields"
    return None


def _is_about(path: str, field: str) -> bool:
    # An entry of a map is `.key` where the schema refuses it and `[key]` where a rule does.
    path, field = (re.sub(r"\[([^]0-9][^]]*)\]", r".\1", one) for one in (path, field))
    # The API server may name the whole list where an item of the wrong type kept it from evaluating a rule.
    return path == field or path.startswith((f"{field}[", f"{field}."))
