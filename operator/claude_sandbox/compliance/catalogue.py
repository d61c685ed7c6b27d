"""All controls. A new one is one more entry in the module of its family."""

from claude_sandbox.compliance import (
    filesystem,
    identity,
    images,
    kernel,
    namespaces,
    network,
    operations,
    privilege,
    resources,
    secrets,
    tenancy,
)
from claude_sandbox.compliance.control import Control

CONTROLS: tuple[Control, ...] = (
    *privilege.CONTROLS,
    *kernel.CONTROLS,
    *namespaces.CONTROLS,
    *filesystem.CONTROLS,
    *resources.CONTROLS,
    *network.CONTROLS,
    *identity.CONTROLS,
    *secrets.CONTROLS,
    *images.CONTROLS,
    *tenancy.CONTROLS,
    *operations.CONTROLS,
)
"""In the order in which they are reported."""
