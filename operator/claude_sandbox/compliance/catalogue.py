"""All controls of pods and of containers. A new one is one more entry in the module of its family."""

from dataclasses import dataclass, replace

from claude_sandbox.compliance.control import ContainerCheck, Control, PodCheck
from claude_sandbox.compliance.controls import (
    claude_code,
    filesystem,
    identity,
    images,
    kernel,
    managed_settings,
    namespaces,
    network,
    operations,
    privilege,
    proven,
    provider_key,
    resources,
    secrets,
    tenancy,
)
from claude_sandbox.compliance.pods.undeclared import Declarations


@dataclass(frozen=True)
class Family:
    """Controls about one thing, and the risks that they answer to: OWASP's for agents (2026), Kubernetes (2025)."""

    title: str
    owasp_agentic: str = ""
    owasp_kubernetes: str = ""


FAMILIES = {
    "PRIV": Family("Privileges", "ASI05", "K01"),
    "KERN": Family("Kernel", "ASI05", "K01"),
    "NS": Family("Namespaces of the node", "ASI05", "K01"),
    "FS": Family("Files", "ASI05", "K01"),
    "RES": Family("Resources", "ASI08", "K01"),
    "NET": Family("Network", "ASI02", "K05"),
    "ID": Family("Identity", "ASI03", "K02"),
    "SEC": Family("Secrets", "ASI03", "K03"),
    "IMG": Family("Images", "ASI04"),
    "TEN": Family("Tenancy"),
    "OPS": Family("Operations", "ASI10"),
}
"""By what their controls' identifiers begin with."""

CONTROLS: tuple[Control, ...] = (
    *privilege.CONTROLS,
    *kernel.CONTROLS,
    *namespaces.CONTROLS,
    *filesystem.CONTROLS,
    *resources.CONTROLS,
    *sorted((*network.CONTROLS, *proven.CONTROLS), key=lambda control: control.id),
    *identity.CONTROLS,
    *secrets.CONTROLS,
    *managed_settings.CONTROLS,
    *provider_key.CONTROLS,
    *images.CONTROLS,
    *claude_code.CONTROLS,
    *tenancy.CONTROLS,
    *operations.CONTROLS,
)
"""In the order in which they are reported."""

POD_CONTROLS = tuple(control for control in CONTROLS if control.pod is not None)
CONTAINER_CONTROLS = tuple(control for control in CONTROLS if control.container is not None)
WITNESSED = {
    control.id: control.container.kernel
    for control in CONTROLS
    if isinstance(control.container, ContainerCheck) and control.container.kernel is not None
}
"""The controls of a container that the kernel is a second witness to, and what asks it."""
POD_WITNESSED = {
    control.id: control.pod.kernel
    for control in POD_CONTROLS
    if control.pod is not None and control.pod.kernel is not None
}
"""The controls of a pod that the kernel of its node is a second witness to, and what asks it."""


def undeclared_pod_controls(declared: Declarations) -> tuple[Control, ...]:
    """The controls of a pod that no ClaudeSandbox declares, as each says in its entry that it is judged then."""
    return tuple(
        replace(one, pod=one.pod.without_sandbox(declared)) if isinstance(one.pod, PodCheck) else one
        for one in POD_CONTROLS
    )
