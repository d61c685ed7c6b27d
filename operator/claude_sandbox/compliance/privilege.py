"""PRIV: what the sandbox's processes may do."""

from collections.abc import Callable

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import (
    OPTIONAL,
    Control,
    Level,
    Verdict,
    failed,
    judged,
    maps,
    passed,
    unknown,
)
from claude_sandbox.compliance.pods.evidence import Object
from claude_sandbox.compliance.pods.view import Container, View

# Before 1.35 a user namespace excused nothing; it has a control of its own.
_WITHOUT_USER_NAMESPACE_EXCUSE = 34
FIRST_ORDINARY_GROUP = 1000
"""Where Debian's and Red Hat's useradd begin: below are a system's own groups, such as disk and docker."""


def on_linux(judge: Callable[[View], Verdict]) -> Callable[[View], Verdict]:
    """The Pod Security Standards excuse pods that say they are for Windows; a sandbox that says so is refused."""

    def judge_linux(view: View) -> Verdict:
        if (view.spec.get("os") or {}).get("name") == "windows":
            return failed("the pod says that it is for Windows, where this protection does not exist")
        return judge(view)

    return judge_linux


def violating(*check_ids: str, minor: int | None = None) -> Callable[[View], Verdict]:
    """Fails with what these checks of the Pod Security Standards find; `minor` None for the API server's version."""
    return lambda view: judged(view.violations(*check_ids, minor=minor))


def non_root(view: View) -> Verdict:
    """The user that the runtime reports decides, and the kubelet's promise where it reports none."""
    problems = view.violations("runAsNonRoot", "runAsUser", minor=_WITHOUT_USER_NAMESPACE_EXCUSE)
    unsure, seen = [], []
    for container in view.containers:
        user = _reported_user(container)
        uid = user.get("uid", container.context.get("runAsUser", view.context.get("runAsUser")))
        if uid is None:
            unsure.append(container.name)
            continue
        if uid == 0 and user:
            problems.append(f"container {container.name} runs as root")
        seen.append(f"{container.name}: uid {uid} {'reported' if user else 'asked for'}")
    value = ", ".join(seen)
    if problems:
        return judged(problems, value)
    if unsure:
        return unknown(f"neither spec nor runtime tell the user of {', '.join(unsure)}", value)
    return passed(value)


def groups(view: View) -> Verdict:
    """Neither root's group nor one that may mean something on the host."""
    problems, doubts, seen = [], [], []
    for container in view.containers:
        asked = container.context.get("runAsGroup", view.context.get("runAsGroup"))
        user = _reported_user(container)
        gid, others = user.get("gid", asked), user.get("supplementalGroups")
        found = [] if gid is None else [gid]
        if others is None:
            doubts.append(f"its node does not tell which groups /etc/group of the image adds to {container.name}")
        found += [group for group in others or () if group not in found]
        if gid is None:
            problems.append(f"the group of container {container.name} is not set, and may be root's")
        problems += [
            f"container {container.name} is in {_named(group)}" for group in found if group < FIRST_ORDINARY_GROUP
        ]
        seen.append(f"{container.name}: {', '.join(map(str, found))}")
    wanted = [*(view.context.get("supplementalGroups") or ()), view.context.get("fsGroup")]
    problems += [
        f"the pod asks for {_named(group)}" for group in wanted if group is not None and group < FIRST_ORDINARY_GROUP
    ]
    value = "; ".join(seen)
    return unknown("; ".join(doubts), value) if doubts and not problems else judged(problems, value)


def user_namespace(view: View) -> Verdict:
    """Root in the container would be nobody on the host."""
    if view.spec.get("hostUsers") is False:
        return passed("hostUsers: false")
    return failed("users in the sandbox are the same users on the node")


def foreign_containers(view: View) -> Verdict:
    """Only the agent's container: a debug container can look into it."""
    expected = view.expected.container
    problems = [
        f"{container.kind.removesuffix('s')} {container.name} was not declared"
        for container in view.containers
        if (container.kind, container.name) != ("containers", expected)
    ]
    if not any(container.name == expected for container in view.containers):
        problems.append(f"container {expected} is missing")
    return judged(problems, f"{expected}; who was let in by `kubectl exec` is not told")


def _reported_user(container: Container) -> Object:
    user: Object = (container.status.get("user") or {}).get("linux") or {}
    return user


def _named(group: int) -> str:
    return "root's group" if group == 0 else f"the system group {group}"


CONTROLS = (
    Control(
        "PRIV-01",
        "Not privileged",
        Severity.CRITICAL,
        Level.BASELINE,
        "Remove privileged and windowsOptions.hostProcess from all containers.",
        violating("privileged", "windowsHostProcess"),
        mappings=maps(
            pss=("privileged", "windowsHostProcess"),
            cis_docker=("5.5",),
            kubescape=("C-0057",),
            trivy=("KSV-0017",),
        ),
    ),
    Control(
        "PRIV-02",
        "All capabilities dropped",
        Severity.HIGH,
        Level.RESTRICTED,
        'Set capabilities.drop to ["ALL"] in all containers and add none.',
        on_linux(violating("capabilities_restricted")),
        mappings=maps(
            pss=("capabilities_baseline", "capabilities_restricted"),
            cis_docker=("5.4",),
            kubescape=("C-0046",),
            trivy=("KSV-0003", "KSV-0022", "KSV-0106", "KSV-0119"),
        ),
    ),
    Control(
        "PRIV-03",
        "No new privileges",
        Severity.HIGH,
        Level.RESTRICTED,
        "Set allowPrivilegeEscalation to false in all containers.",
        on_linux(violating("allowPrivilegeEscalation")),
        mappings=maps(
            pss=("allowPrivilegeEscalation",),
            cis_docker=("5.26",),
            kubescape=("C-0016",),
            trivy=("KSV-0001",),
        ),
    ),
    Control(
        "PRIV-04",
        "Not root",
        Severity.HIGH,
        Level.RESTRICTED,
        "Set runAsNonRoot to true and runAsUser to a number above 0, for the pod and all containers.",
        non_root,
        mappings=maps(
            pss=("runAsNonRoot", "runAsUser"),
            cis_docker=("4.1",),
            kubescape=("C-0013",),
            trivy=("KSV-0012", "KSV-0105"),
        ),
    ),
    Control(
        "PRIV-05",
        "Not in root's or a system group",
        Severity.MEDIUM,
        Level.SANDBOX,
        "Set supplementalGroupsPolicy to Strict, and runAsGroup, fsGroup and supplementalGroups to 1000 or above.",
        groups,
        mappings=maps(kubescape=("C-0211",), trivy=("KSV-0116",)),
    ),
    Control(
        "PRIV-06",
        "User namespace",
        Severity.LOW,
        Level.HARDENED,
        "Set hostUsers to false where the nodes' kernel and runtime support user namespaces.",
        user_namespace,
        required=OPTIONAL,
        mappings=maps(cis_docker=("2.9", "5.31")),
    ),
    Control(
        "PRIV-08",
        "No foreign containers",
        Severity.HIGH,
        Level.SANDBOX,
        "Delete the pod: it comes back without the container that was added.",
        foreign_containers,
        unseen="Sessions in the pod's own containers (`kubectl exec`, `attach`, `cp`) leave no trace in the API;"
        " the API server's audit log has them (`pods/exec`, `pods/attach`), and the node.",
        mappings=maps(cis_docker=("5.23", "5.24"), kubescape=("C-0002",), trivy=("KSV-0053",)),
    ),
)
