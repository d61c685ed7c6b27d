"""The CustomResourceDefinition, generated from the models."""

from typing import Any

import yaml

from claude_sandbox.api import meta
from claude_sandbox.api.names import SANDBOX_NAME
from claude_sandbox.api.schema import object_schema, validations
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status import ClaudeSandboxStatus

FILE = f"{meta.GROUP}_{meta.PLURAL}.yaml"
_HEADER = "# Generated from the models by `python -m claude_sandbox.api.generate`: change those, not this file.\n"

# Before the operator has seen an object its status must not look current to kstatus, Flux and Argo CD.
NOT_YET_OBSERVED = {"observedGeneration": -1}


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition as the API server takes it (apiextensions.k8s.io/v1)."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{meta.PLURAL}.{meta.GROUP}"},
        "spec": {
            "group": meta.GROUP,
            "names": {
                "kind": meta.KIND,
                "listKind": f"{meta.KIND}List",
                "plural": meta.PLURAL,
                "singular": meta.SINGULAR,
                "shortNames": [meta.SHORT_NAME],
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": meta.VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [column.definition() for column in COLUMNS],
                    "schema": {"openAPIV3Schema": _root()},
                    "subresources": {"status": {}},
                }
            ],
        },
    }


def to_yaml() -> str:
    """The file below crds/."""
    return _HEADER + yaml.dump(definition(), Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out in full instead of as YAML aliases, which not every tool reads."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _root() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "A hardened, isolated and continuously measured sandbox for one Claude Code agent.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            # The name is declared so that the rule below may point at it.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": object_schema(ClaudeSandboxSpec, defaults=True),
            "status": object_schema(ClaudeSandboxStatus, defaults=False) | {"default": NOT_YET_OBSERVED},
        },
        **validations(SANDBOX_NAME),
    }


class Column:
    """A column of `kubectl get`. Those that are not `always` shown need `-o wide`."""

    def __init__(self, name: str, path: str, description: str, *, kind: str = "string", always: bool = True) -> None:
        self.name, self.path, self.description, self.kind, self.always = name, path, description, kind, always

    def definition(self) -> dict[str, Any]:
        """As additionalPrinterColumns wants it."""
        return {
            "name": self.name,
            "type": self.kind,
            "description": self.description,
            "jsonPath": self.path,
            "priority": 0 if self.always else 1,
        }


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


COLUMNS = (
    Column("Ready", _condition("Ready", "status"), "Whether Claude Code can run"),
    Column("Compliant", _condition("Compliant", "status"), "Whether every required control passes"),
    Column("Controls", ".status.compliance.summary.required", "Required controls: passed/all"),
    Column("Backend", ".spec.backend.type", "What runs the sandbox"),
    Column("Reason", _condition("Ready", "reason"), "Why the sandbox is ready or not"),
    Column("Age", ".metadata.creationTimestamp", "Time since the sandbox was made", kind="date"),
    Column("Profile", ".spec.profile", "Development or Production", always=False),
    Column("Mode", ".spec.operatingMode", "Running or Suspended", always=False),
    Column("Isolated", _condition("IsolationVerified", "status"), "Whether isolation was verified", always=False),
    Column("Credentials", _condition("CredentialsCurrent", "status"), "Whether the key is current", always=False),
    Column("Drifted", _condition("Drifted", "status"), "Whether the workload differs from the spec", always=False),
    Column("Heals", ".status.heals.count", "How often something was put back", kind="integer", always=False),
    Column("Workload", ".status.workload.name", "The pod", always=False),
    Column("Node", ".status.workload.node", "The node it runs on", always=False),
    Column("Message", _condition("Ready", "message"), "The same as Reason, in words", always=False),
)
