"""What is known of a sandbox's relay, in the terms in which compliance is judged. Pure."""

from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.model import Observed
from claude_sandbox.backends.docker.objects import Documents
from claude_sandbox.backends.docker.relay import drift
from claude_sandbox.compliance.evidence.containers import Companion


def of(wanted: Documents, observed: Observed, capabilities: EngineCapabilities) -> Companion | None:
    """The relay as it was seen, whoever made it; None where there is none."""
    live, network = observed.relay, observed.network
    if live is None:
        return None
    if wanted.relay is None:
        return Companion(live, ("there should be none",))
    inner = str(network["Id"]) if network is not None else ""
    paths = drift.differences(
        wanted.relay, wanted.names, live, observed.relay_image, observed.outer, inner, capabilities
    )
    # One that has ended publishes nothing.
    return Companion(live, tuple(path for path in paths if path != "State.Status"))
