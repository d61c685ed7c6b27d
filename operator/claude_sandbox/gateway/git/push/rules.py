"""Which commands of a push are carried out. Pure; what a command would do to the files is for `history`."""

from collections.abc import Mapping
from dataclasses import dataclass

from claude_sandbox.gateway.git.push.request import PushRequest
from claude_sandbox.gateway.git.refs import matches, why_not_a_branch


@dataclass(frozen=True)
class PushRules:
    """`branches`: patterns of those that may be pushed. `force`: what isn't a descendant of the old may take its place.
    `protected`: patterns of paths that no new commit may change."""

    branches: tuple[str, ...]
    force: bool = False
    delete: bool = False
    protected: tuple[str, ...] = ()


def reads_history(request: PushRequest, rules: PushRules) -> bool:
    """Whether what the new commits do matters, so that the pack has to be read before it is passed on."""
    replaces = any(not (command.creates or command.deletes) for command in request.commands)
    # Without either, what is in the pack changes nothing about whether it may come in: it is passed on as it comes.
    return request.needs_pack and (bool(rules.protected) or (replaces and not rules.force))


def aliases(request: PushRequest, symbolic: Mapping[bytes, bytes]) -> Mapping[bytes, str]:
    """Why a ref is refused that only stands for another on the server: the other would be written."""
    return {
        command.ref: "on the server it only stands for another branch"
        for command in request.commands
        if command.ref in symbolic
    }


def refusals(request: PushRequest, rules: PushRules | None) -> Mapping[bytes, str]:
    """Why a ref is refused, by ref; empty where all may be done as far as the commands tell. No rules: read-only."""
    found: dict[bytes, str] = {}
    for command in request.commands:
        if rules is None:
            why: str | None = "this repository is read-only: spec.repositories has no push for it"
        elif (why := why_not_a_branch(command.ref)) is None:
            if not matches(command.ref, rules.branches):
                why = f"only branches {', '.join(rules.branches)} may be pushed (spec.repositories, push.branches)"
            elif command.deletes and not rules.delete:
                why = "no branch may be deleted (spec.repositories, push.delete)"
        if why is not None:
            found[command.ref] = why
    return found
