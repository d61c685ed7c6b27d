"""Where declared ports are published, and why they are not, as far as this process has seen.

Theory of operation. Of each sandbox of one engine, by its identity:

- the relay that it was to have in its last pass. Another one, or none, is a new wish, which is carried out at once
  however often the relay was made before: its pace and what was told of the old one are forgotten.
- why the engine did not publish its ports. That stays until a relay runs: a pass that had to wait for the relay's pace
  has tried nothing, and still says so.
- where the engine was seen to publish them. Only that, or what a spec might have asked for, is believed of a status,
  which is what a restarted operator has instead: somebody else may have written it.

It is used by the one pass at work on a sandbox, from the event loop. A crash loses all of it; then the next pass reads
the relay, and the engine's own answer to another try says again why a port can't be had.
"""

from collections.abc import Callable
from dataclasses import replace

from claude_sandbox.backends.base import Past
from claude_sandbox.backends.docker.engine.documents import running
from claude_sandbox.backends.docker.model import Observed
from claude_sandbox.backends.docker.relay import relays
from claude_sandbox.backends.docker.relay.relays import Publishing, Relay
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Blueprint, Identity


class PublishedPorts:
    """Of all sandboxes of one engine. `publishing` tells what administrators give for declared ports now."""

    def __init__(self, pacer: Pacer, publishing: Callable[[], Publishing]) -> None:
        self._pacer = pacer
        self._publishing = publishing
        self._wanted: dict[Identity, Relay | None] = {}
        self._refused: dict[Identity, str] = {}
        self._seen: dict[Identity, dict[str, str]] = {}

    def want(self, identity: Identity, relay: Relay | None) -> None:
        """This relay is to be there now, None for none."""
        if self._wanted.get(identity) != relay:
            self._forget_tries(identity)
            self._wanted[identity] = relay

    def pace(self, identity: Identity) -> float:
        """Seconds until the relay may be made again; 0 for now, which then counts as done."""
        return self._pacer.wait(replace(identity, name=_paced_as(identity.name)))

    def believed(self, identity: Identity, relay: Relay | None, observed: Observed, past: Past) -> dict[str, str]:
        """Where declared ports were published, as far as that can be believed: a status may say what somebody wrote.

        What the engine itself was seen to have chosen counts, and else only what the sandbox might have chosen. Where
        it publishes now may be elsewhere: it chooses anew when somebody puts a relay on another network.
        """
        if relay is None:
            self._seen.pop(identity, None)
            return {}
        seen = self._seen.get(identity) or dict(relays.endpoints(relay.ports, observed.relay))
        return relays.believed(relay.ports, past.endpoints, seen, self._publishing())

    def endpoints(
        self, identity: Identity, relay: Relay | None, observed: Observed, past: Past
    ) -> tuple[tuple[str, str], ...]:
        """Where declared ports are published; of a relay that is about to be made again, where they were."""
        if relay is None:
            return ()
        found = relays.endpoints(relay.ports, observed.relay)
        if found:
            self._seen[identity] = dict(found)
        # Where the engine refused them now, they are not where they were.
        if found or identity in self._refused:
            return found
        return tuple((port.name, past.endpoints[port.name]) for port in relay.ports if port.name in past.endpoints)

    def why_not(self, blueprint: Blueprint, observed: Observed, refused: str) -> str:
        """Why a declared port is not published; empty where all are, and where there is nothing yet to publish.

        `refused`: what the engine answered in this pass.
        """
        identity, ports = blueprint.identity, blueprint.network.ports
        if observed.relay is not None and running(observed.relay):
            self._refused.pop(identity, None)
        if refused:
            self._refused[identity] = refused
        if observed.container is None:
            return ""
        return self._refused.get(identity) or relays.refusals(ports, self._publishing())

    def forget(self, identity: Identity) -> None:
        """The sandbox is gone."""
        self._wanted.pop(identity, None)
        self._seen.pop(identity, None)
        self._forget_tries(identity)

    def forget_pace(self, namespace: str, name: str) -> None:
        """A sandbox of this name is gone: the relay of the next one is made at once."""
        self._pacer.forget(namespace, _paced_as(name))

    def _forget_tries(self, identity: Identity) -> None:
        self._refused.pop(identity, None)
        self.forget_pace(identity.namespace, identity.name)


def _paced_as(name: str) -> str:
    """What the pace of a sandbox's relay is kept under: no name of a sandbox has a slash."""
    return f"{name}/relay"
