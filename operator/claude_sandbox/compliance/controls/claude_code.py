"""IMG-03: whether Claude Code is the operator's, whatever image a sandbox has."""

import posixpath
from collections.abc import Iterator

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.control import AS_FOR_A_SANDBOX, ContainerCheck, Control, Level, PodCheck, maps
from claude_sandbox.compliance.evidence.readings import ClaudeCode
from claude_sandbox.compliance.pods.view import PodContainer, View, same_image
from claude_sandbox.compliance.verdict import Verdict, decided, not_applicable, unknown

_UNDECLARED = "nothing declares where Claude Code is to be from"
_OWN = "the image is the operator's own"


def pod_from_operator(view: View) -> Verdict:
    """It is mounted read-only over whatever the image has there, from the operator's image, and is what is started."""
    wanted = view.expected.claude_code
    if wanted is None:
        return not_applicable(_UNDECLARED)
    agents = [one for one in view.containers if (one.kind, one.name) == ("containers", view.expected.container)]
    if not agents:
        return unknown("the pod has no container of the agent's")
    if not wanted.brought:
        others = [one for one in agents if not same_image(str(one.spec.get("image", "")), wanted.image)]
        return _decided(["the agent's image is not the operator's own" for _ in others], [], wanted, _OWN)
    names = {volume["name"] for volume in view.volumes if _is_image(volume, wanted)}
    copied = {volume["name"] for volume in view.volumes if volume.get("emptyDir") is not None}
    names |= {name for name in copied if _is_filled(view, name, wanted)}
    problems = [problem for one in agents for problem in _unlike(one, wanted, names)]
    return _decided(problems, [], wanted, wanted.image)


def container_from_operator(container: Container) -> Verdict:
    """It is mounted read-only over whatever the image has there, from the operator's volume, and is what is started."""
    wanted = container.declared.claude_code
    if wanted is None:
        return not_applicable(_UNDECLARED)
    if not wanted.brought:
        reference = container.text("Config.Image")
        if reference is None:
            return unknown(untold("Config.Image"))
        others = [] if same_image(reference, wanted.image) else ["its image is not the operator's own"]
        return _decided(others, [], wanted, _OWN)
    problems, doubts = list(_mounted_otherwise(container, wanted)), list(container.mount_doubts)
    here = [mount for mount in container.mounts if mount.destination == wanted.directory]
    doubts += [mount.doubt for mount in container.mounts if mount.is_vague]
    doubts += [mount.doubt for mount in here if mount.is_veiled or mount.writable is None]
    entry = container.strings("Config.Entrypoint")
    if entry is None:
        doubts.append(untold("Config.Entrypoint"))
    elif tuple(entry) != wanted.entry:
        problems.append("it is started by something else than the operator's entry point")
    return _decided(problems, doubts, wanted, wanted.image)


def _decided(problems: list[str], doubts: list[str], wanted: ClaudeCode, value: str) -> Verdict:
    unsure = [] if wanted.certain else ["which image is the operator's is not known (--sandbox-image)"]
    return decided(problems, [*doubts, *unsure], value)


def _is_image(volume: object, wanted: ClaudeCode) -> bool:
    source = volume.get("image") if isinstance(volume, dict) else None
    return source is not None and same_image(str(source.get("reference", "")), wanted.image)


def _is_filled(view: View, volume: str, wanted: ClaudeCode) -> bool:
    """Whether the operator's image fills it, and nobody else may write to it."""
    name, *command = wanted.filled_by
    having = [
        (one, mount)
        for one in view.containers
        for mount in one.spec.get("volumeMounts") or ()
        if mount.get("name") == volume and (one.name == name or mount.get("readOnly") is not True)
    ]
    return bool(having) and all(
        (one.kind, one.name) == ("initContainers", name)
        and one.spec.get("command") == command
        and not one.spec.get("args")
        and same_image(str(one.spec.get("image", "")), wanted.image)
        for one, _ in having
    )


def _unlike(container: PodContainer, wanted: ClaudeCode, volumes: set[object]) -> Iterator[str]:
    found = False
    for mount in container.spec.get("volumeMounts") or ():
        place = posixpath.normpath("/" + str(mount.get("mountPath", "")).lstrip("/"))
        if place == wanted.directory:
            right = mount.get("name") in volumes and mount.get("subPath") in (None, "", wanted.directory.lstrip("/"))
            found = right and mount.get("readOnly") is True and not mount.get("subPathExpr")
        elif place.startswith(f"{wanted.directory}/"):
            yield f"something is mounted over Claude Code, at {place}"
    if not found:
        yield f"what is mounted at {wanted.directory} is not Claude Code of the operator's image, read-only"
    if tuple(container.spec.get("command") or ()) != wanted.entry:
        yield "it is started by something else than the operator's entry point"


def _mounted_otherwise(container: Container, wanted: ClaudeCode) -> Iterator[str]:
    here = [mount for mount in container.mounts if mount.destination == wanted.directory]
    if not here:
        yield f"nothing is mounted at {wanted.directory}"
    for mount in here:
        if mount.writable:
            yield f"it can write to {wanted.directory}"
        if mount.kind not in ("volume", None) or mount.host is not None or mount.name not in (*wanted.filled_by, None):
            yield f"what is mounted at {wanted.directory} is not the operator's volume"
    for mount in container.mounts:
        if mount.destination is not None and mount.destination.startswith(f"{wanted.directory}/"):
            yield f"something is mounted over Claude Code, at {mount.destination}"


CONTROLS: tuple[Control, ...] = (
    Control(
        "IMG-03",
        "Claude Code from the operator's image",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "Claude Code's program is the operator's own, mounted read-only, whatever the image has at its place."
        ),
        why=(
            "An image can bring a program of that name that does something else with the key, or one that is "
            "too old for the managed settings to hold."
        ),
        pod=PodCheck(
            pod_from_operator,
            "Delete the pod: it comes back with the operator's Claude Code, mounted read-only.",
            undeclared=AS_FOR_A_SANDBOX,
        ),
        container=ContainerCheck(
            container_from_operator,
            "Remove the container: it comes back with the operator's Claude Code, mounted read-only.",
        ),
        mappings=maps(nist=("4.1.5",)),
    ),
)
