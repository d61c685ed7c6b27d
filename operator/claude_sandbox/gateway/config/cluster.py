"""What the configuration says of the cluster that the gateway runs in. Pure."""

from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.gateway.config.fields import Fields

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet mounts a pod's token, the API server's CA and the namespace."""


@dataclass(frozen=True)
class SecretKey:
    """A key of a Secret in the gateway's own namespace."""

    secret: str
    key: str


@dataclass(frozen=True)
class ServiceSecret:
    """A key of a Secret in the gateway's own namespace, with a credential for the service at `host`."""

    secret: str
    key: str
    host: str


@dataclass(frozen=True)
class GitSecret:
    """A Secret in the gateway's own namespace, with a credential for git."""

    secret: str


@dataclass(frozen=True)
class Cluster:
    """`audience`: for whom sandboxes' tokens are. `service_account`: the directory of the gateway's own. `server`: the
    API server's URL; None goes by the pod's environment. `secrets`: a directory with one for each Secret, where the
    gateway may not ask for them; None asks the API server."""

    audience: str
    service_account: Path
    server: str | None
    secrets: Path | None


def read_cluster(fields: Fields) -> Cluster:
    """Raises ConfigError."""
    secrets = fields.optional("secretsDirectory", r"/[^\x00-\x1f\x7f]*")
    return Cluster(
        fields.text("audience", pattern=r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,252}"),
        Path(fields.text("serviceAccountDirectory", SERVICE_ACCOUNT, pattern=r"/[^\x00-\x1f\x7f]*")),
        fields.optional("server", r"https://[A-Za-z0-9.\[\]:-]+"),
        Path(secrets) if secrets else None,
    )
