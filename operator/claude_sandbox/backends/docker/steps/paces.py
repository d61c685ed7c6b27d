"""How often each of the containers of a sandbox may be made anew, each with a pace of its own."""

from dataclasses import replace

from claude_sandbox.backends.docker.names import CLONER, GATEWAY, HOLDER
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Identity

# Seconds between the first two helper containers of a sandbox, and twice as long each time after.
KEY_PAUSE = 1.0
_KEY = "key"


class Paces:
    """Of all sandboxes of one engine. Each call gives the seconds to wait; 0 means now, and counts as done."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer

    def workload(self, identity: Identity) -> float:
        """Of the sandbox's own container."""
        return self._pacer.wait(identity)

    def key(self, identity: Identity) -> float:
        """Of the helpers that bring it its key."""
        return self._pacer.wait(_beside(identity, _KEY), first=KEY_PAUSE)

    def gateway(self, identity: Identity) -> float:
        """Of its gateway."""
        return self._pacer.wait(_beside(identity, GATEWAY))

    def cloner(self, identity: Identity) -> float:
        """Of what clones its repositories."""
        return self._pacer.wait(_beside(identity, CLONER), first=KEY_PAUSE)

    def holder(self, identity: Identity) -> float:
        """Of what holds its EmptyDir."""
        return self._pacer.wait(_beside(identity, HOLDER), first=KEY_PAUSE)

    def forget(self, namespace: str, name: str) -> None:
        """The sandbox is gone, or its user wants something else: all of it may be done at once."""
        self._pacer.forget(namespace, name)
        for what in (_KEY, GATEWAY, CLONER, HOLDER):
            self._pacer.forget(namespace, f"{name}/{what}")


def _beside(identity: Identity, what: str) -> Identity:
    return replace(identity, name=f"{identity.name}/{what}")
