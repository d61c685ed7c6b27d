"""What is told of a server with a repository, and what of a Secret it may ask for.

Apart from `elsewhere`, which speaks to it: to load what that needs takes longer than to list a thousand files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from claude_sandbox.backup.restic import NAME

ACCESS_KEY, SECRET_KEY, CA = "access-key-id", "secret-access-key", "ca.crt"
SSH_KEY, KNOWN_HOSTS = "ssh-privatekey", "known_hosts"
CREDENTIALS = (ACCESS_KEY, SECRET_KEY, CA, SSH_KEY, KNOWN_HOSTS)
"""Keys of a Secret that are taken; others are left where they are."""


@dataclass(frozen=True)
class Server:
    """Where it is: `path` is the bucket and what names begin with, or a directory. `address`: what is dialled."""

    kind: str
    host: str
    port: int
    address: str
    path: str
    user: str = ""
    region: str = ""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Server":
        """Raises KeyError, TypeError and ValueError."""
        found = cls(
            str(told["kind"]), str(told["host"]), int(told["port"]), str(told["address"]), str(told["path"]),
            str(told.get("user") or ""), str(told.get("region") or ""),
        )  # fmt: skip
        if found.kind not in ("S3", "SFTP") or found.host.startswith("-") or found.user.startswith("-"):
            raise ValueError("there is no such kind of server")
        return found

    @property
    def location(self) -> str:
        """As restic names the repository."""
        if self.kind == "S3":
            return f"s3:https://{self.host}:{self.port}/{self.path}/{NAME}"
        return f"sftp://{self.user}@{self.host}:{self.port}/{self.path}/{NAME}"
