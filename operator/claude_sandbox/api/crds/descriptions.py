"""What models say of their fields: the text below each, read from the source.

pydantic could do it (`use_attribute_docstrings`), but when a class is made: each start of the operator would parse all
models' source for what only the generated files hold.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache

from claude_sandbox.api.model import Model


def descriptions(model: type[Model]) -> dict[str, str]:
    """The texts of the model's fields by their names, inherited ones too; a field without one is left out."""
    found: dict[str, str] = {}
    for place in reversed(model.__mro__):
        if issubclass(place, Model):
            found |= _module(place.__module__).get(place.__qualname__, {})
    return found


@cache
def _module(name: str) -> dict[str, dict[str, str]]:
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    return {place.name: dict(_texts(place)) for place in tree.body if isinstance(place, ast.ClassDef)}


def _texts(place: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(place.body, place.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
