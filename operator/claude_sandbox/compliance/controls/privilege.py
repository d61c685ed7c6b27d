"""PRIV: what the sandbox's processes may do."""

from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.containers import witness
from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.control import (
    OPTIONAL,
    ContainerCheck,
    Control,
    Level,
    PodCheck,
    Undeclared,
    Unmeasured,
    maps,
)
from claude_sandbox.compliance.controls.judges.visits import container_foreign_processes
from claude_sandbox.compliance.conventions import FIRST_ORDINARY_GROUP
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods import witness as pod_witness
from claude_sandbox.compliance.pods.standards import on_linux, violating
from claude_sandbox.compliance.pods.undeclared import debug_containers
from claude_sandbox.compliance.pods.view import PodContainer, View
from claude_sandbox.compliance.verdict import Verdict, decided, failed, judged, passed, unknown

# Before 1.35 a user namespace excused nothing; it has a control of its own.
_WITHOUT_USER_NAMESPACE_EXCUSE = 34
_HARMLESS_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
"""What the restricted Pod Security Standard lets be added."""

# As Go's strconv.ParseBool, with which the engine reads the option.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def container_not_privileged(container: Container) -> Verdict:
    """Nothing that the engine protects the host with is switched off at once."""
    privileged = container.flag("HostConfig.Privileged")
    if privileged is None:
        return unknown(untold("HostConfig.Privileged"))
    return failed("the container is privileged") if privileged else passed("Privileged: false")


def container_capabilities(container: Container) -> Verdict:
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


def container_setuid_files(_: Container) -> Verdict:
    """Its own files say that, and who may look at them: root of the machine, where the engine is on it."""
    return unknown("which of its image's programs are setuid its document does not tell")


def container_no_new_privileges(container: Container) -> Verdict:
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


def pod_non_root(view: View) -> Verdict:
    """The user that the runtime reports decides, and the kubelet's promise where it reports none."""
    problems = view.violations("runAsNonRoot", "runAsUser", minor=_WITHOUT_USER_NAMESPACE_EXCUSE)
    unsure, seen = [], []
    for container in view.containers:
        user = _reported_user(container)
        uid = user.get("uid", container.context.get("runAsUser", view.context.get("runAsUser")))
        if uid is None:
            unsure.append(container.name)
            continue
        # What is only asked for, the standard's own check has told of already.
        if uid == 0 and user:
            problems.append(f"container {container.name} runs as root")
        seen.append(f"{container.name}: uid {uid} {'reported' if user else 'asked for'}")
    value = ", ".join(seen)
    if problems:
        return judged(problems, value)
    if unsure:
        return unknown(f"neither spec nor runtime tell the user of {', '.join(unsure)}", value)
    return passed(value)


def container_non_root(container: Container) -> Verdict:
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


def pod_groups(view: View) -> Verdict:
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


def container_groups(container: Container) -> Verdict:
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


def pod_user_namespace(view: View) -> Verdict:
    """Root in the container would be nobody on the host."""
    if view.spec.get("hostUsers") is False:
        return passed("hostUsers: false")
    return failed("users in the sandbox are the same users on the node")


def container_user_namespace(container: Container) -> Verdict:
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


def pod_foreign_containers(view: View) -> Verdict:
    """Only the agent's container, and the operator's own before it: a debug container can look into it."""
    expected = view.expected.container
    problems = [
        f"{container.kind.removesuffix('s')} {container.name} was not declared"
        for container in view.containers
        if (container.kind, container.name) != ("containers", expected) and not view.is_helper(container)
    ]
    if not any(container.name == expected for container in view.containers):
        problems.append(f"container {expected} is missing")
    return judged(problems, f"{expected}; who was let in by `kubectl exec` is not told")


def _reported_user(container: PodContainer) -> Object:
    user: Object = (container.status.get("user") or {}).get("linux") or {}
    return user


def _named(group: int) -> str:
    return "root's group" if group == 0 else f"the system group {group}"


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None


CONTROLS: tuple[Control, ...] = (
    Control(
        "PRIV-01",
        "Not privileged",
        Severity.CRITICAL,
        Level.BASELINE,
        meaning="No container of the sandbox is privileged, and none is a Windows HostProcess.",
        why=(
            "A privileged container has all capabilities, all devices and no filter of system calls: who "
            "controls it controls the machine. Everything else that is measured is worth nothing then."
        ),
        pod=PodCheck(
            violating("privileged", "windowsHostProcess"),
            "Remove privileged and windowsOptions.hostProcess from all containers.",
            kernel=pod_witness.each_everywhere(witness.not_privileged),
        ),
        container=ContainerCheck(
            container_not_privileged,
            "Run it without --privileged.",
            kernel=witness.not_privileged,
        ),
        mappings=maps(
            pss=("privileged", "windowsHostProcess"),
            cis_docker=("5.5",),
            kubescape=("C-0057",),
            trivy=("KSV-0017",),
            cis_kubernetes=("5.2.2", "5.2.10"),
            nsa=("Pod security enforcement",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "PRIV-02",
        "All capabilities dropped",
        Severity.HIGH,
        Level.RESTRICTED,
        meaning="The sandbox's processes have no capability, neither now nor to be gained.",
        why=(
            "Capabilities are root's power in pieces. Several of them alone (SYS_ADMIN, SYS_PTRACE, "
            "DAC_READ_SEARCH, NET_ADMIN) lead out of a container or past its network's rules, and an agent "
            "needs none."
        ),
        pod=PodCheck(
            on_linux(violating("capabilities_restricted")),
            'Set capabilities.drop to ["ALL"] in all containers and add none.',
            kernel=pod_witness.each(witness.capabilities),
        ),
        container=ContainerCheck(
            container_capabilities,
            "Run it with --cap-drop ALL and without --cap-add.",
            kernel=witness.capabilities,
        ),
        mappings=maps(
            pss=("capabilities_baseline", "capabilities_restricted"),
            cis_docker=("5.4",),
            kubescape=("C-0046",),
            trivy=("KSV-0003", "KSV-0022", "KSV-0106", "KSV-0119"),
            cis_kubernetes=("5.2.8", "5.2.9"),
            nsa=("Pod security enforcement",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "PRIV-03",
        "No new privileges",
        Severity.HIGH,
        Level.RESTRICTED,
        meaning=(
            "No program can give its process more privileges than it had: setuid files and file capabilities "
            "have no effect."
        ),
        why=(
            "An image often has sudo, su, mount or ping with setuid. Without this flag a flaw in any of them "
            "makes the agent root in its container, from where the kernel is attacked more easily. With it they are"
            " harmless: where the image's files can be looked at they are named, as evidence, and the control passes."
        ),
        pod=PodCheck(
            on_linux(violating("allowPrivilegeEscalation")),
            "Set allowPrivilegeEscalation to false in all containers.",
            unseen=(
                "Which programs of its image are setuid or have capabilities: to look at them takes root on the node,"
                " which no agent is. With this flag none has an effect."
            ),
            kernel=pod_witness.each(witness.no_new_privileges),
        ),
        container=ContainerCheck(
            container_no_new_privileges,
            "Run it with --security-opt no-new-privileges.",
            kernel=witness.no_new_privileges,
        ),
        mappings=maps(
            pss=("allowPrivilegeEscalation",),
            cis_docker=("5.26",),
            kubescape=("C-0016",),
            trivy=("KSV-0001",),
            cis_kubernetes=("5.2.6",),
            nsa=("Pod security enforcement",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "PRIV-04",
        "Not root",
        Severity.HIGH,
        Level.RESTRICTED,
        meaning="Every process runs as a user other than root, by its number.",
        why=(
            "Root in a container is root for the kernel unless there is a user namespace. What goes wrong "
            "elsewhere (a writable mount, a flaw of the runtime such as CVE-2019-5736) is then root's."
        ),
        pod=PodCheck(
            pod_non_root,
            "Set runAsNonRoot to true and runAsUser to a number above 0, for the pod and all containers.",
            kernel=pod_witness.each(witness.non_root),
            kernel_decides=True,
        ),
        container=ContainerCheck(
            container_non_root,
            "Run it with --user 1000:1000: a number, which the document can prove.",
            kernel=witness.non_root,
            kernel_decides=True,
        ),
        mappings=maps(
            pss=("runAsNonRoot", "runAsUser"),
            cis_docker=("4.1",),
            kubescape=("C-0013",),
            trivy=("KSV-0012", "KSV-0105"),
            cis_kubernetes=("5.2.7",),
            nsa=("Non-root containers",),
            nist=("4.1.2", "4.4.3"),
        ),
    ),
    Control(
        "PRIV-05",
        "Not in root's or a system group",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="No process is in root's group, or in one of the groups below 1000, which belong to the system.",
        why=(
            "Files are often readable or writable by group: of root, disk, docker or shadow. A number means on "
            "the host what it means there, and not what the image calls it."
        ),
        pod=PodCheck(
            pod_groups,
            "Set supplementalGroupsPolicy to Strict, and runAsGroup, fsGroup and supplementalGroups to 1000 or above.",
            kernel=pod_witness.each(witness.groups),
            kernel_decides=True,
        ),
        container=ContainerCheck(
            container_groups,
            "Run it with --user 1000:1000, and without --group-add of groups below 1000.",
            kernel=witness.groups,
            kernel_decides=True,
        ),
        mappings=maps(
            kubescape=("C-0211",),
            trivy=("KSV-0116",),
            cis_kubernetes=("5.6.3",),
            nsa=("Non-root containers",),
            nist=("4.4.3",),
        ),
    ),
    Control(
        "PRIV-06",
        "User namespace",
        Severity.LOW,
        Level.HARDENED,
        meaning="User numbers in the sandbox stand for others on the machine, which nobody has.",
        why=(
            "A process that gets out of its container is then nobody. It is hardening beyond what everybody's "
            "nodes and engines can do, so it is asked for at level Hardened."
        ),
        pod=PodCheck(
            pod_user_namespace,
            "Set hostUsers to false (of a sandbox spec.security.userNamespace to true), where the nodes can do that.",
            kernel=pod_witness.each(witness.user_namespace),
        ),
        container=ContainerCheck(
            container_user_namespace,
            "Run it without --userns=host, on an engine with userns-remap or a rootless one.",
            kernel=witness.user_namespace,
            kernel_decides=True,
        ),
        required=OPTIONAL,
        mappings=maps(cis_docker=("2.9", "5.31"), nsa=("Non-root containers",), nist=("4.4.3",)),
    ),
    Control(
        "PRIV-07",
        "No setuid programs",
        Severity.LOW,
        Level.SANDBOX,
        meaning="No program of the sandbox's image runs as its file's user or group, or has its file's capabilities.",
        why=(
            "Without PRIV-03 each of them is a way to more privileges; with it they have no effect, which is why this "
            "is not required. An image without them is safe also where somebody runs it without that flag."
        ),
        pod=Unmeasured(
            "a look at the files of its image, which takes root on the node",
            EvidenceSource.HOST_PROC,
            "Take setuid, setgid and capabilities from the programs named when the image is built.",
        ),
        container=ContainerCheck(
            container_setuid_files,
            "Take setuid, setgid and capabilities from the programs named when the image is built.",
            kernel=witness.setuid_files,
            kernel_decides=True,
        ),
        required=OPTIONAL,
        mappings=maps(cis_docker=("4.8",), nist=("4.1.2",)),
    ),
    Control(
        "PRIV-08",
        "No foreign containers",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "Nothing runs in the sandbox that its operator did not put there: no debug container, no further "
            "container, no session with more rights."
        ),
        why=(
            "A container beside the agent's shares its network, and perhaps its processes and files. It can "
            "take the key, or be the agent's way out, and what is proven of the agent's container is not proven "
            "of it."
        ),
        pod=PodCheck(
            pod_foreign_containers,
            "Delete the pod: it comes back without the container that was added.",
            unseen="Sessions in the pod's own containers (`kubectl exec`, `attach`, `cp`) leave no trace in the API;"
            " the API server's audit log has them (`pods/exec`, `pods/attach`), and the node.",
            undeclared=Undeclared(debug_containers, "Delete the pod and make it anew, without debug containers."),
            kernel=pod_witness.foreign,
        ),
        container=ContainerCheck(
            container_foreign_processes,
            "End the session; where it left processes, recreate the container.",
        ),
        mappings=maps(cis_docker=("5.23", "5.24"), kubescape=("C-0002",), trivy=("KSV-0053",), nist=("4.4.5",)),
    ),
)
