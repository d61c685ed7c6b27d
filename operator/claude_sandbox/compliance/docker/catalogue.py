"""All controls of a container, in the order in which they are reported."""

from claude_sandbox.compliance.docker import (
    filesystem,
    images,
    kernel,
    namespaces,
    network,
    operations,
    ports,
    privilege,
    resources,
    secrets,
    settings,
)
from claude_sandbox.compliance.docker.measure import Measure

MEASURES: tuple[Measure, ...] = (
    *privilege.MEASURES,
    *kernel.MEASURES,
    *namespaces.MEASURES,
    *filesystem.MEASURES,
    *resources.MEASURES,
    *network.MEASURES,
    *ports.MEASURES,
    *secrets.MEASURES,
    *settings.MEASURES,
    *images.MEASURES,
    *operations.MEASURES,
)
