"""The stand-in for the Claude API in a cluster."""

from claude_sandbox.demo import beside
from claude_sandbox.demo.beside import Beside
from claude_sandbox.demo.provider import ALLOWED, NO_KEY, PROGRAM, Provider, StandIn
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.waiting import Say

NAME = "stand-in"
_PORT = 8080


def up(kubectl: Kubectl, image: str, say: Say) -> Provider:
    """Have it run, and say how gateways reach it. Raises SetupError."""
    say(NO_KEY)
    # All addresses of the pod: the policy says who may connect.
    command = [*PROGRAM, "", str(_PORT)]
    server = Beside(NAME, "the stand-in for the Claude API", image, command, _PORT, 80)
    beside.apply(kubectl, server)
    address = beside.ready(kubectl, server, say)
    return Provider(ALLOWED, f"http://{ALLOWED}/", StandIn(f"http://{address}", address))


def down(kubectl: Kubectl, say: Say) -> None:
    """Remove it. Raises SetupError."""
    if beside.remove(kubectl, NAME):
        say("Removed the stand-in for the Claude API: there is a key.")
