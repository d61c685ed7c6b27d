"""The CustomResourceDefinitions, generated from the models."""

from dataclasses import dataclass
from typing import Any

import yaml

from claude_sandbox.api import meta
from claude_sandbox.api.crds.schema import object_schema, validations
from claude_sandbox.api.docker_hosts.spec import DockerHostSpec
from claude_sandbox.api.docker_hosts.status import DockerHostStatus
from claude_sandbox.api.kinds.backups import ClaudeSandboxBackupSpec, ClaudeSandboxBackupStatus
from claude_sandbox.api.kinds.image_policies import ClaudeImagePolicySpec
from claude_sandbox.api.kinds.sessions import ClaudeSandboxSessionSpec, ClaudeSandboxSessionStatus
from claude_sandbox.api.kinds.usage import ClaudeSandboxUsageSpec
from claude_sandbox.api.model import Model
from claude_sandbox.api.names import HOST_NAME, SANDBOX_NAME
from claude_sandbox.api.rules import Rule
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status import ClaudeSandboxStatus

_HEADER = "# Generated from the models by `python -m claude_sandbox.api.generate`: change those, not this file.\n"

# Before the operator has seen an object its status must not look current to kstatus, Flux and Argo CD.
NOT_YET_OBSERVED = {"observedGeneration": -1}


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


@dataclass(frozen=True)
class Kind:
    """One kind of resource: how it is called, and its models."""

    kind: str
    plural: str
    singular: str
    short_name: str
    namespaced: bool
    categories: tuple[str, ...]
    word: str
    """What one is called in a sentence."""
    description: str
    name: Rule | None
    """What it may be called; None where nobody but programs names one."""
    spec: type[Model]
    status: type[Model] | None
    """None for what is only written down."""
    columns: tuple[Column, ...]

    @property
    def crd_name(self) -> str:
        """The name of its CustomResourceDefinition."""
        return f"{self.plural}.{meta.GROUP}"

    @property
    def file(self) -> str:
        """The file below crds/."""
        return f"{meta.GROUP}_{self.plural}.yaml"


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition as the API server takes it (apiextensions.k8s.io/v1)."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": meta.GROUP,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short_name],
                **({"categories": list(kind.categories)} if kind.categories else {}),
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [
                {
                    "name": meta.VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [column.definition() for column in kind.columns],
                    "schema": {"openAPIV3Schema": _root(kind)},
                    **({"subresources": {"status": {}}} if kind.status is not None else {}),
                }
            ],
        },
    }


def to_yaml(kind: Kind) -> str:
    """The file below crds/."""
    return _HEADER + yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out in full instead of as YAML aliases, which not every tool reads."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _root(kind: Kind) -> dict[str, Any]:
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            # The name is declared so that the rule below may point at it.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": object_schema(kind.spec, defaults=True),
            **({"status": _status(kind.status)} if kind.status is not None else {}),
        },
        **(validations(kind.name) if kind.name is not None else {}),
    }


def _status(model: type[Model]) -> dict[str, Any]:
    return object_schema(model, defaults=False) | {"default": NOT_YET_OBSERVED}


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_SANDBOX_COLUMNS = (
    Column("Ready", _condition("Ready", "status"), "Whether Claude Code can run"),
    Column("Compliant", _condition("Compliant", "status"), "Whether every required control passes"),
    Column("Controls", ".status.compliance.summary.required", "Required controls: passed/all"),
    Column("Backend", ".spec.backend.type", "What runs the sandbox"),
    Column("Reason", _condition("Ready", "reason"), "Why the sandbox is ready or not"),
    Column("Age", ".metadata.creationTimestamp", "Time since the sandbox was made", kind="date"),
    Column("Profile", ".spec.profile", "Development or Production", always=False),
    Column("Mode", ".spec.operatingMode", "Running or Suspended", always=False),
    Column(
        "Since",
        _condition("Compliant", "lastTransitionTime"),
        "Time since Compliant has been what it is",
        kind="date",
        always=False,
    ),
    Column("Isolated", _condition("IsolationVerified", "status"), "Whether isolation was verified", always=False),
    Column("Credentials", _condition("CredentialsCurrent", "status"), "Whether the key is current", always=False),
    Column("Drifted", _condition("Drifted", "status"), "Whether the workload differs from the spec", always=False),
    Column("Cost", ".status.usage.costUSD", "What its requests have cost, in USD", always=False),
    Column("Budget", ".status.usage.budget.state", "Free, Short or Spent", always=False),
    Column("Ends", ".status.lifecycle.endsAt", "When its time is over by ttl or shutdownTime", always=False),
    Column("Heals", ".status.heals.count", "How often something was put back", kind="integer", always=False),
    Column("Workload", ".status.workload.name", "The pod or the container", always=False),
    Column("Node", ".status.workload.node", "The node it runs on", always=False),
    Column("Host", ".status.placement.host", "The DockerHost that was chosen", always=False),
    Column("Message", _condition("Ready", "message"), "The same as Reason, in words", always=False),
)

_HOST_COLUMNS = (
    Column("Ready", _condition("Ready", "status"), "Whether sandboxes can run on the host"),
    Column("Compliant", _condition("Compliant", "status"), "Whether every required control of the host passes"),
    Column("Controls", ".status.compliance.summary.required", "Required controls: passed/all"),
    Column("Sandboxes", ".status.sandboxes", "How many sandboxes are placed on it", kind="integer"),
    Column("Unschedulable", ".spec.unschedulable", "Whether it takes no further sandboxes", kind="boolean"),
    Column("Engine", ".status.engine.version", "The engine's version"),
    Column("Reason", _condition("Ready", "reason"), "Why the host is ready or not"),
    Column("Age", ".metadata.creationTimestamp", "Time since the host was made known", kind="date"),
    Column("Endpoint", ".spec.endpoint", "Where the engine listens", always=False),
    Column("Free-Sandboxes", ".status.free.sandboxes", "For how many there is room", kind="integer", always=False),
    Column("Free-CPU", ".status.free.cpu", "CPU that is left", always=False),
    Column("Free-Memory", ".status.free.memory", "Memory that is left", always=False),
    Column("Drained", _condition("Drained", "reason"), "How far draining is: the condition's reason", always=False),
    Column("Message", _condition("Ready", "message"), "The same as Reason, in words", always=False),
)

_USAGE_COLUMNS = (
    Column("Sandbox", ".spec.sandbox", "The sandbox"),
    Column("Cost", ".spec.costUSD", "What the window's requests have cost, in USD"),
    Column("Output", ".spec.outputTokens", "What the model has written in the window, in tokens", kind="integer"),
    Column("Requests", ".spec.requests", "How many requests were counted, ever since", kind="integer"),
    Column("Under-Way", ".spec.underWay", "How many requests hold a part of the budget", kind="integer", always=False),
    Column("Since", ".spec.windowBegan", "Time since the window began", kind="date"),
)

_SESSION_COLUMNS = (
    Column("Sandbox", ".spec.sandbox", "The sandbox"),
    Column("Opened", ".status.openedAt", "Time since somebody works in it", kind="date"),
    Column("Age", ".metadata.creationTimestamp", "Time since it was asked for", kind="date"),
)

_BACKUP_COLUMNS = (
    Column("Sandbox", ".spec.sandboxName", "The sandbox"),
    Column("Complete", _condition("Complete", "status"), "Whether the snapshot is in the repository"),
    Column("Verified", _condition("BackupVerified", "status"), "Whether it was restored and compared"),
    Column("Reason", _condition("Complete", "reason"), "How far it is, or why it failed"),
    Column("Files", ".status.files", "How many files were backed up", kind="integer"),
    Column("Bytes", ".status.sizeBytes", "What these hold", kind="integer"),
    Column("Age", ".metadata.creationTimestamp", "Time since it was asked for", kind="date"),
    Column("Snapshot", ".status.snapshot", "The snapshot in the repository", always=False),
    Column("Added", ".status.addedBytes", "How much of it was new", kind="integer", always=False),
    Column("Changed", ".status.changed", "What changed while it was read", kind="integer", always=False),
    Column("Message", _condition("Complete", "message"), "The same as Reason, in words", always=False),
)

_IMAGE_POLICY_COLUMNS = (
    Column("Permitted", ".spec.permitted[0].repository", "The first of the repositories that sandboxes may name"),
    Column("Running", ".spec.running", "What becomes of what runs already and is refused"),
    Column("Age", ".metadata.creationTimestamp", "Time since it was made", kind="date"),
)

SANDBOX = Kind(
    kind=meta.KIND,
    plural=meta.PLURAL,
    singular=meta.SINGULAR,
    short_name=meta.SHORT_NAME,
    namespaced=True,
    categories=("all",),
    word="sandbox",
    description="A hardened, isolated and continuously measured sandbox for one Claude Code agent.",
    name=SANDBOX_NAME,
    spec=ClaudeSandboxSpec,
    status=ClaudeSandboxStatus,
    columns=_SANDBOX_COLUMNS,
)
HOST = Kind(
    kind=meta.HOST_KIND,
    plural=meta.HOST_PLURAL,
    singular=meta.HOST_SINGULAR,
    short_name=meta.HOST_SHORT_NAME,
    namespaced=False,
    categories=(),
    word="host",
    description="A Docker Engine that sandboxes may run on.",
    name=HOST_NAME,
    spec=DockerHostSpec,
    status=DockerHostStatus,
    columns=_HOST_COLUMNS,
)
USAGE = Kind(
    kind=meta.USAGE_KIND,
    plural=meta.USAGE_PLURAL,
    singular=meta.USAGE_SINGULAR,
    short_name=meta.USAGE_SHORT_NAME,
    namespaced=True,
    categories=(),
    word="usage",
    description="What a ClaudeSandbox has used of the model, as the gateway of its namespace counts it.",
    name=None,
    spec=ClaudeSandboxUsageSpec,
    status=None,
    columns=_USAGE_COLUMNS,
)
SESSION = Kind(
    kind=meta.SESSION_KIND,
    plural=meta.SESSION_PLURAL,
    singular=meta.SESSION_SINGULAR,
    short_name=meta.SESSION_SHORT_NAME,
    namespaced=True,
    categories=(),
    word="session",
    description="One command or log in a ClaudeSandbox on Docker, for who made this object. `claude-sandbox` makes it.",
    name=None,
    spec=ClaudeSandboxSessionSpec,
    status=ClaudeSandboxSessionStatus,
    columns=_SESSION_COLUMNS,
)
BACKUP = Kind(
    kind=meta.BACKUP_KIND,
    plural=meta.BACKUP_PLURAL,
    singular=meta.BACKUP_SINGULAR,
    short_name=meta.BACKUP_SHORT_NAME,
    namespaced=True,
    categories=(),
    word="backup",
    description="One backup of a ClaudeSandbox's workspace, verified by restoring it.",
    name=None,
    spec=ClaudeSandboxBackupSpec,
    status=ClaudeSandboxBackupStatus,
    columns=_BACKUP_COLUMNS,
)
IMAGE_POLICY = Kind(
    kind=meta.IMAGE_POLICY_KIND,
    plural=meta.IMAGE_POLICY_PLURAL,
    singular=meta.IMAGE_POLICY_SINGULAR,
    short_name=meta.IMAGE_POLICY_SHORT_NAME,
    namespaced=False,
    categories=(),
    word="policy",
    description="Which images may run in ClaudeSandboxes.",
    name=None,
    spec=ClaudeImagePolicySpec,
    status=None,
    columns=_IMAGE_POLICY_COLUMNS,
)
KINDS = (SANDBOX, HOST, USAGE, SESSION, BACKUP, IMAGE_POLICY)
