"""What is told of repositories by the containers that were made with them. Pure.

A sandbox's own container has what became of them as a label, from before it was made (`beside`). Earlier versions had
one whose workspace is in memory clone them itself: it goes on until it is replaced, and its health check tells.
"""

from datetime import datetime

from claude_sandbox.backends.base import Cloning
from claude_sandbox.backends.cloning import outcomes_of, wished
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.documents import Object, labels
from claude_sandbox.blueprint import agent
from claude_sandbox.blueprint.model import Blueprint
from claude_sandbox.blueprint.repositories import REPOSITORIES_VARIABLE, wishes

NOT_CLONED = 101
"""The health check's exit code as long as not all repositories are there."""
OUTCOMES = f"{agent.HOME}/.claude-sandbox-repositories"
"""The file with the outcomes, in memory and gone with each end of the container."""
FIRST = ("/usr/bin/tini", "--")
AGAIN = 2.0
"""Seconds until a container is looked at again that is cloning, while its engine checks it often."""


def variables(blueprint: Blueprint) -> tuple[tuple[str, str], ...]:
    """What the program is told by; and, of a container that others cloned for, what it was."""
    return () if blueprint.git is None else ((REPOSITORIES_VARIABLE, wishes(blueprint.git.clones)),)


def cloning_of(container: Object) -> Cloning | None:
    """What became of the repositories that it was made with; None for a container without."""
    told = told_to(container)
    if told is None:
        return None
    if (before := labels(container).get(names.LABEL_CLONED)) is not None:
        return Cloning(wished(told, agent.WORKSPACE), outcomes_of(before), done=True)
    # A check that took too long tells nothing.
    said = [found for one in _checks(container) if (found := outcomes_of(_first_line(one))) is not None]
    outcomes = said[-1] if said else None
    done = outcomes is not None and not any(one.startswith("Failed") for one in outcomes)
    return Cloning(wished(told, agent.WORKSPACE), outcomes, done)


def told_to(container: Object) -> str | None:
    """What a container's document says is to be cloned; None where nothing is."""
    begin = f"{REPOSITORIES_VARIABLE}="
    found = [entry.removeprefix(begin) for entry in _environment(container) if entry.startswith(begin)]
    return found[-1] if found else None


def is_cloning(container: Object) -> bool:
    """Whether its last check found that not all repositories are there."""
    checks = _checks(container)
    return bool(checks) and checks[-1].get("ExitCode") == NOT_CLONED


def _checks(container: Object) -> list[Object]:
    """Those of this run that the engine has kept, the last one last: it keeps what it found before a start, too."""
    state = container.get("State") or {}
    log = (state.get("Health") or {}).get("Log") or ()
    begun = _time(state.get("StartedAt"))
    return [one for one in log if begun is not None and (at := _time(one.get("Start"))) is not None and at >= begun]


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _environment(container: Object) -> list[str]:
    return [str(entry) for entry in (container.get("Config") or {}).get("Env") or ()]


def _first_line(outcome: Object) -> str:
    return str(outcome.get("Output") or "").partition("\n")[0]
