"""Elements of HTML. What they hold is escaped, unless it is an element itself."""

import json
from collections.abc import Iterable
from html import escape
from typing import Any

_VOID = frozenset({"meta", "input"})


class Markup(str):
    """HTML that was made here. Any other string is a text."""

    __slots__ = ()


Child = str | Iterable[str]


def tag(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """An element. `class_` is class, and `data_x` is data-x; None and False leave an attribute out."""
    told = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """One after the other."""
    return Markup("".join(_text(child) if isinstance(child, str) else "".join(map(_text, child)) for child in children))


def data_block(identifier: str, data: Any) -> Markup:
    """Data for a script. In it no character could end the element, or begin a comment or another script."""
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{identifier}">{text}</script>')


def raw(name: str, content: str) -> Markup:
    """A script or a style of our own, as it is: the policy names it by its hash."""
    if f"</{name}" in content.lower():
        raise ValueError(f"a {name} can't hold its own end")
    return Markup(f"<{name}>{content}</{name}>")


def _text(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text)


def _attribute(key: str, value: str | int | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
