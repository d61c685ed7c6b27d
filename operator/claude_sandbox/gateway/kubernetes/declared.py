"""From a ClaudeSandbox as the API server tells it to what the gateway goes by. Pure.

The operator and the CRD may be older or newer than this: what is not there is tolerated, and means what gives the
sandbox the least (no name, no key) or what the field's absence always meant (no budget, every model). What is there has
to be of the kind that it should be; else that one sandbox is refused, and no other.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from claude_sandbox.gateway.budget.ledger import Budget
from claude_sandbox.gateway.config.cluster import GitSecret, SecretKey, ServiceSecret
from claude_sandbox.gateway.config.config import Sandbox, read_budget, read_pattern
from claude_sandbox.gateway.config.fields import ConfigError, Fields
from claude_sandbox.gateway.destinations.domains import Pattern
from claude_sandbox.gateway.git.repositories import Repository, read_push, read_url
from claude_sandbox.gateway.kubernetes.names import child_name
from claude_sandbox.gateway.services.declared import Header, Service, each_once, read_header_name, read_service

_SECRET_NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*"
# A key is a name of a file too, where Secrets are mounted: neither `..` nor anything that begins so.
_SECRET_KEY = r"(?!\.\.?$|\.\.)[-._a-zA-Z0-9]{1,253}"
_UID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_MAX_DOMAINS = 1000
_MAX_MODELS = 100
_MAX_REPOSITORIES = 100


@dataclass(frozen=True)
class Pod:
    """A pod by its name and UID."""

    name: str
    uid: str


Addresses = tuple[str, ...]
"""As they are written."""


@dataclass(frozen=True)
class Declared:
    """A sandbox, and the pod that runs it according to its status, with its addresses; None as long as none does.
    `cloning`: whether its repositories are still being cloned, so that how far that is is waited for."""

    sandbox: Sandbox
    pod: Pod | None
    addresses: Addresses = ()
    cloning: bool = False


Marks = tuple[tuple[str, str | None, datetime | None], ...]
"""Secrets, which generation of each, None: all are meant; and since when."""
_CLOCKS = timedelta(minutes=1)
"""By how much those of the API server and of the operator may differ."""


def is_compromised(generation: str | None, changed: datetime | None, of: str | None, since: datetime | None) -> bool:
    """Whether a Secret's key is the one that a mark means. `changed`: when its data was written last, since a label is
    another generation of the Secret, and no other key."""
    if of is None or generation in (None, of):
        return True
    return since is not None and changed is not None and changed < since - _CLOCKS


def read_compromised(obj: Mapping[str, Any]) -> Marks:
    """The keys that a ClaudeSandbox of any backend says are compromised: its user in the spec, the operator in the
    status, of one that was on a Docker host that is.

    Raises ConfigError.
    """
    spec, status = Fields(obj.get("spec"), "spec"), Fields(obj.get("status") or {}, "status")
    found: list[tuple[str, str | None, datetime | None]] = []
    if status.has("lostKey"):
        lost = status.inner_open("lostKey")
        generation = lost.text("generation") if lost.has("generation") else None
        found.append((lost.text("secret"), generation, moment(lost.text("since", ""))))
    state, told = spec.inner_open("incident").text("state", "None"), status.inner_open("incident")
    if state not in ("KeyCompromised", "Quarantined"):
        return tuple(found)
    generation = told.text("generation") if told.has("generation") else None
    said = told.text("state", "") == "KeyCompromised"
    # A quarantine's beginning says nothing of the key's.
    since = moment(told.text("since", "")) if said else None
    if told.has("secret"):
        # Whatever the spec names since, and whether it is quarantined since.
        return (*found, (told.text("secret"), generation, since))
    if not said and state == "Quarantined":
        return tuple(found)
    credentials = spec.inner_open("credentials")
    for name in ("apiKeySecretRef", "oauthTokenSecretRef"):
        if credentials.has(name):
            # Until the operator has said which generation is meant, all are: the user's word alone has to be enough.
            found.append((_secret_name(credentials.inner_open(name)), generation if said else None, since))
            break
    return tuple(found)


def moment(text: str) -> datetime | None:
    """A time of the API server's; None for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def read_sandbox(obj: Mapping[str, Any]) -> Declared | None:
    """The sandbox of this ClaudeSandbox; None where it is not for this gateway: of another backend, or being deleted.
    One in quarantine has no pod, no key and no destination.

    Raises ConfigError, which names the field.
    """
    metadata = Fields(obj.get("metadata"), "metadata")
    if metadata.has("deletionTimestamp"):
        return None
    spec = Fields(obj.get("spec"), "spec")
    if spec.inner_open("backend").text("type", "Kubernetes") != "Kubernetes":
        return None
    name = metadata.text("name")
    credential, oauth = _credential(spec.inner_open("credentials"))
    sandbox = Sandbox(
        metadata.text("uid", pattern=_UID),
        metadata.text("namespace"),
        name,
        (),
        credential,
        oauth,
        models=_models(spec.inner_open("model")),
        allowed=_allowed(spec.inner_open("network").inner_open("egress")),
        budget=spec.inner("budget", read_budget) if spec.has("budget") else Budget(),
        services=_services(spec),
        repositories=_repositories(spec),
    )
    if spec.inner_open("incident").text("state", "None") == "Quarantined":
        # Known, so that its account goes on, and let to nothing: what it has open is dropped.
        nothing = replace(sandbox, credential=None, allowed=(), services=(), repositories=())
        return Declared(nothing, None)
    pod = _pod(obj.get("status"), child_name(name))
    addresses = _addresses(obj.get("status")) if pod is not None else ()
    return Declared(sandbox, pod, addresses, bool(sandbox.repositories) and _is_cloning(obj.get("status")))


def _credential(fields: Fields) -> tuple[SecretKey | None, bool]:
    """The Secret's key, and whether it is an OAuth token."""
    delivery = fields.choice("delivery", "Brokered", "Brokered", "Mounted")
    named = [name for name in ("apiKeySecretRef", "oauthTokenSecretRef") if fields.has(name)]
    if len(named) == 2:
        raise ConfigError(fields.path("oauthTokenSecretRef"), "a sandbox has one credential: remove this, or the other")
    if not named or delivery == "Mounted":
        return None, False
    oauth = named[0] == "oauthTokenSecretRef"
    reference = fields.inner_open(named[0])
    return SecretKey(_secret_name(reference), reference.text("key", "api-key", pattern=_SECRET_KEY)), oauth


def _repositories(fields: Fields) -> tuple[Repository, ...]:
    items = tuple(fields.items("repositories"))
    if len(items) > _MAX_REPOSITORIES:
        raise ConfigError(fields.path("repositories"), f"write {_MAX_REPOSITORIES} at most")
    found = tuple(_repository(Fields(item, path)) for item, path in items)
    if len({one.at for one in found}) != len(found):
        raise ConfigError(fields.path("repositories"), "a repository is there twice: remove one")
    return found


def _repository(fields: Fields) -> Repository:
    url, host, at = read_url(fields)
    secret = None
    if fields.has("credentialsSecretRef"):
        reference = fields.inner_open("credentialsSecretRef")
        secret = GitSecret(_secret_name(reference))
    push = fields.inner("push", read_push) if fields.has("push") else None
    return Repository(url, at, host, secret, push)


def _secret_name(reference: Fields) -> str:
    name = reference.text("name", pattern=_SECRET_NAME)
    if len(name) > 253:
        raise ConfigError(reference.path("name"), "write the name of a Secret, 253 characters at most")
    return name


def _services(spec: Fields) -> tuple[Service, ...]:
    items = tuple(spec.items("services"))
    return each_once(tuple(read_service(Fields(item, path), _header) for item, path in items), spec)


def _header(host: str, fields: Fields) -> Header:
    name, prefix = read_header_name(fields)
    reference = fields.inner_open("valueFrom").inner_open("secretKeyRef")
    secret, key = reference.text("name", pattern=_SECRET_NAME), reference.text("key", "token", pattern=_SECRET_KEY)
    return Header(name, prefix, ServiceSecret(secret, key, host))


def _models(fields: Fields) -> tuple[str, ...]:
    allowed = fields.texts("allowed") if fields.has("allowed") else None
    if allowed is not None and not 0 < len(allowed) <= _MAX_MODELS:
        # None would mean all of them.
        raise ConfigError(fields.path("allowed"), f"write 1 to {_MAX_MODELS} patterns, or leave it out for every model")
    return allowed or ()


def _allowed(fields: Fields) -> tuple[Pattern, ...]:
    items = tuple(fields.items("allowedDomains"))
    if len(items) > _MAX_DOMAINS:
        raise ConfigError(fields.path("allowedDomains"), f"write {_MAX_DOMAINS} at most")
    return tuple(read_pattern(item, path) for item, path in items)


def _pod(status: Any, expected: str) -> Pod | None:
    """The pod that the status names, if it has the one name that this sandbox's pod can have."""
    workload = status.get("workload") if isinstance(status, dict) else None
    if not isinstance(workload, dict):
        return None
    name, uid = workload.get("name"), workload.get("uid")
    # By its one possible name: who may write a status can't have another pod taken for the sandbox's.
    if name != expected or not isinstance(uid, str) or not re.fullmatch(_UID, uid):
        return None
    return Pod(expected, uid)


def _is_cloning(status: Any) -> bool:
    """Whether the status says that repositories are being cloned, for the first time or again."""
    conditions = status.get("conditions") if isinstance(status, dict) else None
    for one in conditions if isinstance(conditions, list) else ():
        if isinstance(one, dict) and one.get("type") == "RepositoriesReady":
            return one.get("status") == "False" and one.get("reason") in ("Cloning", "CloneFailed")
    return False


def _addresses(status: Any) -> Addresses:
    """Where the pod's packets come from, according to the status."""
    found = status["workload"].get("addresses")
    texts = found if isinstance(found, list) else ()
    return tuple(address for text in texts if isinstance(text, str) and (address := as_sockets_write(text)))


def as_sockets_write(text: str) -> str | None:
    """An address as this machine's sockets write it; None for what is none."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
