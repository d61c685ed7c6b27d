"""Which Secrets a ClaudeSandbox names, and whether it has a gateway, whatever else is wrong with its spec. Pure.

Read from the object as the API server has it: the operator, and who measures without one, have to read it alike.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from claude_sandbox.api.spec import BackendType, Delivery

Raw = Mapping[str, Any]


def secrets_named(raw: Raw) -> Iterator[str]:
    """The Secret of its credential, whichever that is, and those of its repositories and services."""
    spec = raw.get("spec") or {}
    credentials = spec.get("credentials") or {}
    references = [credentials.get(name) for name in ("apiKeySecretRef", "oauthTokenSecretRef")]
    references += [one.get("credentialsSecretRef") for one in spec.get("repositories") or ()]
    sources = (((one.get("header") or {}).get("valueFrom") or {}) for one in spec.get("services") or ())
    references += [source.get("secretKeyRef") for source in sources]
    named = ((reference or {}).get("name") for reference in references)
    return (name for name in named if name)


def has_gateway(raw: Raw) -> bool:
    """Whether a gateway of its namespace is its way out: it is on Kubernetes, is to stay, and holds no key itself."""
    spec = raw.get("spec") or {}
    # Under an earlier version of the CRD nothing may be said: that is read as what it is now by default.
    brokered = (spec.get("credentials") or {}).get("delivery") != Delivery.MOUNTED
    on_docker = (spec.get("backend") or {}).get("type") == BackendType.DOCKER
    return brokered and not on_docker and not raw["metadata"].get("deletionTimestamp")
