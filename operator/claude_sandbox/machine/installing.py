"""From nothing, or from an older installation, to one that runs; and to nothing again.

Theory of operation. Each step looks at what is there and does what is missing, so a command that was interrupted is
mended by the same command again, and `uninstall` takes away what it finds, however far an installation came.

Holds nothing between two commands: the installation's own record is `settings.json` (`settings.py`), which is written
before anything is started by it. Called by commands that people and the nightly timer run, one at a time under the lock
on the configuration's directory. It waits for systemd, the API server and the engine, each with an end to its patience.
"""

import contextlib
import json
import shlex
import shutil
from dataclasses import dataclass, replace
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.engine.connection.connect import Connection
from claude_sandbox.install import containers, crds
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs import builder, toolchain
from claude_sandbox.localcluster.programs.tools import DEFAULT_KUBERNETES, kubernetes_release, tool
from claude_sandbox.machine import docker, lifecycle, package, rights, settings, systemd
from claude_sandbox.machine.lifecycle import Say
from claude_sandbox.machine.places import APISERVER, CONTROLLERS, DAILY, ETCD, OPERATOR, SERVICES, Places, unit
from claude_sandbox.machine.services import operator_command, operator_environment
from claude_sandbox.machine.settings import Settings

HOST = "local"
NAMESPACE = "agents"
BUILT = ""
# Seconds that the operator is given to remove sandboxes.
_PATIENCE = 120


@dataclass(frozen=True)
class InstallOptions:
    """What was asked for; None is what the installation has, or the default."""

    port: int | None = None
    socket: str | None = None
    image: str | None = None
    """What sandboxes run that name no image; BUILT is the one that belongs to this version of the program."""
    relay: str | None = None
    """What brings keys and publishes declared ports: an operator's image; else the one of this version."""
    namespaces: tuple[str, ...] = ()
    """Namespaces for sandboxes, which are made, and allowed to use this machine's engine."""
    gateways: dict[str, Any] | None = None
    """What holds for the gateways of all sandboxes, in the gateway's own format; empty for nothing any more."""


def install(places: Places, wish: InstallOptions, say: Say) -> Settings:
    """Have everything run as asked for, now and after each start of the machine. Again, it changes what is to change.

    Raises LocalClusterError and SetupError where it can't be done.
    """
    systemd.require()
    with locked(places.config, lambda: say("Waiting for another command on this installation.")):
        before = settings.load(places)
        wanted = _settings(before, wish)
        with containers.connected(wanted.endpoint) as engine:
            wanted = replace(wanted, group=docker.group(wanted.socket))
            wanted = _with_programs(places, wanted, say)
            wanted = _with_images(places, before or wanted, wanted, wish, engine, say)
        if before is None or before.port != wanted.port:
            # One may be to have the port that another has now.
            lifecycle.stop(reversed(SERVICES), say)
            lifecycle.require_ports(wanted)
        if wish.gateways is not None:
            settings.write_if_changed(places.gateways, json.dumps(wish.gateways, indent=2))
        # Before anything is started: `uninstall` goes by it, however far this gets.
        settings.save(places, wanted)
        lifecycle.settle(places, wanted)
        lifecycle.start((ETCD, APISERVER), places, wanted, say)
        kubectl = lifecycle.kubectl(places, wanted)
        # Before the operator is started, which looks only now and then whether a kind that was missing is there.
        crds.bring(kubectl, rights.first(), say, force=True)
        kubectl.apply(rights.rights(), force=True)
        # Kept, so that `uninstall` knows what on the engine is this control plane's, though the API server be gone.
        wanted = replace(wanted, cluster=identity(kubectl))
        settings.save(places, wanted)
        _host(kubectl, wanted, wish)
        lifecycle.start((CONTROLLERS, OPERATOR), places, wanted, say)
        lifecycle.start_daily()
        # Last: until now services may have run from the versions before.
        package.prune(places.programs, {*wanted.programs.values(), wanted.operator})
        return wanted


def lay_out(places: Places, wish: InstallOptions, say: Say) -> None:
    """Programs and units below another root, and nothing else: no keys, nothing started. For packages."""
    wanted = _with_programs(places, _settings(None, wish), say)
    lifecycle.write_units(places, wanted)


def renew(places: Places, say: Say) -> None:
    """Make certificates anew that are about to expire, and start anew what uses them."""
    # Before the lock, which would make the directory of an installation that there is not.
    settings.require(places)
    with locked(places.config, lambda: say("Waiting for another command on this installation.")):
        found = settings.require(places)
        lifecycle.settle(places, found)
        lifecycle.restart_outdated(places, found, say)


def uninstall(places: Places, say: Say) -> None:
    """Remove everything: sandboxes first, then services, programs, keys and data.

    Workspaces that were to be retained stay, and are named. Raises LocalClusterError and SetupError.
    """
    _require_anything(places)
    with locked(places.config):
        found = settings.load(places)
        if found is not None:
            _let_go(places, found, say)
        _end(places, say)
        # systemd keeps the data of services without an account elsewhere, and links to it.
        private = places.data.parent / "private"
        for directory in (places.data, private / places.data.name, places.config, places.programs):
            if directory.exists():
                shutil.rmtree(directory)
        with contextlib.suppress(OSError):
            private.rmdir()


def uninstall_keeping(places: Places, say: Say) -> None:
    """Remove services and programs. Keys, data and backups stay, and sandboxes go on without an operator."""
    _require_anything(places)
    with locked(places.config):
        _end(places, say)
        shutil.rmtree(places.programs, ignore_errors=True)


def _require_anything(places: Places) -> None:
    # An installation that failed half way has no settings, perhaps, and is to be removed all the same.
    if not any(place.exists() for place in (places.config, places.programs)):
        raise LocalClusterError("Nothing is installed on this machine.", "There is nothing to be done.")


def _settings(before: Settings | None, wish: InstallOptions) -> Settings:
    if before is None:
        before = Settings(settings.DEFAULT_PORT, BUILT, False, settings.DEFAULT_SOCKET, docker.GROUP, {}, "", "")
    image = before.image if wish.image is None else wish.image
    return replace(
        before,
        port=wish.port or before.port,
        image=image,
        image_named=before.image_named if wish.image is None else wish.image != BUILT,
        relay=wish.relay or before.relay,
        gateways=before.gateways if wish.gateways is None else bool(wish.gateways),
        socket=wish.socket or before.socket,
        python=package.interpreter(),
    )


def _with_programs(places: Places, wanted: Settings, say: Say) -> Settings:
    release = kubernetes_release(DEFAULT_KUBERNETES)
    names = [name for name in settings.PROGRAMS if name != "kubectl"]
    built = builder.build_all([tool(name, release) for name in names], say)
    built["kubectl"] = toolchain.kubectl(say)
    say(f"Copying programs to {places.programs}.")
    programs = package.put_programs(built, places.programs)
    made = replace(wanted, programs=programs, operator=package.put_operator(places.programs))
    shown = {name: programs[name] for name in ("kubectl", "etcdctl", "etcdutl")}
    package.link(places.programs, shown, _launcher(places, made))
    return made


def _launcher(places: Places, made: Settings) -> str:
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in operator_environment(made, places).items())
    return f'#!/bin/sh\n{variables} exec {shlex.join(operator_command(made))} "$@"\n'


def _with_images(
    places: Places, before: Settings, wanted: Settings, wish: InstallOptions, engine: Connection, say: Say
) -> Settings:
    """With the images that belong to this version of the program, which the engine is given."""
    kinds = (*(() if wanted.image_named else ("sandbox",)), *(() if wish.relay else ("operator",)))
    images = wanted.images

    def claim(found: tuple[str, ...]) -> None:
        nonlocal images
        images = tuple(dict.fromkeys((*images, *found)))
        # All else is as it was until it is carried out.
        settings.save(places, replace(before, images=images))

    brought = containers.bring(engine.api, kinds, say, claim)
    images = tuple(dict.fromkeys((*images, *brought.added)))
    image, relay = brought.names.get("sandbox", wanted.image), brought.names.get("operator", wanted.relay)
    return replace(wanted, image=image, relay=relay, images=images)


def identity(kubectl: Kubectl) -> str:
    """The control plane's identifier."""
    found = kubectl.get("namespace", "kube-system")
    assert found is not None  # noqa: S101 - an API server makes it before it is ready
    return str(found["metadata"]["uid"])


def _host(kubectl: Kubectl, wanted: Settings, wish: InstallOptions) -> None:
    """This machine's engine as a DockerHost, and namespaces that may use it. What an administrator changed stays."""
    names = list(wish.namespaces)
    present = kubectl.get(meta.HOST_PLURAL, HOST)
    if present is None:
        names = names or [NAMESPACE]
        kubectl.run("create", "--filename=-", stdin=json.dumps(_docker_host(wanted.endpoint, names)))
    else:
        allowed = (present["spec"].get("allowedNamespaces") or {}).get("names") or []
        further = [name for name in names if name not in allowed]
        change: dict[str, Any] = {"allowedNamespaces": {"names": [*allowed, *further]}} if further else {}
        if wish.socket is not None:
            change["endpoint"] = wanted.endpoint
        if change:
            kubectl.run("patch", meta.HOST_PLURAL, HOST, "--type=merge", f"--patch={json.dumps({'spec': change})}")
    for name in names:
        if kubectl.get("namespace", name) is None:
            kubectl.run("create", "namespace", name)


def _docker_host(endpoint: str, namespaces: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.HOST_KIND,
        "metadata": {"name": HOST},
        "spec": {"endpoint": endpoint, "allowedNamespaces": {"names": namespaces}},
    }


def _let_go(places: Places, found: Settings, say: Say) -> None:
    """Have the operator remove the sandboxes, wherever they are; then look whether anything is left on the engine."""
    if lifecycle.probes(places, found)[APISERVER]():
        say("Removing the sandboxes.")
        kubectl = lifecycle.kubectl(places, found)
        try:
            options = ("--all", "--all-namespaces", "--wait", f"--timeout={_PATIENCE}s")
            kubectl.run("delete", meta.PLURAL, *options, timeout=_PATIENCE + 30)
        except SetupError as error:
            raise LocalClusterError(
                f"Not all sandboxes could be removed: {error.message}",
                "See why (kubectl describe claudesandboxes -A; systemctl status claude-sandbox-operator), or give up a"
                " host that is gone for good: kubectl delete dockerhost NAME. Or keep the data: --keep-data.",
            ) from None
    else:
        say("The API server doesn't answer. What its sandboxes have on other machines' engines stays there.")
    if not found.cluster:
        return
    with containers.connected(found.endpoint) as engine:
        left, workspaces = containers.sweep_but_workspaces(engine.api, found.cluster)
        if left:
            say(f"Removed {left} containers, networks and volumes that were left.")
        containers.remove_images(engine.api, found.images)
        for volume in workspaces:
            say(f"A workspace stays; to remove it: docker volume rm {volume}")


def _end(places: Places, say: Say) -> None:
    if (places.units / f"{DAILY}.timer").exists():
        systemd.call("disable", "--quiet", "--now", f"{DAILY}.timer")
        # The file by which systemd knows when it was last due.
        systemd.call("clean", "--what=state", f"{DAILY}.timer")
    lifecycle.stop(reversed(SERVICES), say)
    present = [path for path in (*(places.units / unit(name) for name in SERVICES),
                                 places.units / f"{DAILY}.service", places.units / f"{DAILY}.timer")
               if path.exists()]  # fmt: skip
    if not present:
        return
    systemd.call("disable", "--quiet", *(path.name for path in present if path.name != f"{DAILY}.service"))
    for path in present:
        path.unlink()
    systemd.call("daemon-reload")
    with contextlib.suppress(LocalClusterError):
        # What had failed would be listed for ever.
        systemd.call("reset-failed", *(path.name for path in present))
