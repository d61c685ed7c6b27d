"""What all models of the resource have in common: how they read the wire."""

from enum import StrEnum
from typing import Any, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from claude_sandbox.api.rules import Rule, Transition, rule_error


class Model(BaseModel):
    """Base of all models: camelCase on the wire, unknown fields refused, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
    )
    RULES: ClassVar[tuple[Rule, ...]] = ()
    TRANSITIONS: ClassVar[tuple[Transition, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        # As the API server: no field is nullable, and it removes a null before it validates.
        if type(data) is dict and None in data.values():
            known = cls.__pydantic_fields__
            aliases = {field.alias for field in known.values()} | known.keys()
            return {key: value for key, value in data.items() if value is not None or key not in aliases}
        return data

    @model_validator(mode="after")
    def _rules(self) -> Self:
        failed = [(rule.field, rule.message) for rule in self.RULES if not rule.holds(self)]
        if failed:
            raise rule_error(*failed)
        return self


class Choice(StrEnum):
    """One of a few words. Its value is accepted also where types are strict."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cast(CoreSchema, {**handler(source), "strict": False})
