"""The reference of the resource, generated from the models."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from claude_sandbox.api import crd, meta
from claude_sandbox.api.conditions import CONDITIONS, MEANINGS
from claude_sandbox.api.leaks import REMEDY, VALUES
from claude_sandbox.api.names import SANDBOX_NAME
from claude_sandbox.api.status import MAX_CONTROLS, MAX_STATUS

FILE = f"{meta.SINGULAR}.md"

_INTRODUCTION = f"""\
<!-- Generated from the models by `python -m claude_sandbox.api.generate`: change those, not this file. -->
# {meta.KIND}

Group `{meta.GROUP}`, version `{meta.VERSION}`, namespaced; short name `{meta.SHORT_NAME}`. Only the key has no default:

```yaml
apiVersion: {meta.API_VERSION}
kind: {meta.KIND}
metadata:
  name: alice
  namespace: agents
spec:
  credentials:
    apiKeySecretRef:
      name: anthropic-api-key
```

The Secret has to opt in, by its type or by a label:

```sh
kubectl create secret generic anthropic-api-key --namespace agents \\
  --type={meta.SECRET_TYPE} --from-file=api-key=FILE
```

What the API server can refuse it refuses on `kubectl apply`, with a message that names the field and what to write
instead. Labels and annotations below `{meta.GROUP}/` are the operator's own: a sandbox that carries any is not started.
"""


def to_markdown() -> str:
    """The file below docs/reference/."""
    version = crd.definition()["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    parts = [
        _INTRODUCTION,
        "## Name\n\n`metadata.name`: " + SANDBOX_NAME.message + ".\n",
        "## Spec\n\n" + "\n".join(_fields("spec", root["properties"]["spec"])),
        "## Credentials in the spec\n\nEverybody who may read sandboxes can read their specs, so commands, arguments"
        " and environment may hold no credential. Refused is what looks like:\n\n"
        + "".join(f"- {what}\n" for what in VALUES)
        + "\nand, in the environment, every name of a credential, such as `GITHUB_TOKEN` or `DB_PASSWORD`. The API"
        " server's messages about such fields do not repeat what was written.\n",
        "## Columns\n\n" + _columns(),
        "## Status\n\n"
        f"The whole status takes at most {MAX_STATUS // 1024} KiB, with at most {MAX_CONTROLS} controls: longer texts"
        " end with `…`. Until the operator has seen a sandbox its `status.observedGeneration` is -1, so that no tool"
        " takes a new sandbox for a healthy one.\n\n" + "\n".join(_fields("status", root["properties"]["status"])),
        "## Conditions\n\nEvery condition is there from the first reconcile on, as `metav1.Condition`."
        " `lastTransitionTime` moves only when `status` does.\n\n"
        + _table(("Condition", "True means"), ((f"`{kind}`", meaning) for kind, meaning in CONDITIONS.items())),
        "## Reasons\n\nThe set is closed. A sandbox that is not ready because it is stalled has the same reason in"
        " both conditions.\n\n"
        + _table(("Reason", "Meaning"), ((f"`{reason}`", meaning) for reason, meaning in MEANINGS.items())),
    ]
    return "\n".join(parts)


def _columns() -> str:
    rows = (
        (f"`{column.name.upper()}`", column.description, "" if column.always else "`-o wide`") for column in crd.COLUMNS
    )
    return _table(("Column", "Shows", "Only with"), rows)


def _fields(path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    # One section for each field, so that a link can point at it.
    required = schema.get("required", ())
    yield from _section(path, schema, required=path == "spec") if "." not in path else ()
    for name, child in schema.get("properties", {}).items():
        yield from _section(f"{path}.{name}", child, required=name in required)
        yield from _below(f"{path}.{name}", child)


def _below(path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("type") == "array":
        yield from _below(f"{path}[]", schema["items"])
        return
    yield from _fields(path, schema) if "properties" in schema else ()


def _section(path: str, schema: Mapping[str, Any], *, required: bool) -> Iterator[str]:
    facts = [f"*{_type(schema)}*"]
    if required:
        facts.append("required")
    elif "default" in schema and schema["default"] != {}:
        facts.append(f"default `{json.dumps(schema['default'], ensure_ascii=False)}`")
    facts += _constraints(schema)
    rules = [*_rules(schema), *(_rules(schema["items"]) if schema.get("type") == "array" else ())]
    body = f"### {path}\n\n{', '.join(facts)}\n\n{schema.get('description', '')}\n"
    # The same message may stand for several rules.
    yield body + ("\nRefused with:\n\n" + "".join(f"- {rule}\n" for rule in dict.fromkeys(rules)) if rules else "")


def _rules(schema: Mapping[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        field = rule.get("fieldPath", "").removeprefix(".")
        subject = f"`{field}` " if field else ""
        if rule["message"].endswith(REMEDY):
            yield "what looks like a credential (see [Credentials in the spec](#credentials-in-the-spec))"
        else:
            yield f"{subject}{rule['message']}"


def _type(schema: Mapping[str, Any]) -> str:
    if "x-kubernetes-int-or-string" in schema:
        return "quantity"
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if schema["type"] == "array":
        keys = schema.get("x-kubernetes-list-map-keys")
        return f"list of {_type(schema['items'])}" + (f", by {keys[0]}" if keys else "")
    return str(schema.get("format", schema["type"]) if schema["type"] == "string" else schema["type"])


_WORDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
}


def _constraints(schema: Mapping[str, Any]) -> list[str]:
    shown = [word.format(schema[name]) for name, word in _WORDS.items() if name in schema and schema[name] != 1]
    if schema.get("type") == "array":
        shown += [f"each {word}" for word in _constraints(schema["items"])]
    return shown if "x-kubernetes-int-or-string" not in schema else []


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
