"""What a sandbox's objects are called on an engine, and by which labels they are found. Pure.

An engine knows no namespaces, and a name is the only thing that keeps two creates from both succeeding. So every name
holds a hash of what makes the sandbox unique; the readable part is for people, and may be cut.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.engine.documents import Object, labels
from claude_sandbox.blueprint.model import Identity

LABEL_CLUSTER = f"{meta.GROUP}/cluster"
"""The control plane that the sandbox is a resource of: operators of two of them may share an engine."""
LABEL_NAMESPACE = f"{meta.GROUP}/namespace"
LABEL_NAMESPACE_UID = f"{meta.GROUP}/namespace-uid"
"""Which namespace of the name: one that is deleted and made again may be somebody else's."""
LABEL_COMPONENT = meta.LABEL_COMPONENT
LABEL_FILES = f"{meta.GROUP}/files"
"""Of the volume with the managed settings: which files are beside them."""
LABEL_CLONED = f"{meta.GROUP}/cloned"
"""Of a sandbox's container: what became of its repositories, as JSON."""
LABEL_SPEC_HASH = meta.ANNOTATION_SPEC_HASH

AGENT = "agent"
HELPER = "key-delivery"
PROBE = "probe"
CLONER = "clone"
HOLDER = "holder"
"""Of what holds an EmptyDir while the sandbox's own container does not run."""
KEY = "api-key"
SETTINGS = "settings"
WORKSPACE = "workspace"
HOME = "home"
"""Of what is kept of the home."""
KEPT = (WORKSPACE, HOME)
"""Volumes that may outlive their sandbox."""
NETWORK = "network"
RELAY = "relay"
OUTER = "relay-network"
GATEWAY = "gateway"
GATEWAY_NETWORK = "gateway-network"
ACCOUNTS = "accounts"
EMPTY_DIR = "empty-dir"
"""Of the workspace of a sandbox that has it in memory."""
TOOLS = "tools"
EVIDENCE = "evidence"
"""Of what was kept of sandboxes in quarantine; it belongs to none, and outlives all."""
CANARY = "canary"
"""Of what another image is tried in."""
BACKUP = "backup"
BACKUP_WAY = "backup-way"
"""Of what leads a backup's helper to a server elsewhere."""
BACKUP_NETWORK = "backup-network"
"""Of the two networks that it is on."""
CHECKPOINT = "checkpoint"
"""Of what encrypts a frozen sandbox's memory, and of the volume where that is until then."""
PASSING = (PROBE, BACKUP, BACKUP_WAY, CANARY, CHECKPOINT)
"""Containers that stand beside a sandbox for a while, and are no part of it."""

OWN_VOLUMES = (KEY, SETTINGS, ACCOUNTS, EMPTY_DIR, CHECKPOINT)
"""Volumes that have nothing in them that outlives their sandbox."""

# Namespaces and names are DNS labels of up to 63 and 45 characters; with these cuts no name is longer than 63.
_READABLE = 18
_HASH = 10
"""Characters of base32: 50 bits."""


@dataclass(frozen=True)
class Names:
    """All names of one sandbox."""

    container: str
    helper: str
    network: str
    key: str
    settings: str
    workspace: str
    home: str
    first: str
    """The workspace of the number 1, with which the names of all others begin."""
    relay: str
    """Of the relay and of its outer network."""
    gateway: str
    """Of the gateway and of its outer network."""
    accounts: str
    """Of the gateway's volume."""
    probe: str
    cloner: str
    holder: str
    empty_dir: str
    """Of the workspace of one that has it in memory."""
    backup: str
    """Of what backs up its workspace."""
    canary: str
    """Of what another image is tried in."""
    checkpoint: str
    """Of what encrypts its memory, and of the volume where that is until then."""

    @property
    def volumes(self) -> tuple[str, str, str]:
        """Those that every container has mounted, but for one whose workspace is in memory."""
        return (self.key, self.settings, self.workspace)

    @property
    def all_volumes(self) -> tuple[str, ...]:
        """Those, what is kept of its home, its workspace in memory, and its gateway's."""
        return (*self.volumes, self.home, self.empty_dir, self.accounts)

    def number_of(self, volume: str) -> int | None:
        """Which of the sandbox's workspaces a volume is; None for any other."""
        rest = volume.removeprefix(f"{self.first}-") if volume.startswith(f"{self.first}-") else ""
        if volume == self.first:
            return 1
        return int(rest) if rest.isascii() and rest.isdecimal() else None

    @property
    def kept(self) -> dict[str, str]:
        """Those that may outlive it, and what each is."""
        return {self.workspace: WORKSPACE, self.home: HOME}


def names_of(cluster: str, identity: Identity) -> Names:
    """The names of a sandbox's objects.

    All hold a hash of the UID, so that a sandbox that was deleted and made again gets new ones, except those of
    workspace and home: these may be kept for the next sandbox of the name in the same namespace, and hold a hash of
    that one's UID.
    """
    own, kept = (_name(cluster, identity, uid) for uid in (identity.uid, identity.namespace_uid))
    return Names(
        container=own,
        helper=f"{own}-key",
        network=own,
        key=f"{own}-api-key",
        settings=f"{own}-settings",
        workspace=f"{kept}-workspace{meta.instance_suffix(identity.workspace)}",
        home=f"{kept}-home{meta.instance_suffix(identity.workspace)}",
        first=f"{kept}-workspace",
        relay=f"{own}-relay",
        gateway=f"{own}-gateway",
        accounts=f"{own}-accounts",
        probe=f"{own}-probe",
        cloner=f"{own}-clone",
        holder=f"{own}-holder",
        empty_dir=f"{own}-empty-dir",
        backup=f"{own}-backup",
        canary=f"{own}-canary",
        checkpoint=f"{own}-checkpoint",
    )


def labels_of(cluster: str, identity: Identity, component: str) -> dict[str, str]:
    """What every object of the sandbox carries; and which namespace it is of, what may outlive it, and the container
    that tells which workspace is its own.
    """
    where = {LABEL_NAMESPACE_UID: identity.namespace_uid} if identity.namespace_uid else {}
    return {
        **(where if component in (*KEPT, AGENT) else {}),
        meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
        LABEL_COMPONENT: component,
        LABEL_CLUSTER: cluster,
        LABEL_NAMESPACE: identity.namespace,
        meta.LABEL_SANDBOX: identity.name,
        meta.LABEL_SANDBOX_UID: identity.uid,
    }


def selector(cluster: str, identity: Identity | None = None) -> list[str]:
    """The `label` filter for the objects of a sandbox, or of all sandboxes of the cluster."""
    wanted = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, LABEL_CLUSTER: cluster}
    if identity is not None:
        wanted[meta.LABEL_SANDBOX_UID] = identity.uid
    return [f"{key}={value}" for key, value in wanted.items()]


def is_owned(live: Object, cluster: str, identity: Identity, component: str) -> bool:
    """Whether the object was made for this very sandbox, and not for an earlier one of the same name."""
    wanted = labels_of(cluster, identity, component)
    # The sandbox's own UID says more.
    wanted.pop(LABEL_NAMESPACE_UID, None)
    found = labels(live)
    return all(found.get(key) == value for key, value in wanted.items())


def is_kept_by(live: Object, cluster: str, identity: Identity, component: str) -> bool:
    """Whether the volume is the workspace, or the home, of a sandbox of this name in this very namespace; it may have
    been kept from an earlier one.
    """
    # A volume from before UIDs were noted is taken only where no UID is known either: the namespace may have been made
    # anew since, by somebody else.
    wanted = {LABEL_NAMESPACE_UID: "", **labels_of(cluster, identity, component)}
    del wanted[meta.LABEL_SANDBOX_UID]
    found = {LABEL_NAMESPACE_UID: "", **labels(live)}
    return all(found.get(key) == value for key, value in wanted.items())


def identity_in(found: Mapping[str, str], cluster: str) -> Identity | None:
    """Whose the labels say an object is; None where they are not this cluster's."""
    if found.get(meta.LABEL_MANAGED_BY) != meta.MANAGED_BY or found.get(LABEL_CLUSTER) != cluster:
        return None
    values = (found.get(LABEL_NAMESPACE), found.get(meta.LABEL_SANDBOX), found.get(meta.LABEL_SANDBOX_UID))
    namespace, name, uid = (value if isinstance(value, str) else None for value in values)
    return Identity(namespace, name, uid, found.get(LABEL_NAMESPACE_UID) or "") if namespace and name and uid else None


def digest_of(*parts: str) -> str:
    """50 bits of a hash, as lower-case letters and digits. No part may hold a slash, as none of Kubernetes' does."""
    found = hashlib.sha256("/".join(parts).encode()).digest()
    return base64.b32encode(found).decode().lower()[:_HASH]


def _name(cluster: str, identity: Identity, uid: str) -> str:
    readable = (part[:_READABLE].rstrip("-") for part in (identity.namespace, identity.name))
    return "-".join(("csb", *readable, digest_of(cluster, identity.namespace, identity.name, uid)))
