"""The kinds of reports that viewers of policies show, with the fields and rules of their published schemas.

OpenReports v1alpha1 (openreports.io) and the policy working group's v1alpha2 (wgpolicyk8s.io). What a schema does not
have an API server drops, so that an object which comes back as it was sent has no other field.
"""

from typing import Any

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.resources import OPEN_REPORTS, POLICY_REPORTS, Resource

DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition")
Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}


def _object(*required: str, **fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, **({"required": list(required)} if required else {})}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


_NAMES = ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")
_REFERENCE = {**_object(**dict.fromkeys(_NAMES, TEXT)), "x-kubernetes-map-type": "atomic"}
_EXPRESSION = _object("key", "operator", key=TEXT, operator=TEXT, values=_list(TEXT))
_TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
_SELECTOR = {**_object(matchExpressions=_list(_EXPRESSION), matchLabels=_TEXTS), "x-kubernetes-map-type": "atomic"}
_WORDS = ["pass", "fail", "warn", "error", "skip"]
_RESULT = _object(
    "policy",
    category=TEXT,
    message=TEXT,
    policy=TEXT,
    properties=_TEXTS,
    resourceSelector=_SELECTOR,
    resources=_list(_REFERENCE),
    result={**TEXT, "enum": _WORDS},
    rule=TEXT,
    scored={"type": "boolean"},
    severity={**TEXT, "enum": ["critical", "high", "low", "medium", "info"]},
    source=TEXT,
    timestamp=_object("nanos", "seconds", nanos={**NUMBER, "format": "int32"}, seconds={**NUMBER, "format": "int64"}),
)
_REPORT = {
    "apiVersion": TEXT,
    "kind": TEXT,
    "metadata": {"type": "object"},
    "results": _list(_RESULT),
    "scope": _REFERENCE,
    "scopeSelector": _SELECTOR,
    "summary": _object(**dict.fromkeys(_WORDS, NUMBER)),
}
_LIMITS = _object(maxResults=NUMBER, statusFilter=_list({**TEXT, "enum": _WORDS}))
SCHEMAS = {
    OPEN_REPORTS: _object(**_REPORT, source=TEXT, configuration=_object("limits", limits=_LIMITS)),
    POLICY_REPORTS: _object(**_REPORT),
}


def definition(resource: Resource) -> dict[str, Any]:
    """The CustomResourceDefinition of one of them."""
    version = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": SCHEMAS[resource]},
    }
    names = {"kind": resource.kind, "plural": resource.plural, "singular": resource.kind.lower()}
    return {
        "apiVersion": DEFINITIONS.api_version,
        "kind": DEFINITIONS.kind,
        "metadata": {
            "name": str(resource),
            # Groups of kubernetes.io and its like are protected by the API server.
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/wg-policy-prototypes"},
        },
        "spec": {"group": resource.group, "names": names, "scope": "Namespaced", "versions": [version]},
    }


async def serve(api: Api, resource: Resource) -> None:
    """Have the API server serve it; it does some moments later."""
    await api.apply(DEFINITIONS, definition(resource))


async def serve_no_more(api: Api, resource: Resource) -> None:
    """Have it forget the kind, and all objects of it."""
    await api.delete(DEFINITIONS, str(resource))
