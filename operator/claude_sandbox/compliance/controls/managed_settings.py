"""SEC-04: whether Claude Code's managed settings, which no repository can change, are those that were asked for."""

import posixpath
from collections.abc import Iterator

from claude_sandbox.api import meta
from claude_sandbox.api.status import Severity
from claude_sandbox.claudecode.given import may_be_beside
from claude_sandbox.compliance.containers import witness_mounts
from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.control import AS_FOR_A_SANDBOX, ContainerCheck, Control, Level, PodCheck
from claude_sandbox.compliance.evidence.readings import ManagedSettings, Object
from claude_sandbox.compliance.pods import witness as pod_witness
from claude_sandbox.compliance.pods.view import PodContainer, View
from claude_sandbox.compliance.verdict import Verdict, decided, judged, not_applicable, unknown

ELSEWHERE = "CLAUDE_CODE_MANAGED_SETTINGS_PATH"
"""The variable by which Claude Code reads its managed settings from another place (seen with 2.1.331)."""
UNDECLARED = "nothing declares what managed settings it is to have"


def pod_managed(view: View) -> Verdict:
    """The pod's annotation has the expected content, and the agent sees that and nothing in its place.

    Claude Code has no settings of which it could be said what it read: this is what the kubelet shows it.
    """
    wanted = view.expected.managed_settings
    if wanted is None:
        return not_applicable(UNDECLARED)
    metadata = view.pod.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    content = annotations.get(meta.ANNOTATION_MANAGED_SETTINGS)
    problems = [] if content == wanted.content else ["the pod's managed settings are not those that were asked for"]
    problems += [
        f"the file {path} beside them is not what was asked for"
        for path, text in wanted.files
        if annotations.get(meta.file_annotation(path)) != text
    ]
    shown = {volume.get("name") for volume in view.volumes if _shows(volume, wanted)}
    agents = [one for one in view.containers if one.kind == "containers" and one.name == view.expected.container]
    problems += [problem for one in agents for problem in _shadowed(one, wanted, shown)]
    if problems:
        return judged(problems)
    if any(one.spec.get("envFrom") for one in agents):
        return unknown("variables of the agent come from where they were not read, and could name other settings")
    return judged(()) if agents else unknown("the pod has no container of the agent's")


def container_managed(container: Container) -> Verdict:
    """What the engine reads of the file is what was asked for, and nothing else is mounted in its place."""
    wanted = container.declared.managed_settings
    if wanted is None:
        return not_applicable(UNDECLARED)
    problems, doubts = list(_shadows(container, wanted)), list(container.mount_doubts)
    doubts += [mount.doubt for mount in container.mounts if mount.is_vague or _unclear(container, wanted)]
    variables = container.environment
    if variables is None:
        doubts.append(untold("Config.Env"))
    elif any(name == ELSEWHERE and value for name, value in variables):
        problems.append(f"the variable {ELSEWHERE} names other managed settings")
    if isinstance(container.settings, str):
        doubts.append(container.settings)
    elif container.settings.content != wanted.content:
        problems.append("its managed settings are not those that were asked for")
    return decided(problems, doubts)


def _shows(volume: Object, wanted: ManagedSettings) -> bool:
    """Whether the volume has the annotation as the settings, each other file by its own, and nothing else.

    A pod that was made before another file was asked for has one less: that is for Drifted to say.
    """
    items = (volume.get("downwardAPI") or {}).get("items") or ()
    shown = {str(one.get("path")): (one.get("fieldRef") or {}).get("fieldPath") for one in items}
    files = dict.fromkeys(shown) | {wanted.file: meta.ANNOTATION_MANAGED_SETTINGS}
    expected = {
        path: f"metadata.annotations['{annotation or meta.file_annotation(path)}']"
        for path, annotation in files.items()
    }
    beside = all(may_be_beside(path) for path in shown if path != wanted.file)
    return len(items) == len(shown) and shown == expected and beside


def _shadowed(container: PodContainer, wanted: ManagedSettings, shown: set[object]) -> Iterator[str]:
    found = False
    for mount in container.spec.get("volumeMounts") or ():
        place = posixpath.normpath("/" + str(mount.get("mountPath", "")).lstrip("/"))
        if place == wanted.directory:
            right = mount.get("name") in shown and not mount.get("subPath") and not mount.get("subPathExpr")
            found = found or (right and mount.get("readOnly") is True)
            if not right:
                yield f"something else is mounted at {place}"
        elif place.startswith(f"{wanted.directory}/"):
            yield f"something is mounted over the managed settings, at {place}"
    if not found:
        yield f"the managed settings are not mounted read-only at {wanted.directory}"
    named = [one for one in container.spec.get("env") or () if one.get("name") == ELSEWHERE]
    if any(one.get("value") or one.get("valueFrom") for one in named):
        yield f"the variable {ELSEWHERE} names other managed settings"


def _shadows(container: Container, wanted: ManagedSettings) -> Iterator[str]:
    here = [mount for mount in container.mounts if mount.destination == wanted.directory]
    if not here:
        yield f"nothing is mounted at {wanted.directory}"
    for mount in here:
        if mount.writable:
            yield f"it can write to {wanted.directory}"
        if mount.host is not None or mount.kind not in ("volume", None):
            yield f"what is mounted at {wanted.directory} is no volume of the engine's"
    for mount in container.mounts:
        if mount.destination is not None and mount.destination.startswith(f"{wanted.directory}/"):
            yield f"something is mounted over the managed settings, at {mount.destination}"


def _unclear(container: Container, wanted: ManagedSettings) -> bool:
    return any(mount.destination == wanted.directory and mount.writable is None for mount in container.mounts)


CONTROLS: tuple[Control, ...] = (
    Control(
        "SEC-04",
        "Managed settings in place and as asked for",
        Severity.CRITICAL,
        Level.SANDBOX,
        meaning=(
            "Claude Code's managed settings are there, as the operator wrote them, and nothing is in their place."
        ),
        why=(
            "They are what a repository can't override: which settings may redirect the key, run hooks or skip "
            "permissions. Without them a file in the repository decides."
        ),
        pod=PodCheck(
            pod_managed,
            "Delete the pod: it comes back with the settings that keep a repository from sending the key elsewhere.",
            undeclared=AS_FOR_A_SANDBOX,
            kernel=pod_witness.settings,
        ),
        container=ContainerCheck(
            container_managed,
            "Remove the container: it comes back with the settings that keep a repository from sending the key"
            " elsewhere.",
            kernel=witness_mounts.settings,
        ),
    ),
)
