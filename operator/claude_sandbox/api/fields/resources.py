"""What a workload may use at most."""

from typing import Annotated

from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.quantity import Quantity, at_least, at_most


class Resources(Strict):
    """Limits of the workload; requests equal limits for memory and ephemeral storage."""

    cpu: Annotated[Quantity, at_least("100m"), at_most("512")] = "2"
    """CPU limit, in cores."""
    memory: Annotated[
        Quantity,
        at_least("256Mi", ": Claude Code alone takes up to 210 MB; write a unit, for example 2Gi"),
        at_most("16Ti"),
    ] = "2Gi"
    """Memory limit. Files in /tmp and in the home directory count towards it."""
    ephemeral_storage: Annotated[Quantity, at_least("64Mi", ": write a unit, for example 8Gi"), at_most("64Ti")] = "8Gi"
    """Limit of the node's disk that logs, writable layers and an EmptyDir workspace may take."""
