"""Names that are part of the contract: group, kind, labels, annotations, names of children."""

import hashlib

GROUP = "claudesandbox.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ClaudeSandbox"
PLURAL = "claudesandboxes"
SINGULAR = "claudesandbox"
SHORT_NAME = "csb"

HOST_KIND = "DockerHost"
HOST_PLURAL = "dockerhosts"
HOST_SINGULAR = "dockerhost"
HOST_SHORT_NAME = "dh"

USAGE_KIND = "ClaudeSandboxUsage"
USAGE_PLURAL = "claudesandboxusages"
USAGE_SINGULAR = "claudesandboxusage"
USAGE_SHORT_NAME = "csbu"

SESSION_KIND = "ClaudeSandboxSession"
SESSION_PLURAL = "claudesandboxsessions"
SESSION_SINGULAR = "claudesandboxsession"
SESSION_SHORT_NAME = "csbs"

BACKUP_KIND = "ClaudeSandboxBackup"
BACKUP_PLURAL = "claudesandboxbackups"
BACKUP_SINGULAR = "claudesandboxbackup"
BACKUP_SHORT_NAME = "csbb"

IMAGE_POLICY_KIND = "ClaudeImagePolicy"
IMAGE_POLICY_PLURAL = "claudeimagepolicies"
IMAGE_POLICY_SINGULAR = "claudeimagepolicy"
IMAGE_POLICY_SHORT_NAME = "cip"

FIELD_MANAGER = "claude-sandbox"

LEASE = "claude-sandbox-operator"
"""What the operator's replicas are elected by."""

# On everything that belongs to a sandbox. Labels only index; who owns an object is decided by UID.
LABEL_SANDBOX = f"{GROUP}/sandbox"
LABEL_SANDBOX_UID = f"{GROUP}/sandbox-uid"
LABEL_COMPONENT = f"{GROUP}/component"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "claude-sandbox-operator"

# A Secret opts in to being used by sandboxes by its type, or by this label for Secrets that other tools make.
SECRET_TYPE = f"{GROUP}/api-key"
LABEL_SECRET_OPT_IN = f"{GROUP}/api-key"
LABEL_SECRET_OPT_IN_VALUE = "true"
# One with a credential for a service: its type, and the label's name.
SERVICE_SECRET_TYPE = f"{GROUP}/service"
# One with a credential for git: its type, and the label's name.
GIT_SECRET_TYPE = f"{GROUP}/git"
# A Secret with which the operator connects to a Docker host opts in in the same two ways.
# One with the password of a repository of backups: its type, and the label's name.
BACKUP_SECRET_TYPE = f"{GROUP}/backup"
LABEL_BACKUPS = f"{GROUP}/backups"
"""By this label, with the value "true", a PersistentVolumeClaim opts in to holding backups."""
LABEL_BACKUP_UID = f"{GROUP}/backup-uid"
"""On what makes a backup: the ClaudeSandboxBackup's."""
LABEL_CANARY_UID = f"{GROUP}/canary-uid"
"""On what another image is tried in beside a sandbox: the ClaudeSandbox's."""
ANNOTATION_SCHEDULED_AT = f"{GROUP}/scheduled-at"
"""On a ClaudeSandboxBackup that was made by a schedule, beside the label with its sandbox's UID: for which time."""
FINALIZER = f"{GROUP}/docker"
"""Keeps a sandbox on Docker until what it has on its host is removed."""
HOST_SECRET_TYPE = f"{GROUP}/docker-host"
LABEL_HOST_SECRET_OPT_IN = f"{GROUP}/docker-host"
# Where the operator may not look at Secrets at all, a namespace's administrator names those that opt in.
ANNOTATION_NAMESPACE_SECRETS = f"{GROUP}/api-key-secrets"

# Which Secrets of the type kubernetes.io/dockerconfigjson the namespace's sandboxes may have images pulled with.
ANNOTATION_NAMESPACE_PULL_SECRETS = f"{GROUP}/pull-secrets"

ANNOTATION_ACTIVE_AT = f"{GROUP}/active-at"
"""On a ClaudeSandbox, the one that is its users' to write: when somebody last used it, or wanted to, in RFC 3339."""

LABEL_CLAUDE_CODE = f"{GROUP}/claude-code"
"""By this label, with the value "true", a ConfigMap opts in to telling Claude Code something in sandboxes."""

# On the pod.
ANNOTATION_KEY_GENERATION = f"{GROUP}/api-key-generation"
ANNOTATION_SPEC_HASH = f"{GROUP}/spec-hash"
ANNOTATION_MANAGED_SETTINGS = f"{GROUP}/managed-settings"

ANNOTATION_FILE = f"{GROUP}/file-"
"""What the names of annotations begin with that are files beside the managed settings."""

ANNOTATION_GATEWAY_AUTHORITY = f"{GROUP}/gateway-authority"
# On the gateway's pods.
ANNOTATION_GATEWAY = f"{GROUP}/gateway"
ANNOTATION_GATEWAY_CERTIFICATE = f"{GROUP}/gateway-certificate"

COMPONENT_GATEWAY = "gateway"
COMPONENT_CANARY = "canary"
COMPONENT_REPORT = "report"
"""Of a ClaudeSandboxUsage in which gateways report, and of no account."""
GATEWAY = "claude-sandbox-gateway"
"""The name of everything that a namespace's gateway consists of, and whose the tokens of its sandboxes are for."""
GATEWAY_TLS = f"{GATEWAY}-tls"
"""The Secret with the gateway's certificate."""

# "sandbox-" + 45 + "-workspace" is 63, the longest name that a Service or a label's value may have.
MAX_NAME_LENGTH = 45
# The longest value of a label: objects on a host are found by it.
MAX_HOST_NAME_LENGTH = 63


PROBE_PREFIX = "probe-"
"""What the names of pods begin with that try what can be reached from a sandbox's place; its own begin otherwise."""


def child_name(sandbox: str) -> str:
    """The name of the pod, the ServiceAccount, the NetworkPolicy and the Service of the sandbox."""
    return f"sandbox-{sandbox}"


def file_annotation(path: str) -> str:
    """The pod's annotation with a file that is beside the managed settings, at this path."""
    return f"{ANNOTATION_FILE}{hashlib.sha256(path.encode()).hexdigest()[:16]}"


def report_name(uid: str) -> str:
    """The name of the ClaudeSandboxUsage with what gateways report of the sandbox."""
    return f"{uid}-report"


def workspace_name(sandbox: str, instance: int | None = None) -> str:
    """The name of the claim of one of the sandbox's workspaces; None: the first."""
    return f"{child_name(sandbox)}-workspace{instance_suffix(instance)}"


def home_name(sandbox: str, instance: int | None = None) -> str:
    """The name of the claim of what is kept of the sandbox's home, beside that workspace."""
    return f"{child_name(sandbox)}-home{instance_suffix(instance)}"


def instance_suffix(instance: int | None) -> str:
    """What stands behind the names of all workspaces but the first."""
    return f"-{instance}" if instance is not None and instance > 1 else ""


# Denies everything to every sandbox of a namespace, whatever happens to a sandbox's own policy: while a deleted
# sandbox's objects are collected in any order, its pod never runs without a policy.
BASELINE_POLICY = "claude-sandbox-default-deny"
