"""Who trusts whom, and what Secrets are encrypted with. Every file is root's alone; services get copies of theirs."""

import base64
import secrets

import yaml

from claude_sandbox.localcluster import kubeconfig
from claude_sandbox.localcluster.layout import write_private
from claude_sandbox.localcluster.pki import pki
from claude_sandbox.localcluster.pki.certificates import Subject
from claude_sandbox.machine.places import CONTROLLERS, OPERATOR, Places
from claude_sandbox.machine.rights import USER
from claude_sandbox.machine.settings import Settings
from claude_sandbox.trail.keys import new_private_key, public_pem, signer

ADMIN = "admin"
SESSIONS = "sessions"
_NAME = "machine"
_LOOPBACK = ("127.0.0.1", "localhost")
_AUTHORITIES = ("ca", "etcd-ca")


def subjects() -> dict[str, tuple[str, Subject]]:
    """Every leaf certificate by its file's name: the authority that signs it, and what it says."""
    return {
        "apiserver": ("ca", Subject("kube-apiserver", server=True, client=False, names=_LOOPBACK)),
        ADMIN: ("ca", Subject("kubernetes-admin", ("system:masters",))),
        CONTROLLERS: ("ca", Subject("system:kube-controller-manager")),
        OPERATOR: ("ca", Subject(USER)),
        # By which people work in sandboxes: who trusts the API server trusts it.
        SESSIONS: ("ca", Subject("claude-sandbox-sessions", server=True, client=False, names=_LOOPBACK)),
        # etcd speaks to itself as a client (its gateway), so its certificate is both.
        "etcd": ("etcd-ca", Subject("etcd", server=True, names=_LOOPBACK)),
        "apiserver-etcd-client": ("etcd-ca", Subject("kube-apiserver-etcd-client")),
    }


def ensure(places: Places, settings: Settings) -> None:
    """Make what is missing, and anew what is about to expire."""
    for directory in (places.config, places.pki):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    pki.ensure(places.pki, subjects(), _AUTHORITIES)
    for user in (ADMIN, CONTROLLERS, OPERATOR):
        kubeconfig.ensure(places.kubeconfig(user), _NAME, user, settings.server, places.pki)
    # Never made anew: no Secret that is stored could be read with another.
    if not places.encryption.exists():
        write_private(places.encryption, encryption(secrets.token_bytes(32)))
    # Nor this: what was signed with it would be nobody's.
    if not places.trail_key.exists():
        write_private(places.trail_key, new_private_key())
    write_private(places.trail_public_key, public_pem(signer(places.trail_key).key))


def encryption(key: bytes) -> str:
    """The API server's EncryptionConfiguration for Secrets: nothing of theirs is in etcd, or a backup of it, in clear.

    `key` has 32 bytes. What is not encrypted would not be read either.
    """
    provider = {"secretbox": {"keys": [{"name": "key1", "secret": base64.b64encode(key).decode()}]}}
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [provider]}],
    }
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text
