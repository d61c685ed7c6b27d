"""pydantic models as structural OpenAPI v3 schemas: without references, as CustomResourceDefinitions want them."""

import inspect
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic.fields import FieldInfo

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.conditions import ConditionType, Reason
from claude_sandbox.api.crds.descriptions import descriptions
from claude_sandbox.api.docker_hosts.conditions import HostConditionType, HostReason
from claude_sandbox.api.model import Model
from claude_sandbox.api.quantity import MAX_LENGTH, PATTERN, IntOrString
from claude_sandbox.api.rules import Rule, Transition, UniqueBy

Schema = dict[str, Any]

# Words that later versions may add to: the schema stays open, so that a newer operator can write its status under an
# older CRD. Bounds as metav1.Condition's.
_OPEN: dict[type, Schema] = {
    ConditionType: {"type": "string", "maxLength": 316},
    Reason: {"type": "string", "maxLength": 1024, "minLength": 1},
    HostConditionType: {"type": "string", "maxLength": 316},
    HostReason: {"type": "string", "maxLength": 1024, "minLength": 1},
}
_SCALARS: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int64"},
    datetime: {"type": "string", "format": "date-time"},
}


def object_schema(model: type[Model], *, defaults: bool) -> Schema:
    """The schema of a model; with `defaults` the API server fills in what is left out, at every level.

    Raises TypeError for a type that has no structural schema.
    """
    fields = model.model_fields
    texts = descriptions(model)
    properties = {
        _name(name, field): _property(field, texts.get(name), defaults=defaults) for name, field in fields.items()
    }
    required = [_name(name, field) for name, field in fields.items() if field.is_required()]
    return {
        "type": "object",
        "description": _text(model.__doc__),
        **({"required": required} if required else {}),
        "properties": properties,
        **validations(*model.RULES, *model.TRANSITIONS),
    }


def validations(*rules: Rule | Transition) -> Schema:
    """The rules as `x-kubernetes-validations`."""
    written = [_validation(rule) for rule in rules]
    return {"x-kubernetes-validations": written} if written else {}


def _validation(rule: Rule | Transition) -> Schema:
    written = {"rule": rule.cel, "message": rule.message}
    if rule.field:
        written["fieldPath"] = f".{rule.field}"
    if isinstance(rule, Rule) and rule.confidential:
        written["reason"] = "FieldValueForbidden"
    return written


def _property(field: FieldInfo, text: str | None, *, defaults: bool) -> Schema:
    schema = _type(field.annotation, field.metadata, defaults=defaults)
    if text:
        schema["description"] = _text(text)
    if defaults and not field.is_required() and field.default is not None:
        schema["default"] = _default(field.default)
    return schema


def _default(value: Any) -> Any:
    if isinstance(value, Model):
        return {}  # its fields bring their own
    if isinstance(value, list):
        return [_default(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value


def _type(annotation: Any, metadata: Iterable[Any], *, defaults: bool) -> Schema:
    annotation, inner = _unwrap(annotation)
    metadata = [*inner, *metadata]
    if any(isinstance(item, IntOrString) for item in metadata):
        branches = [{"type": "integer"}, {"type": "string"}]
        schema = {"x-kubernetes-int-or-string": True, "anyOf": branches, "pattern": PATTERN, "maxLength": MAX_LENGTH}
    elif get_origin(annotation) is list:
        schema = {"type": "array", "items": _type(get_args(annotation)[0], (), defaults=defaults)}
        schema |= _list_type(metadata)
    elif get_origin(annotation) is dict:
        schema = {"type": "object", "additionalProperties": _type(get_args(annotation)[1], (), defaults=defaults)}
    elif isinstance(annotation, type) and issubclass(annotation, Model):
        schema = object_schema(annotation, defaults=defaults)
    elif isinstance(annotation, type) and issubclass(annotation, StrEnum):
        schema = dict(_OPEN.get(annotation) or {"type": "string", "enum": [word.value for word in annotation]})
    elif annotation in _SCALARS:
        schema = dict(_SCALARS[annotation])
    else:
        raise TypeError(f"{annotation} has no structural schema")
    suffix = {"array": "Items", "object": "Properties"}.get(str(schema.get("type")), "Length")
    for item in metadata:
        schema |= _constraint(item, suffix)
    return schema | validations(*(item for item in metadata if isinstance(item, Rule)))


def _constraint(item: Any, suffix: str) -> Schema:
    match item:
        case MaxLen(limit):
            return {f"max{suffix}": limit}
        case MinLen(limit):
            return {f"min{suffix}": limit}
        case Clip(limit):
            return {"maxLength": limit}
        case Ge(limit):
            return {"minimum": limit}
        case Le(limit):
            return {"maximum": limit}
    return {}


def _list_type(metadata: Iterable[Any]) -> Schema:
    keys = [item.key for item in metadata if isinstance(item, UniqueBy)]
    if keys:
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
    return {"x-kubernetes-list-type": "atomic"}


def _unwrap(annotation: Any) -> tuple[Any, list[Any]]:
    """The bare type and everything said about it, without `Annotated` and `| None`."""
    metadata: list[Any] = []
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *said = get_args(annotation)
            metadata = [*_flat(said), *metadata]
        elif origin in (Union, UnionType) and NoneType in get_args(annotation):
            rest = [argument for argument in get_args(annotation) if argument is not NoneType]
            annotation = rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007
        else:
            return annotation, metadata


def _flat(said: Iterable[Any]) -> Iterator[Any]:
    for item in said:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item


def _name(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _text(documentation: str | None) -> str:
    return " ".join(inspect.cleandoc(documentation or "").split())
