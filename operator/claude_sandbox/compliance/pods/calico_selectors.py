"""Selectors of Calico's policies: expressions over labels, as far as they can be read. Pure.

The words are those of Calico's own parser (projectcalico/calico, libcalico-go/lib/selector/parser). What it has beyond
them, or what labels are not known here, makes an answer None: the selector may select.
"""

import re
from collections.abc import Callable, Mapping

Unknown = Callable[[str], bool]
"""Whether a label's value is not known here."""

LONGEST = 4096
"""Characters of an expression that is read."""
_DEEPEST = 30
_TOKEN = re.compile(
    r"""\s*(?:(?P<word>&&|\|\||==|!=|!|\(|\)|\{|\}|,|not\s+in\b|starts\s+with\b|ends\s+with\b|contains\b|in\b)"""
    r"""|(?P<call>has|all|global)\s*\(|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<label>[a-zA-Z0-9_./-]+))"""
)


def selects(expression: str, labels: Mapping[str, str], unknown: Unknown) -> bool | None:
    """Whether it selects who has `labels`; None where that can't be told."""
    if len(expression) > LONGEST:
        return None
    try:
        return _Reader(expression, labels, unknown).whole()
    except _UnreadableError:
        return None


class _UnreadableError(Exception):
    pass


class _Reader:
    """Reads an expression once, from left to right, and works it out meanwhile."""

    def __init__(self, expression: str, labels: Mapping[str, str], unknown: Unknown) -> None:
        self._tokens = list(_tokens(expression))
        self._at = 0
        self._labels = labels
        self._unknown = unknown
        self._depth = 0

    def whole(self) -> bool | None:
        if not self._tokens:
            return True
        found = self._any()
        if self._at != len(self._tokens):
            raise _UnreadableError
        return found

    def _any(self) -> bool | None:
        found = self._all()
        while self._takes("||"):
            other = self._all()
            found = True if True in (found, other) else None if None in (found, other) else False
        return found

    def _all(self) -> bool | None:
        found = self._one()
        while self._takes("&&"):
            other = self._one()
            found = False if False in (found, other) else None if None in (found, other) else True
        return found

    def _one(self) -> bool | None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _UnreadableError
        try:
            if self._takes("!"):
                found = self._one()
                return None if found is None else not found
            if self._takes("("):
                found = self._any()
                self._wants(")")
                return found
            kind, text = self._next()
            return self._called(text) if kind == "call" else self._compared(kind, text)
        finally:
            self._depth -= 1

    def _called(self, name: str) -> bool | None:
        label = self._next() if name == "has" else ("label", "")
        self._wants(")")
        if name == "has":
            return self._decided(label, lambda value: value is not None)
        # global() selects what is in no namespace, and a pod is in one.
        return name == "all"

    def _compared(self, kind: str, label: str) -> bool | None:
        _, operator = self._next()
        if operator in ("in", "not in"):
            values = self._values()
            return self._decided((kind, label), lambda value: (value in values) == (operator == "in"))
        wanted_kind, wanted = self._next()
        tests: dict[str, Callable[[str | None], bool]] = {
            # As Calico has it, what lacks the label differs from every value.
            "==": lambda value: value == wanted,
            "!=": lambda value: value != wanted,
            "contains": lambda value: value is not None and wanted in value,
            "starts with": lambda value: value is not None and value.startswith(wanted),
            "ends with": lambda value: value is not None and value.endswith(wanted),
        }
        if wanted_kind != "text" or operator not in tests:
            raise _UnreadableError
        return self._decided((kind, label), tests[operator])

    def _values(self) -> set[str]:
        self._wants("{")
        found = set()
        while not self._takes("}"):
            kind, text = self._next()
            if kind != "text":
                raise _UnreadableError
            found.add(text)
            self._takes(",")
        return found

    def _decided(self, label: tuple[str, str], test: Callable[[str | None], bool]) -> bool | None:
        kind, name = label
        if kind != "label":
            raise _UnreadableError
        return None if self._unknown(name) else test(self._labels.get(name))

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise _UnreadableError
        self._at += 1
        return self._tokens[self._at - 1]

    def _takes(self, word: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == ("word", word):
            self._at += 1
            return True
        return False

    def _wants(self, word: str) -> None:
        if not self._takes(word):
            raise _UnreadableError


def _tokens(expression: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at, text = 0, expression.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _UnreadableError
        at = match.end()
        kind, value = next((name, one) for name, one in match.groupdict().items() if one is not None)
        kind = "text" if kind in ("double", "single") else kind
        found.append((kind, re.sub(r"\s+", " ", value) if kind == "word" else value))
    return found
