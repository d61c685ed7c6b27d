"""Who works in a container from outside, and with what more than it has itself."""

from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.evidence.containers import ExecSession
from claude_sandbox.compliance.verdict import Verdict, decided, passed, unknown


def container_foreign_processes(container: Container) -> Verdict:
    """Nobody works in it with more than it has itself. Health checks are exec sessions as well, and look the same."""
    visits = container.visits
    if visits is not None:
        found = [_visitor(session, container) for session in visits.sessions]
        problems = [one for one, certain in found if one and certain]
        doubts = [one for one, certain in found if one and not certain]
        if visits.left:
            problems.append("processes of another user are in it, which it can't have started itself")
        elif visits.left is None:
            doubts.append("what a session from outside, that has ended, left in it could not be found out")
        number = len(visits.sessions)
        own = f"{number} session{'s' if number > 1 else ''} from outside, with no more than it has itself"
        return decided(problems, doubts, own if number and not (problems or doubts) else "" if number else "no session")
    sessions = container.strings("ExecIDs")
    if sessions is None:
        return unknown(untold("ExecIDs"))
    if sessions:
        return unknown("whose exec sessions are in it is not told; a health check would be one too", f"{len(sessions)}")
    return passed("no exec session")


def _visitor(session: ExecSession, container: Container) -> tuple[str, bool]:
    """In what a session from outside has more than the container, and whether that is certain; empty where nothing."""
    own = container.text("Config.User")
    if session.privileged:
        return "somebody outside has a privileged session in it (docker exec --privileged)", True
    if session.user is None or session.privileged is None:
        return "somebody outside has a session in it, of which the engine does not tell whose it is", False
    name, _, group = session.user.partition(":")
    if name == "root" or _is_root(name):
        return "somebody outside has a session in it as root (docker exec --user)", True
    if session.user in ("", own):
        return "", True
    if own is None:
        return "somebody outside has a session in it, and which user it has itself is not told", False
    if name == own.partition(":")[0] and not group:
        # Which group that is, is written in its image, and root's where it says nothing.
        return "somebody outside has a session in it as its user, in a group that is not told", False
    return "somebody outside has a session in it as another user (docker exec --user)", True


def _is_root(name: str) -> bool:
    return name.isascii() and name.isdecimal() and int(name) == 0
