"""The references of the resources, generated from the models."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import CONDITIONS, MEANINGS
from claude_sandbox.api.crds import definitions
from claude_sandbox.api.credentials.leaks import REMEDY, VALUES
from claude_sandbox.api.docker_hosts.conditions import HOST_CONDITIONS, HOST_MEANINGS
from claude_sandbox.api.kinds.backups import BACKUP_CONDITIONS, BACKUP_MEANINGS
from claude_sandbox.api.status import MAX_CONTROLS, MAX_STATUS

_GENERATED = (
    "<!-- Generated from the models by `python -m claude_sandbox.api.generate`: change those, not this file. -->\n"
)

_SANDBOX = f"""\
# {meta.KIND}

Group `{meta.GROUP}`, version `{meta.VERSION}`, namespaced; short name `{meta.SHORT_NAME}`. Only the key has no default;
it is the sandbox's gateway that holds it:

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

_HOST = f"""\
# {meta.HOST_KIND}

Group `{meta.GROUP}`, version `{meta.VERSION}`, of the whole cluster; short name `{meta.HOST_SHORT_NAME}`. A Docker
Engine that sandboxes with `spec.backend.type: Docker` may run on. It is an administrator's to make: who can reach a
Docker Engine is root on its host. No namespace may use a host that does not name or select it, so who may create
sandboxes gains nothing by a host that is there.

```yaml
apiVersion: {meta.API_VERSION}
kind: {meta.HOST_KIND}
metadata:
  name: build-1
  labels:
    zone: a
spec:
  endpoint: tcp://build-1.example:2376
  credentialsSecretRef:
    name: build-1
  allowedNamespaces:
    names: [agents]
```

The Secret is in the operator's own namespace, the only one in which the operator may read such Secrets, and has to opt
in, by its type or by a label:

```sh
kubectl create secret generic build-1 --namespace claude-sandbox-system --type={meta.HOST_SECRET_TYPE} \\
  --from-file=ca.crt=ca.pem --from-file=tls.crt=cert.pem --from-file=tls.key=key.pem
```

The operator looks after Docker hosts when it is started with `--docker`.
"""

_USAGE = f"""\
# {meta.USAGE_KIND}

Group `{meta.GROUP}`, version `{meta.VERSION}`, namespaced; short name `{meta.USAGE_SHORT_NAME}`. What a sandbox has
used of the model, as [the gateway](../gateway.md) of its namespace counts it. Nobody makes one by hand. It is called as
the sandbox's `metadata.uid` and goes with the sandbox.

Who may change or delete one changes what was used of a budget. The roles that come along let people only look.
"""

_SESSION = f"""\
# {meta.SESSION_KIND}

Group `{meta.GROUP}`, version `{meta.VERSION}`, namespaced; short name `{meta.SESSION_SHORT_NAME}`. A session in a
sandbox on Docker, by [the operator's channel](../working.md#on-docker). `claude-sandbox shell`, `cp`, `logs` and `diff`
make one, prove with its secret that it is theirs, and use it once. The operator deletes it afterwards, or two minutes
after it was made where nobody used it. Who deletes one that is open ends the session.

Who may make these in a namespace may work in the namespace's sandboxes on Docker as their agents can.
"""

_BACKUP = f"""\
# {meta.BACKUP_KIND}

Group `{meta.GROUP}`, version `{meta.VERSION}`, namespaced; short name `{meta.BACKUP_SHORT_NAME}`. One backup of a
sandbox's workspace, now, which is verified by restoring it. [Backup](../backup.md) says how.

```yaml
apiVersion: {meta.API_VERSION}
kind: {meta.BACKUP_KIND}
metadata:
  generateName: alice-
  namespace: agents
spec:
  sandboxName: alice
  target:
    type: VolumeClaim
    claimName: backups
  passwordSecretRef:
    name: backups
```
"""
_IMAGE_POLICY = f"""\
# {meta.IMAGE_POLICY_KIND}

Group `{meta.GROUP}`, version `{meta.VERSION}`, of the whole cluster; short name `{meta.IMAGE_POLICY_SHORT_NAME}`. Which
images may run in sandboxes. It is an administrator's to make: it also says which registries the operator itself asks.
[Images](../images.md#which-images-may-run) says what comes of it.

```yaml
apiVersion: {meta.API_VERSION}
kind: {meta.IMAGE_POLICY_KIND}
metadata:
  name: ours
spec:
  permitted:
    - repository: registry.example.com/agents
      publicKeys:
        - |
          -----BEGIN PUBLIC KEY-----
          MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE…
          -----END PUBLIC KEY-----
  registries:
    - host: registry.example.com
```
"""
_NAMELESS = {
    meta.USAGE_KIND: _USAGE,
    meta.SESSION_KIND: _SESSION,
    meta.BACKUP_KIND: _BACKUP,
    meta.IMAGE_POLICY_KIND: _IMAGE_POLICY,
}
"""Of kinds whose names nobody chooses with care."""


def file_of(kind: definitions.Kind) -> str:
    """The file below docs/reference/."""
    return f"{kind.singular}.md"


def to_markdown(kind: definitions.Kind) -> str:
    """The page of one kind."""
    root = definitions.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    if kind.status is None or kind.name is None:
        spec = "## Spec\n\n" + "\n".join(_fields("spec", root["properties"]["spec"]))
        page = [_GENERATED + _NAMELESS[kind.kind], spec, "## Columns\n\n" + _columns(kind)]
        if kind.status is not None:
            page.append("## Status\n\n" + "\n".join(_fields("status", root["properties"]["status"])))
        if kind is definitions.BACKUP:
            page += _meanings(BACKUP_CONDITIONS, BACKUP_MEANINGS)
        return "\n".join(page)
    is_sandbox = kind is definitions.SANDBOX
    conditions: Mapping[Any, str] = CONDITIONS if is_sandbox else HOST_CONDITIONS
    meanings: Mapping[Any, str] = MEANINGS if is_sandbox else HOST_MEANINGS
    parts = [
        _GENERATED + (_SANDBOX if is_sandbox else _HOST),
        "## Name\n\n`metadata.name`: " + kind.name.message + ".\n",
        "## Spec\n\n" + "\n".join(_fields("spec", root["properties"]["spec"])),
        *([_credentials()] if is_sandbox else []),
        "## Columns\n\n" + _columns(kind),
        "## Status\n\n"
        f"The whole status takes at most {MAX_STATUS // 1024} KiB, with at most {MAX_CONTROLS} controls: longer texts"
        f" end with `…`. Until the operator has seen a {kind.word} its `status.observedGeneration` is -1, so that no"
        f" tool takes a new {kind.word} for a healthy one.\n\n"
        + "\n".join(_fields("status", root["properties"]["status"])),
        "## Conditions\n\nEvery condition is there from the first reconcile on, as `metav1.Condition`."
        " `lastTransitionTime` moves only when `status` does.\n\n"
        + _table(("Condition", "True means"), ((f"`{kind}`", meaning) for kind, meaning in conditions.items())),
        f"## Reasons\n\nThe set is closed. A {kind.word} that is not ready because it is stalled has the same reason in"
        " both conditions.\n\n"
        + _table(("Reason", "Meaning"), ((f"`{reason}`", meaning) for reason, meaning in meanings.items())),
    ]
    return "\n".join(parts)


def _meanings(conditions: Mapping[Any, str], meanings: Mapping[Any, str]) -> list[str]:
    return [
        "## Conditions\n\n"
        + _table(("Condition", "True means"), ((f"`{kind}`", meaning) for kind, meaning in conditions.items())),
        "## Reasons\n\nThe set is closed.\n\n"
        + _table(("Reason", "Meaning"), ((f"`{reason}`", meaning) for reason, meaning in meanings.items())),
    ]


def _credentials() -> str:
    return (
        "## Credentials in the spec\n\nEverybody who may read sandboxes can read their specs, so commands, arguments"
        " and environment may hold no credential. Refused is what looks like:\n\n"
        + "".join(f"- {what}\n" for what in VALUES)
        + "\nand, in the environment, every name of a credential, such as `GITHUB_TOKEN` or `DB_PASSWORD`. The API"
        " server's messages about such fields do not repeat what was written.\n"
    )


def _columns(kind: definitions.Kind) -> str:
    rows = (
        (f"`{column.name.upper()}`", column.description, "" if column.always else "`-o wide`")
        for column in kind.columns
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
    below = schema.get("items") or schema.get("additionalProperties") or {}
    rules = [*_rules(schema), *_rules(below)]
    body = f"### {path}\n\n{', '.join(facts)}\n\n{schema.get('description', '')}\n"
    # The same message may stand for several rules.
    yield body + ("\nRefused with:\n\n" + "".join(f"- {rule}\n" for rule in dict.fromkeys(rules)) if rules else "")


def _rules(schema: Mapping[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        field = rule.get("fieldPath", "").removeprefix(".")
        subject = f"`{field}` " if field else ""
        if rule["message"].endswith(REMEDY):
            where = "[Credentials in the spec](claudesandbox.md#credentials-in-the-spec)"
            yield f"what looks like a credential (see {where})"
        else:
            yield f"{subject}{rule['message']}"


def _type(schema: Mapping[str, Any]) -> str:
    if "x-kubernetes-int-or-string" in schema:
        return "quantity"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
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
    "minProperties": "at least {} entries",
    "maxProperties": "at most {} entries",
}


def _constraints(schema: Mapping[str, Any]) -> list[str]:
    shown = [word.format(schema[name]) for name, word in _WORDS.items() if name in schema and schema[name] != 1]
    if schema.get("type") == "array":
        shown += [f"each {word}" for word in _constraints(schema["items"])]
    return shown if "x-kubernetes-int-or-string" not in schema else []


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
