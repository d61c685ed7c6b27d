"""Where a repository of backups is: a claim, a directory of a host, or a server elsewhere."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import Rule, matching

_LABEL = "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_HOST = f"{_LABEL}(?:[.]{_LABEL})*"
_PORT = "[1-9][0-9]{0,4}"
_PART = "[A-Za-z0-9_][-.A-Za-z0-9_]*"


class TargetType(Choice):
    """Where a repository of backups is."""

    VOLUME_CLAIM = "VolumeClaim"
    HOST_DIRECTORY = "HostDirectory"
    S3 = "S3"
    SFTP = "SFTP"


class S3Target(Strict):
    """A bucket of a server that speaks S3."""

    endpoint: Annotated[
        str,
        Field(min_length=9, max_length=253),
        matching(
            f"https://{_HOST}(?::{_PORT})?",
            "must be https:// and a name or an IPv4 address, with a port where that is not 443, for example"
            " https://s3.eu-central-1.amazonaws.com",
        ),
    ]
    """The server, by HTTPS. Where no public authority signed its certificate, the Secret has the one that did as
    `ca.crt`."""
    bucket: Annotated[
        str,
        Field(min_length=3, max_length=63),
        matching("[a-z0-9][-.a-z0-9]*[a-z0-9]", "must be the name of a bucket"),
    ]
    """The bucket. It has to be there: none is made."""
    prefix: (
        Annotated[
            str,
            Field(min_length=1, max_length=200),
            matching(f"{_PART}(?:/{_PART})*", "must be names with one slash between, for example teams/agents"),
        ]
        | None
    ) = None
    """What the names of all objects begin with. Namespaces that share a bucket need one each."""
    region: Annotated[str, Field(min_length=1, max_length=64), matching("[a-z0-9-]+", "must be a region's name")] = (
        "us-east-1"
    )
    """The server's region, as signatures of requests name it."""


class SFTPTarget(Strict):
    """A directory of a server that speaks SFTP."""

    host: Annotated[
        str, Field(min_length=1, max_length=253), matching(_HOST, "must be a host's name or an IPv4 address")
    ]
    """The server's name or IPv4 address."""
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    """Its port."""
    user: Annotated[
        str, Field(min_length=1, max_length=64), matching("[A-Za-z_][-.A-Za-z0-9_]*", "must be the name of a user")
    ]
    """Who logs in."""
    path: Annotated[
        str,
        Field(min_length=1, max_length=200),
        matching(f"/?{_PART}(?:/{_PART})*", "must be a directory, for example /srv/backups/agents"),
    ]
    """The directory, which has to be there; one that does not begin with a slash is below the user's home. Namespaces
    that share a server need one each."""


class CredentialsSecretRef(Strict):
    """A Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253), names.SECRET_NAME]
    """The Secret's name. It opts in by its type `claudesandbox.dev/backup`, or by that label with the value "true"."""


class BackupTarget(Strict):
    """Where the repository of backups is. It is encrypted, and the sandboxes of a namespace share what is the same in
    their workspaces.
    """

    type: TargetType
    """VolumeClaim: a claim of the namespace, for sandboxes on Kubernetes. HostDirectory: the namespace's own directory
    below the DockerHost's spec.backupDirectory, for sandboxes on Docker. S3, SFTP: a server elsewhere, for both.
    """
    claim_name: (
        Annotated[
            str,
            Field(min_length=1, max_length=253),
            matching("[a-z0-9](?:[-.a-z0-9]*[a-z0-9])?", "must be the name of a PersistentVolumeClaim"),
        ]
        | None
    ) = None
    """The PersistentVolumeClaim, in the same namespace. It opts in by the label `claudesandbox.dev/backups: "true"`."""
    s3: S3Target | None = None
    """The bucket of a target of type S3. Its address has to be public, or opened by the operator's administrator
    (--backup-network)."""
    sftp: SFTPTarget | None = None
    """The directory of a target of type SFTP. Its address has to be public, or opened by the operator's administrator
    (--backup-network)."""
    credentials_secret_ref: CredentialsSecretRef | None = None
    """What the server lets in: for S3 a Secret with the keys `access-key-id` and `secret-access-key`, and `ca.crt`
    where one is needed; for SFTP with `ssh-privatekey`, without a passphrase, and `known_hosts` with the server's own
    key. It may be the Secret with the password.
    """

    RULES = (
        Rule(
            "(self.type == 'VolumeClaim') == has(self.claimName)",
            lambda target: (target.type is TargetType.VOLUME_CLAIM) == (target.claim_name is not None),
            "names the claim of a target of type VolumeClaim: write it there, and nowhere else",
            field="claimName",
        ),
        Rule(
            "(self.type == 'S3') == has(self.s3)",
            lambda target: (target.type is TargetType.S3) == (target.s3 is not None),
            "says where a target of type S3 is: write it there, and nowhere else",
            field="s3",
        ),
        Rule(
            "(self.type == 'SFTP') == has(self.sftp)",
            lambda target: (target.type is TargetType.SFTP) == (target.sftp is not None),
            "says where a target of type SFTP is: write it there, and nowhere else",
            field="sftp",
        ),
        Rule(
            "(self.type in ['S3', 'SFTP']) == has(self.credentialsSecretRef)",
            lambda target: target.is_elsewhere == (target.credentials_secret_ref is not None),
            "names the Secret with which a target of type S3 or SFTP lets in: write it there, and nowhere else",
            field="credentialsSecretRef",
        ),
    )

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is reached by the network."""
        return self.type in (TargetType.S3, TargetType.SFTP)
