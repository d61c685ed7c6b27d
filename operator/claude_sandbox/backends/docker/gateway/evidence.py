"""What is known of a sandbox's gateway, in the terms in which compliance is judged. Pure."""

from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.gateway import accounts
from claude_sandbox.backends.docker.gateway.drift import differences
from claude_sandbox.backends.docker.model import Observed
from claude_sandbox.backends.docker.objects import Documents
from claude_sandbox.compliance.evidence.containers import Companion

# One that has ended, or does not answer, lets nothing out.
_HARMLESS = ("State.Status", "State.Health", "Aliases")


def of(wanted: Documents, observed: Observed, capabilities: EngineCapabilities) -> Companion | None:
    """The gateway as it was seen, whoever made it; None where there is none."""
    seen, network = observed.gateway, observed.network
    if seen.container is None:
        return None
    if wanted.gateway is None:
        return Companion(seen.container, ("there should be none",))
    inner = str(network["Id"]) if network is not None else ""
    called, live = wanted.names, seen.container
    paths = differences(wanted.gateway, called, live, seen.image, seen.network, inner, capabilities)
    held = accounts.differences(
        wanted.gateway.accounts, observed.volumes.get(called.accounts), observed.accounts_elsewhere
    )
    return Companion(live, (*(path for path in paths if path not in _HARMLESS), *held), volume=called.accounts)
