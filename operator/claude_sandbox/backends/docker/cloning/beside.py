"""What clones a sandbox's repositories into its workspace: a container of its own. Pure.

It is what a Kubernetes pod's init container is: of the operator's image, whatever the sandbox's is, as the agent's
user, as confined as the agent, on the sandbox's network, with its placeholder of a key. It alone has the workspace for
writing where the agent has it read-only, and neither what is kept of the home nor the ports. When it has ended well the
sandbox's own container is made, with what it said as a label, and it is removed. So no agent is in the workspace before
all is there, and none can say afterwards that something else was cloned.
"""

from dataclasses import replace

from claude_sandbox.backends.base import Cloning
from claude_sandbox.backends.cloning import outcomes_of, wished
from claude_sandbox.backends.docker.cloning.within import FIRST, OUTCOMES, told_to
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.blueprint import agent
from claude_sandbox.blueprint.model import Blueprint, NetworkRules
from claude_sandbox.blueprint.repositories import CLONE_COMMAND, GIT_CONFIG, REPOSITORIES_VARIABLE, wishes

# The program tries again by itself until all is there, and then becomes this.
_THEN = ("/bin/true",)


def cloner_of(blueprint: Blueprint) -> Blueprint | None:
    """The workload that clones for a sandbox, as hardened as that; None where none is needed."""
    git = blueprint.git
    if git is None:
        return None
    environment = {
        **agent.environment(agent.BY_GATEWAY),
        **agent.git_environment(GIT_CONFIG),
        REPOSITORIES_VARIABLE: wishes(git.clones),
    }
    return replace(
        blueprint,
        image=git.image,
        tools=None,
        command=(*FIRST, *CLONE_COMMAND, OUTCOMES, *_THEN),
        args=(),
        environment=tuple(environment.items()),
        workspace=replace(blueprint.workspace, read_only=False),
        network=NetworkRules((), (), dns=False, ports=()),
        kept_home=None,
        git=None,
    )


def last_outcomes(said: bytes) -> tuple[str, ...] | None:
    """What it said last of all repositories, in the end of its log; None where it has not tried all of them yet."""
    lines = said.decode(errors="replace").splitlines()
    return next((found for line in reversed(lines) if (found := outcomes_of(line)) is not None), None)


def has_cloned(live: Object | None, outcomes: tuple[str, ...] | None) -> bool:
    """Whether it has ended, and all is there."""
    state = (live or {}).get("State") or {}
    ended = state.get("Status") == "exited" and state.get("ExitCode") == 0 and not state.get("Error")
    return ended and outcomes is not None and not any(one.startswith("Failed") for one in outcomes)


def progress_of(live: Object, outcomes: tuple[str, ...] | None) -> Cloning:
    """What it is at."""
    state = live.get("State") or {}
    waits = str(state.get("Error") or "")
    if not waits and not running(live) and state.get("ExitCode"):
        waits = f"what clones them ended with exit code {state['ExitCode']}, and is started again."
    return Cloning(wished(told_to(live), agent.WORKSPACE), outcomes, done=False, waits=waits)
