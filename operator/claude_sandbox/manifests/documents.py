"""From the text of a file to the documents in it: YAML or JSON, several of them, or what Helm prints.

Each document is read by itself, so that a broken one is told by its line and does not stop the others. YAML is read as
kubectl and Compose read it: a date is a text, and `22:22` is no number of base 60.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from claude_sandbox.api.clip import plain

MOST_NODES = 200_000
"""How many values a document may have, aliases counted as often as they are used: a few lines can ask for billions."""
_DEEPEST = 100
"""How deep values may be in each other. A ClaudeSandbox has some 8, a Deployment some 15."""
_BEGINS = re.compile(r"(?m)^---(?=\s|$)")
_DRY_RUN = re.compile(r"\ANAME: .*?^MANIFEST:[ \t]*$", re.DOTALL | re.MULTILINE)
"""What `helm install --dry-run` prints before the manifests."""
_NOTES = re.compile(r"(?m)^NOTES:[ \t]*$")


@dataclass(frozen=True)
class Document:
    """One document, and the line of its file (from 1) on which it begins."""

    file: str
    line: int
    value: Mapping[str, Any]
    directory: str = ""
    """What paths that begin with a dot are relative to; empty where that is not known."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """The lines on which services of a Compose file begin."""
    at: tuple[int, ...] = (0,)
    """Where it is: the number of its part of the file (`parts`), and in a list the number of its item."""


@dataclass(frozen=True)
class Problem:
    """Something that could not be judged. Repeats no value of the text, which could hold a secret."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        """For a terminal: the names in it are those of a file that anybody may have written."""
        return plain(f"{self.file}:{self.line}: {self.message}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    yaml_implicit_resolvers = {
        first: [one for one in those if not one[0].endswith((":timestamp", ":int", ":float"))]
        for first, those in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_INT = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|nan)")
for _tag, _pattern in (("int", _INT), ("float", _FLOAT)):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern.pattern})$"), list("-+.0123456789")
    )


@dataclass(frozen=True)
class Text:
    """What is in a file. `directory` as of `Document`."""

    file: str
    text: str
    directory: str = ""


def documents(source: Text) -> tuple[tuple[Document, ...], tuple[Problem, ...]]:
    """What is in the text, in its order, and what is wrong with it. Empty documents are none."""
    found: list[Document] = []
    problems: list[Problem] = []
    file = source.file
    for number, line, value, lines in _values(file, source.text.removeprefix("\ufeff"), problems):
        for at, one in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(one, Mapping):
                where = (number,) if at is None else (number, at)
                found.append(Document(file, line, one, source.directory, lines, where))
            else:
                problems.append(Problem(file, line, "the document holds no object with fields"))
    return tuple(found), tuple(problems)


def _values(file: str, text: str, problems: list[Problem]) -> Iterator[tuple[int, int, Any, Mapping[str, int]]]:
    """The number of each part, the line on which it begins, its value, and the lines of services in it."""
    if is_json(text) and (found := _json(text)) is not None:
        yield from ((number, line, value, {}) for number, (line, value) in enumerate(found))
        return
    for number, (offset, part) in enumerate(parts(text)):
        if part.lstrip().startswith("%"):
            # Directives (%YAML 1.2) are alone in what comes before the first document.
            continue
        try:
            node, value = _read(part)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
            line = offset + 1 + (mark.line if mark is not None else 0)
            problems.append(Problem(file, line, f"it is not YAML: {getattr(error, 'problem', None) or 'unreadable'}"))
        except (_TooMuchError, RecursionError) as error:
            problems.append(Problem(file, offset + 1, str(error) or "its values are nested too deep"))
        except (ValueError, OverflowError):
            problems.append(Problem(file, offset + 1, "it holds a number that can't be read"))
        else:
            if value is not None:
                yield number, offset + 1 + node.start_mark.line, value, _service_lines(node, offset)


def is_json(text: str) -> bool:
    """Whether it begins as JSON does; YAML may begin the same way."""
    return text.lstrip().startswith(("{", "["))


def _json(text: str) -> list[tuple[int, Any]] | None:
    """JSON texts one after the other; None where it is none: YAML may begin the same way."""
    decoder, position, found = json.JSONDecoder(), 0, []
    try:
        while rest := text[position:].lstrip():
            position = len(text) - len(rest)
            begins = position
            value, position = decoder.raw_decode(text, position)
            found.append((text.count("\n", 0, begins) + 1, value))
    except (json.JSONDecodeError, RecursionError):
        return None
    return found


def parts(text: str) -> Iterator[tuple[int, str]]:
    """Each document of a stream, with the number of lines before it. `---` in the first column always begins one."""
    if match := _DRY_RUN.match(text):
        notes = _NOTES.search(text, match.end())
        text = "\n" * text.count("\n", 0, match.end()) + text[match.end() : notes.start() if notes else None]
    starts = [0, *(match.start() for match in _BEGINS.finditer(text)), len(text)]
    line = 0
    for start, end in itertools.pairwise(starts):
        part = text[start:end]
        yield line, part
        line += part.count("\n")


def _service_lines(node: yaml.Node, offset: int) -> dict[str, int]:
    top = node.value if isinstance(node, yaml.MappingNode) else ()
    those = next((value for key, value in top if key.value == "services" and isinstance(value, yaml.MappingNode)), None)
    return {key.value: offset + 1 + key.start_mark.line for key, _ in those.value} if those is not None else {}


class _TooMuchError(Exception):
    pass


def _read(part: str) -> tuple[yaml.Node, Any]:
    """Raises yaml.YAMLError and _TooMuchError. What is no value at all is None."""
    loader = _Loader(part)
    try:
        node = loader.get_single_node()
        if node is None:
            return yaml.ScalarNode("", ""), None
        _count(node, {}, set(), 0)
        return node, loader.construct_document(node)
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int], open_: set[int], depth: int) -> int:
    """How many values there are. Raises _TooMuchError where there are too many, or one is within itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if (found := known.get(id(node))) is not None:
        return found
    if id(node) in open_:
        raise _TooMuchError("a value holds itself, by an alias")
    if depth > _DEEPEST:
        raise _TooMuchError("its values are nested too deep")
    open_.add(id(node))
    total = 1
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            total += 1 + _count(value, known, open_, depth + 1)
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in keys:
                    # Which of two counts depends on who reads it: what is judged could be the other.
                    raise yaml.constructor.ConstructorError(None, None, "a key is there twice", key.start_mark)
                keys.add(key.value)
    else:
        for value in node.value:
            total += _count(value, known, open_, depth + 1)
    if total > MOST_NODES:
        raise _TooMuchError(f"it has more than {MOST_NODES} values, aliases counted as often as they are used")
    open_.remove(id(node))
    known[id(node)] = total
    return total
