"""How Claude Code comes into a pod whose image is anybody's: by an image volume, or by an init container. Pure.

An image volume (KEP-4639) takes nothing of the node's disk and no time. Where a cluster has none, an init container of
the operator's image copies into a volume of the pod's own, as the agent's user and with nothing else mounted. In the
agent's container either is read-only.
"""

from typing import Any

from claude_sandbox.backends.kubernetes.hardening import hardened_container, missing_profile
from claude_sandbox.blueprint.model import Image, Tools
from claude_sandbox.blueprint.tools import BUSYBOX
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object

NAME = "tools"
"""Of the volume, and of the init container that fills it."""
_TARGET = "/tools"
# Claude Code's program is nearly all of it. What has the kernel move files by their pages, as busybox's cp has, takes
# longer than to read and write it by blocks that a processor's cache has room for.
_COPY = f"""for one in *; do
  [ "$one" = bin ] || "$0" cp -R "$one" {_TARGET}/
done
"$0" mkdir {_TARGET}/bin
for one in bin/*; do
  "$0" dd if="$one" of="{_TARGET}/$one" bs=32k status=none
  "$0" chmod 0755 "{_TARGET}/$one"
done
"""
# What a runtime that knows no image volumes makes of one: a mount without a source.
_NOT_MADE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"})


def brought_into(spec: Manifest, tools: Tools, *, image_volumes: bool) -> Manifest:
    """A pod's spec with Claude Code in the agent's container, which is its only one."""
    (agent,) = spec["containers"]
    mount: Manifest = {"name": NAME, "mountPath": tools.directory, "readOnly": True}
    if image_volumes:
        source: Manifest = {"image": {"reference": tools.image.reference, "pullPolicy": tools.image.pull_policy}}
        mount["subPath"] = tools.directory.lstrip("/")
    else:
        source = {"emptyDir": {"sizeLimit": str(tools.size)}}
        spec = {**spec, "initContainers": [_copying(tools, agent["resources"]), *spec.get("initContainers", ())]}
    return {
        **spec,
        "containers": [{**agent, "volumeMounts": [*agent["volumeMounts"], mount]}],
        "volumes": [*spec["volumes"], {"name": NAME, **source}],
    }


def command(tools: Tools) -> list[str]:
    """What the init container runs: the image's own static program, whatever else is in it."""
    return [BUSYBOX, "sh", "-c", f"set -e; cd {tools.directory}\n{_COPY}", BUSYBOX]


def has_tools(pod: Object) -> bool:
    """Whether Claude Code is brought into this pod."""
    return bool(_volumes(pod))


def has_image_volume(pod: Object) -> bool:
    """Whether that is by an image volume."""
    return any(volume.get("image") is not None for volume in _volumes(pod))


def image_of(pod: Object) -> Image | None:
    """The image that Claude Code comes from in this pod; None where none is brought."""
    containers = (pod.get("spec") or {}).get("initContainers") or ()
    sources = [(one.get("image"), one.get("imagePullPolicy")) for one in containers if one.get("name") == NAME]
    images = [volume.get("image") or {} for volume in _volumes(pod)]
    sources += [(image.get("reference"), image.get("pullPolicy")) for image in images]
    found = next(((str(name), str(policy)) for name, policy in sources if name), None)
    return Image(found[0], found[0].partition("@")[2] or None, found[1]) if found is not None else None


def lacks_image_volumes(pod: Object) -> bool:
    """Whether the pod's node could not make its container, and an image volume may be why."""
    statuses: list[Any] = (pod.get("status") or {}).get("containerStatuses") or []
    waiting = [((one.get("state") or {}).get("waiting") or {}).get("reason") for one in statuses]
    return has_image_volume(pod) and any(reason in _NOT_MADE for reason in waiting) and not missing_profile(pod)


def _volumes(pod: Object) -> list[Any]:
    volumes: list[Any] = (pod.get("spec") or {}).get("volumes") or []
    return [volume for volume in volumes if volume.get("name") == NAME]


def _copying(tools: Tools, resources: Manifest) -> Manifest:
    return {
        "name": NAME,
        "image": tools.image.reference,
        "imagePullPolicy": tools.image.pull_policy,
        "command": command(tools),
        # As much as the agent, which comes after it: a pod is given the larger of the two.
        "resources": resources,
        "securityContext": hardened_container(),
        "volumeMounts": [{"name": NAME, "mountPath": _TARGET}],
    }
