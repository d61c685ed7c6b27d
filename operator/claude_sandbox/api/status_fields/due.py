"""What is due at which time: the models of `ClaudeSandbox.status.due`."""

from datetime import datetime
from typing import Annotated

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.model import Choice, Model

MOST_DUE = 20


class DueSubject(Choice):
    """What it is that has a date."""

    IMAGE = "Image"
    """The image is to be exchanged for a newer one."""
    KEY = "Key"
    """The key is to be exchanged for another."""
    BACKUP = "Backup"
    """A backup is to be verified again."""
    EXCEPTION = "Exception"
    """An exception of spec.compliance.exceptions ends, and its control counts again."""
    CERTIFICATE = "Certificate"
    """Of a DockerHost: a certificate is to be exchanged, 30 days before it ends. Of a sandbox in a cluster: that of its
    gateway, which the operator renews, should have been renewed by then, 20 days before it ends."""
    LIFETIME = "Lifetime"
    """The sandbox ends, by its ttl or shutdownTime."""


class DueDate(Model):
    """Something that is due at a time, passed or to come."""

    what: DueSubject
    """What it is."""
    name: Annotated[str, Clip(64)] = ""
    """Which one: the Secret, the control. Empty where there is one only."""
    at: datetime
    """When. Of an image whose making nothing tells, at the latest."""
    message: Annotated[str, Clip(128)] = ""
    """What to do."""
