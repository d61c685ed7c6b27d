"""PRIV on Docker: what the container's processes may do."""

from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.containers.evidence import Session
from claude_sandbox.compliance.control import Verdict, failed, passed, unknown
from claude_sandbox.compliance.docker.measure import decided, shared
from claude_sandbox.compliance.privilege import FIRST_ORDINARY_GROUP

_HARMLESS_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
"""What the restricted Pod Security Standard lets be added."""

# As Go's strconv.ParseBool, with which the engine reads the option.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def not_privileged(container: Container) -> Verdict:
    """Nothing that the engine protects the host with is switched off at once."""
    privileged = container.flag("HostConfig.Privileged")
    if privileged is None:
        return unknown(untold("HostConfig.Privileged"))
    return failed("the container is privileged") if privileged else passed("Privileged: false")


def capabilities(container: Container) -> Verdict:
    """All are dropped. What is added counts even then, and ALL among it outweighs what is dropped."""
    dropped = container.strings("HostConfig.CapDrop")
    added = container.strings("HostConfig.CapAdd")
    privileged = container.flag("HostConfig.Privileged")
    problems = ["it is privileged, which gives it all capabilities"] if privileged else []
    if dropped is not None and "ALL" not in map(_capability, dropped):
        problems.append("it does not drop ALL capabilities")
    extra = sorted({_capability(one) for one in added or ()} - _HARMLESS_CAPABILITIES)
    problems += [f"it adds the capability {name}" for name in extra]
    doubts = doubts_of(
        ("HostConfig.CapDrop", dropped), ("HostConfig.CapAdd", added), ("HostConfig.Privileged", privileged)
    )
    return decided(
        problems, doubts, f"drops {', '.join(dropped or ()) or 'none'}, adds {', '.join(added or ()) or 'none'}"
    )


def no_new_privileges(container: Container) -> Verdict:
    """Asked for, and not as `no-new-privileges:false`. An engine's own default is not in a container's document."""
    if container.security is None:
        return unknown(untold("HostConfig.SecurityOpt"))
    value = container.option("no-new-privileges")
    if value is None:
        return failed("it does not ask for no-new-privileges")
    if value in _TRUE:
        return passed()
    if value in _FALSE:
        return failed("it turns no-new-privileges off")
    return unknown("the option no-new-privileges has a value that no engine takes")


def non_root(container: Container) -> Verdict:
    """A number above 0. Which number a name stands for is written in the image."""
    user = container.text("Config.User")
    if user is None:
        return unknown(untold("Config.User"))
    name = user.partition(":")[0]
    uid = _number(name)
    if uid is not None:
        return passed(f"uid {uid}") if uid else failed("it runs as uid 0, root")
    if name == "root":
        return failed("it runs as root")
    if not name:
        return failed("it names no user, and so runs as root")
    return unknown("whether the user that it names is root is written in its image, not in its document", name)


def groups(container: Container) -> Verdict:
    """Neither root's group nor one that may mean something on the host."""
    user, added = container.text("Config.User"), container.strings("HostConfig.GroupAdd")
    problems, doubts = [], list(doubts_of(("Config.User", user), ("HostConfig.GroupAdd", added)))
    if user is not None:
        name, _, group = user.partition(":")
        gid = _number(group)
        is_root = name in ("", "root") or _number(name) == 0
        if gid == 0 or group == "root" or (not group and is_root):
            problems.append("its group is root's")
        elif not group:
            doubts.append(
                "its group is not named: it is what its image says of the user, and root's if it says nothing"
            )
        elif gid is None:
            doubts.append("which group it names is written in its image")
    for group in added or ():
        gid = _number(group)
        if gid == 0 or group == "root":
            problems.append("root's group is added")
        elif gid is None:
            doubts.append(f"which group {group} is, which is added, is written in its image")
        elif gid < FIRST_ORDINARY_GROUP:
            problems.append(f"the system group {gid} is added")
    return decided(problems, doubts, user or "")


def user_namespace(container: Container) -> Verdict:
    """Root in the container would be nobody on the host."""
    mode = container.text("HostConfig.UsernsMode")
    if mode is None:
        return unknown(untold("HostConfig.UsernsMode"))
    if mode == "host":
        return failed("users in it are the same users on the host")
    match container.engine.remaps_users:
        case None:
            return unknown("it uses the engine's default, which only `docker info` tells (userns or rootless)")
        case True:
            return passed("the engine's own")
        case False:
            return failed("users in it are the same users on the host: the engine neither remaps them nor is rootless")


def foreign_processes(container: Container) -> Verdict:
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


def _visitor(session: Session, container: Container) -> tuple[str, bool]:
    """In what a session from outside has more than the container, and whether that is certain; empty where nothing."""
    own = container.text("Config.User")
    if session.privileged:
        return "somebody outside has a privileged session in it (docker exec --privileged)", True
    if session.user is None or session.privileged is None:
        return "somebody outside has a session in it, of which the engine does not tell whose it is", False
    name, _, group = session.user.partition(":")
    if name == "root" or _number(name) == 0:
        return "somebody outside has a session in it as root (docker exec --user)", True
    if session.user in ("", own):
        return "", True
    if own is None:
        return "somebody outside has a session in it, and which user it has itself is not told", False
    if name == own.partition(":")[0] and not group:
        # Which group that is, is written in its image, and root's where it says nothing.
        return "somebody outside has a session in it as its user, in a group that is not told", False
    return "somebody outside has a session in it as another user (docker exec --user)", True


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None


MEASURES = (
    shared("PRIV-01", not_privileged, "Run it without --privileged."),
    shared("PRIV-02", capabilities, "Run it with --cap-drop ALL and without --cap-add."),
    shared("PRIV-03", no_new_privileges, "Run it with --security-opt no-new-privileges."),
    shared("PRIV-04", non_root, "Run it with --user 1000:1000: a number, which the document can prove."),
    shared("PRIV-05", groups, "Run it with --user 1000:1000, and without --group-add of groups below 1000."),
    shared(
        "PRIV-06",
        user_namespace,
        "Run it without --userns=host, on an engine with userns-remap or a rootless one.",
    ),
    shared("PRIV-08", foreign_processes, "End the session; where it left processes, recreate the container."),
)
