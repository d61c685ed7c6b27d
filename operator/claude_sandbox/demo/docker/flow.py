"""`make demo BACKEND=docker`, step by step. As with Kubernetes, a second run looks, and changes nothing."""

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.engine.connection.connect import Connection
from claude_sandbox.demo import at_work, gateways, sandbox
from claude_sandbox.demo.docker import beside, engines, operator, record, show
from claude_sandbox.demo.docker.record import Made
from claude_sandbox.demo.narrator import Narrator
from claude_sandbox.demo.place import Cluster as Asked
from claude_sandbox.demo.place import Place
from claude_sandbox.demo.provider import CLAUDE_API, Provider
from claude_sandbox.install import containers
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.inside import run_inside
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.waiting import Say
from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.programs import toolchain

CLUSTER = "demo-docker"
HOST = "local"


def run(image: str | None, narrator: Narrator) -> None:
    """An engine, a control plane, the operator, and a sandbox that is Ready and Compliant.

    `image`: what sandboxes run, rather than an image that is built here. Raises SetupError and LocalClusterError.
    """
    say = narrator.say
    program = toolchain.kubectl(say)
    narrator.step("A Docker Engine")
    before = record.load()
    endpoint = engines.choose(before, say)
    with containers.connected(endpoint) as engine:
        narrator.step("A control plane: etcd and kube-apiserver, on 127.0.0.1")
        running = cluster.up(CLUSTER, report=say)
        kubectl = Kubectl(program, str(running.kubeconfig))
        made = _made(before, endpoint, engine, running, kubectl, say)
        narrator.step("The images of sandboxes, and of what brings their keys and publishes their ports")
        chosen = _images(engine, made, image, say)
        narrator.step("A git server of the demo's own, with a private repository")
        server = beside.git_server(engine.api, made.cluster, chosen.sandbox, made.git or operator.GIT_PORT, say)
        key = os.environ.get("ANTHROPIC_API_KEY", "").strip() or None
        provider = _provider(engine, made, key, chosen, say)
        narrator.step("The operator, as a process of this machine")
        operator.install(kubectl, say)
        settings = json.dumps(gateways.settings(provider, server), indent=2)
        operator.start(running, program, made, chosen, settings, say)
        say(f"It may do what the operator's manifests say, and no more; its log is {operator.log(running.layout)}")
        narrator.step(f"A sandbox, {sandbox.NAME}, in the namespace {sandbox.NAMESPACE}")
        kubectl.apply([_host(endpoint)])
        sandbox.namespace(kubectl, say)
        sandbox.secret(kubectl, key, say)
        sandbox.git_secret(kubectl, server)
        sandbox.on_docker(kubectl, provider.domain, server)
        sandbox.await_ready(kubectl, say, lambda: show.host_trouble(kubectl, HOST), _logs(running, program))
        container = show.result(kubectl, HOST, engine.api, narrator)
        place = Place(lambda *argv: run_inside(engine.api, container, *argv), f"docker exec {container}")
        at_work.show(place, Asked(kubeconfig=str(running.kubeconfig)), provider, server, key, narrator)
    show.further(running, program, endpoint, narrator)


def down(say: Say) -> bool:
    """Remove what the demo made, and nothing else; whether there was anything. Raises SetupError, LocalClusterError."""
    made, layout = record.load(), Layout.of(CLUSTER)
    if made is not None:
        _let_go(layout, say)
        operator.stop(layout)
        if not engines.is_own(made.endpoint):
            _clean(made, say)
    found = [cluster.down(CLUSTER, say), engines.down(say), record.remove()]
    with contextlib.suppress(OSError):
        record.file().parent.rmdir()
    return any(found)


def is_demos(kubeconfig: str | None) -> bool:
    """Whether it is that of the demo's own control plane."""
    return kubeconfig == str(Layout.of(CLUSTER).kubeconfig)


def _made(before: Made | None, endpoint: str, engine: Connection, running: Cluster, kubectl: Kubectl, say: Say) -> Made:
    """The record, before anything is made that it has to tell of."""
    found = kubectl.get("namespace", "kube-system")
    assert found is not None  # noqa: S101 - an API server makes it before it is ready
    own: str = found["metadata"]["uid"]
    if before is not None and before.cluster == own:
        return before
    images: tuple[str, ...] = ()
    if before is not None and before.endpoint == endpoint:
        # The control plane was removed behind the demo's back, and with it all knowledge of what is left here.
        left, images = containers.sweep(engine.api, before.cluster), before.images
        say(f"Removed what an earlier control plane left on the engine: {left} containers, networks and volumes.")
    port, stand_in, git = operator.free_ports(running.layout)
    made = Made(endpoint, own, port, images, stand_in=stand_in, git=git)
    record.save(made)
    return made


def _provider(engine: Connection, made: Made, key: str | None, images: operator.Images, say: Say) -> Provider:
    """The Claude API once there was a key: what the Secret holds then goes to nobody else."""
    before = record.load() or made
    if key or before.keyed:
        record.save(replace(before, keyed=True))
        beside.no_stand_in(engine.api, made.cluster)
        return CLAUDE_API
    return beside.stand_in(engine.api, made.cluster, images.relay, made.stand_in or operator.STAND_IN_PORT, say)


def _images(engine: Connection, made: Made, image: str | None, say: Say) -> operator.Images:
    def claim(images: tuple[str, ...]) -> None:
        nonlocal made
        made = replace(made, images=tuple(dict.fromkeys((*made.images, *images))))
        record.save(made)

    brought = containers.bring(engine.api, ("operator",) if image else ("sandbox", "operator"), say, claim)
    claim(brought.added)
    return operator.Images(image or brought.names["sandbox"], brought.names["operator"])


def _host(endpoint: str) -> dict[str, Any]:
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.HOST_KIND,
        "metadata": {"name": HOST, "labels": sandbox.LABELS},
        "spec": {"endpoint": endpoint, "allowedNamespaces": {"names": [sandbox.NAMESPACE]}},
    }


def _logs(running: Cluster, program: Path) -> tuple[str, ...]:
    describe = f"{program} --kubeconfig {running.kubeconfig} describe"
    return (
        f"{describe} claudesandbox {sandbox.NAME} --namespace {sandbox.NAMESPACE}",
        f"{describe} dockerhost {HOST}",
        str(operator.log(running.layout)),
    )


def _let_go(layout: Layout, say: Say) -> None:
    """Have the operator remove the sandboxes, as far as it can: some may be on hosts that only it can reach."""
    if not operator.runs(layout):
        return
    say("Removing the sandboxes.")
    kubectl = Kubectl(toolchain.kubectl(say), str(layout.kubeconfig))
    try:
        kubectl.run("delete", meta.PLURAL, "--all", "--all-namespaces", "--wait", "--timeout=60s", timeout=90)
    except SetupError as error:
        say(f"Not all of them went: {error.message}")


def _clean(made: Made, say: Say) -> None:
    """Leave nothing on an engine that stays."""
    try:
        with containers.connected(made.endpoint) as engine:
            containers.sweep(engine.api, made.cluster)
            containers.remove_images(engine.api, made.images)
    except SetupError as error:
        raise SetupError(
            f"{error.message} What the demo made on it can't be removed.",
            f"Start it, and run this again. To leave it there, delete {record.file()} before.",
        ) from None
    say(f"Removed the demo's containers, networks, volumes and images from {made.endpoint}.")
