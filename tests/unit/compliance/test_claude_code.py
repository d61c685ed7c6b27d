"""IMG-03: Claude Code is the operator's, in a pod and in a container, whatever is changed about how it comes there."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from compliant_container import compliant as compliant_container
from compliant_sandbox import compliant

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.evidence.container import declared
from claude_sandbox.backends.docker.images.tools import volume_of
from claude_sandbox.backends.docker.objects import documents
from claude_sandbox.backends.kubernetes.evidence.declared import expected
from claude_sandbox.backends.kubernetes.objects import pod
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.controls.claude_code import container_from_operator, pod_from_operator
from claude_sandbox.compliance.controls.privilege import pod_foreign_containers
from claude_sandbox.compliance.pods.view import View

OPERATORS = "example.org/claude@sha256:" + "a" * 64
FIELDS = {"credentials": {"apiKeySecretRef": {"name": "key"}}, "image": {"repository": "example.org/x", "tag": "1"}}
Mutate = Callable[[Any], object]


def blueprint(**fields: Any) -> Any:
    spec = ClaudeSandboxSpec.model_validate(FIELDS | fields)
    return build(Identity("agents", "alice", "u-1"), spec, Site(parse_image(OPERATORS, "IfNotPresent")))


def view(mutate: Mutate, *, image_volumes: bool) -> View:
    made, world = blueprint(), compliant()
    live = copy.deepcopy(pod(made, "1", image_volumes=image_volumes))
    mutate(live["spec"])
    world.pod = live
    world.expected = expected(made, world.expected.profile, (), frozenset())
    return View(world.evidence())


def _mount(spec: Any) -> Any:
    return next(one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "tools")


def _volume(spec: Any) -> Any:
    return next(one for one in spec["volumes"] if one["name"] == "tools")


IN_BOTH: dict[str, Mutate] = {
    "not mounted": lambda spec: spec["containers"][0]["volumeMounts"].remove(_mount(spec)),
    "writable": lambda spec: _mount(spec).update(readOnly=False),
    "mounted elsewhere": lambda spec: _mount(spec).update(mountPath="/opt/other"),
    "another part of it": lambda spec: _mount(spec).update(subPath="other"),
    "another volume": lambda spec: _mount(spec).update(name="workspace"),
    "something over it": lambda spec: spec["containers"][0]["volumeMounts"].append(
        {"name": "workspace", "mountPath": "/opt/claude-sandbox/bin/"}
    ),
    "another entry point": lambda spec: spec["containers"][0].update(command=["/bin/evil"]),
    "the image's own entry point": lambda spec: spec["containers"][0].pop("command"),
}
COPIED: dict[str, Mutate] = {
    "of another image": lambda spec: spec["initContainers"][0].update(image="example.org/evil:1"),
    "of another command": lambda spec: spec["initContainers"][0].update(command=["sh"]),
    "with arguments": lambda spec: spec["initContainers"][0].update(args=["x"]),
    "by another container": lambda spec: spec["initContainers"][0].update(name="other"),
    "by nobody": lambda spec: spec.pop("initContainers"),
    "and by another too": lambda spec: spec["initContainers"].append(
        {"name": "more", "image": OPERATORS, "volumeMounts": [{"name": "tools", "mountPath": "/t"}]}
    ),
}
MOUNTED: dict[str, Mutate] = {
    "of another image": lambda spec: _volume(spec)["image"].update(reference="example.org/evil:1"),
    "of a volume of the pod's own": lambda spec: (_volume(spec).pop("image"), _volume(spec).update(emptyDir={})),
}


@pytest.mark.parametrize("image_volumes", [False, True])
def test_what_the_operator_makes_passes(image_volumes: bool) -> None:
    found = view(lambda _: None, image_volumes=image_volumes)
    assert pod_from_operator(found).result is Result.PASS
    assert pod_foreign_containers(found).result is Result.PASS


@pytest.mark.parametrize(
    ("mutate", "image_volumes"),
    [
        *(pytest.param(one, False, id=f"copied, {name}") for name, one in (IN_BOTH | COPIED).items()),
        *(pytest.param(one, True, id=f"by image volume, {name}") for name, one in (IN_BOTH | MOUNTED).items()),
    ],
)
def test_a_pod_with_anything_else_fails(mutate: Mutate, image_volumes: bool) -> None:
    assert pod_from_operator(view(mutate, image_volumes=image_volumes)).result is Result.FAIL


def container(mutate: Mutate) -> Container:
    made = blueprint(backend={"type": "Docker"})
    meant = declared(made, compliant_container().declared.profile, (), None, cluster="c")
    wanted = documents(made, "c", EngineCapabilities()).container
    called = volume_of("c", made.tools)
    mount = {"Type": "volume", "Name": called, "Destination": "/opt/claude-sandbox", "RW": False, "Propagation": ""}
    document = {"Config": {"Entrypoint": wanted["Entrypoint"], "Image": wanted["Image"]}, "Mounts": [mount],
                "HostConfig": {"Binds": None}}  # fmt: skip
    mutate(document)
    return Container(document, meant, volumes=({"Name": called, "Driver": "local", "Options": None},))


IN_A_CONTAINER: dict[str, Mutate] = {
    "not mounted": lambda live: live["Mounts"].clear(),
    "writable": lambda live: live["Mounts"][0].update(RW=True),
    "another volume": lambda live: live["Mounts"][0].update(Name="csb-other"),
    "the host's": lambda live: live["Mounts"][0].update(Type="bind", Source="/srv/evil"),
    "something over it": lambda live: live["Mounts"].append(
        {"Type": "volume", "Name": "x", "Destination": "/opt/claude-sandbox/bin", "RW": False}
    ),
    "another entry point": lambda live: live["Config"].update(Entrypoint=["/bin/evil"]),
}


def test_what_the_operator_makes_of_a_container_passes() -> None:
    assert container_from_operator(container(lambda _: None)).result is Result.PASS


@pytest.mark.parametrize("name", IN_A_CONTAINER)
def test_a_container_with_anything_else_fails(name: str) -> None:
    assert container_from_operator(container(IN_A_CONTAINER[name])).result is Result.FAIL


def test_what_is_not_told_is_unknown() -> None:
    untold = container(lambda live: live["Config"].pop("Entrypoint"))
    assert container_from_operator(untold).result is Result.UNKNOWN
    vague = container(lambda live: live["Mounts"][0].pop("RW"))
    assert container_from_operator(vague).result is Result.UNKNOWN
