"""An engine from nothing to answering, and from whatever state it is in to nothing.

Theory of operation. As for a cluster (`cluster.py`): the record in the engine's directory is what it is to be, `up` and
`start` do what is missing of that, and `down` goes by names that follow from the directory, with or without a record.
Programs are inside namespaces of the engine's own; those that are found without them are started anew.

One command at a time, under the lock on the directory, but for `kill` and `stop`, which tests use as a crash or a
service manager would come: whenever it may be.
"""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from claude_sandbox.localcluster import components
from claude_sandbox.localcluster.engine import api, config, listen, record
from claude_sandbox.localcluster.engine import outside as way_out
from claude_sandbox.localcluster.engine.places import EngineNames, Places
from claude_sandbox.localcluster.engine.record import EngineDescription, Tcp
from claude_sandbox.localcluster.engine.releases import (
    COMPONENTS,
    DEFAULT_RELEASE,
    EnginePrograms,
    build,
    require_machine,
    require_release,
)
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import write_private
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.node import cgroups, namespaces, processes
from claude_sandbox.localcluster.node.commands import call
from claude_sandbox.localcluster.pki import pki
from claude_sandbox.localcluster.pki.certificates import Subject
from claude_sandbox.localcluster.processes import Process

Say = Callable[[str], None]

# Seconds, for a slow machine that does other things, too.
_PATIENCE = 90.0
# Seconds for dockerd to stop containers that don't heed SIGTERM, which it kills after 10.
_GRACE = 40.0
_LOG_LINES = 12
_LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class ComponentStatus:
    """One program of an engine: `pid` is None where it doesn't run."""

    name: str
    pid: int | None
    healthy: bool


@dataclass(frozen=True)
class EngineStatus:
    """An engine, its programs, and what it says of itself (`GET /version`; empty where it doesn't answer)."""

    engine: EngineDescription
    components: tuple[ComponentStatus, ...]
    version: Mapping[str, Any]

    @property
    def healthy(self) -> bool:
        """Whether every program runs and answers."""
        return all(component.healthy for component in self.components)


def up(
    name: str,
    release: str | None = None,
    *,
    tcp: Tcp | None = None,
    live_restore: bool | None = None,
    outside: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    say: Say,
) -> EngineDescription:
    """Bring the engine up, or what is missing of it; return when it answers.

    `release` is `29` or `20.10`; `tcp` adds a listener on 127.0.0.1; with `live_restore` containers run on while
    dockerd doesn't; `outside` gives its network a way out, by which containers reach what the machine does;
    `settings` are added to dockerd's daemon.json. Whatever is None stays as the engine has it, and a new one gets
    release 29 and none of the others. `say` is called with lines for a person.
    Raises LocalClusterError where it can't be done.
    """
    places = Places.of(name)
    if release is not None:
        require_release(release)
    require_machine()
    with _owned(places, say):
        existing = record.load(places)
        if existing is None:
            # What an interrupted command left without a record is of no use to a new engine.
            _clear(places, say)
        elif release not in (None, existing.release):
            raise LocalClusterError(
                f"The engine {name!r} is there with release {existing.release}, not {release}.",
                f"Take it down first (`claude-sandbox engine down --name {name}`), or use another --name.",
            )
        before = existing or EngineDescription(name, release or DEFAULT_RELEASE)
        programs = build(before.release, say)
        wanted = replace(
            before,
            tcp=before.tcp if tcp is None else tcp,
            live_restore=before.live_restore if live_restore is None else live_restore,
            settings=before.settings if settings is None else json.dumps(dict(settings), sort_keys=True),
        )
        engine = record.settle(wanted, outside)
        _converge(engine, programs, COMPONENTS, say)
        return engine


def down(name: str, say: Say) -> bool:
    """End every process of the engine and remove all it has left on the machine, whatever state it is in.

    Its containers, images and volumes go with it. Returns whether there was anything.
    Raises LocalClusterError where something can't be removed.
    """
    places = Places.of(name)
    if not places.root.exists():
        return False
    require_machine()
    with _owned(places, say):
        say(f"Taking the engine {name!r} down.")
        _clear(places, say)
    return True


def status(name: str) -> EngineStatus:
    """How the engine is, asked of its programs now. Raises LocalClusterError where there is no such engine."""
    engine = _require(Places.of(name))
    each = tuple(_component(engine, component) for component in COMPONENTS)
    version: Mapping[str, Any] = {}
    with contextlib.suppress(LocalClusterError):
        version = api.version(engine.socket_path)
    return EngineStatus(engine, each, version)


def pid(engine: EngineDescription, component: str = "dockerd") -> int | None:
    """The component's process id now, or None where it doesn't run."""
    process = components.running(engine.places, _known(component))
    return None if process is None else process.pid


def kill(engine: EngineDescription, component: str = "dockerd") -> None:
    """End a component as a crash would; data stays. Raises LocalClusterError where it doesn't run."""
    if pid(engine, component) is None:
        raise LocalClusterError(
            f"{component} of the engine {engine.name!r} does not run.",
            f"See `claude-sandbox engine status --name {engine.name}`.",
        )
    components.kill(engine.places, component)


def stop(engine: EngineDescription, component: str = "dockerd") -> None:
    """End a component as the machine's service manager would; data stays. Nothing happens where it doesn't run.

    dockerd stops the containers first, unless it was told to let them run on (`live_restore`).
    """
    components.stop(engine.places, _known(component), _GRACE)


def start(engine: EngineDescription, component: str = "dockerd") -> None:
    """Start a component that was stopped or killed, on the same data, and return when it answers.

    Nothing happens where it runs. Raises LocalClusterError where it doesn't get well.
    """
    with locked(engine.places.root):
        _converge(engine, build(engine.release, _silent), (_known(component),), _silent)


@contextlib.contextmanager
def _owned(places: Places, say: Say) -> Iterator[None]:
    """Hold the engine against other commands; leave no trace of one that is gone or never came to be."""
    with locked(places.root, lambda: say(f"Waiting for another command on the engine {places.name!r}.")):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                for directory in (places.root, places.root.parent, places.root.parent.parent):
                    directory.rmdir()


def _clear(places: Places, say: Say) -> None:
    names = EngineNames.of(places)
    # Nothing is worth saving, and nothing may start a container anew.
    for name in reversed(COMPONENTS):
        components.stop(places, name, grace=0)
    # By record, by namespaces, by control group and by mark: each finds what the others miss.
    processes.end(names)
    cgroups.end(names.cgroup)
    components.sweep(places, grace=0)
    way_out.disconnect(names, say)
    # Only now that nothing is left in them, for that would hold them.
    namespaces.remove(names)
    # First of the files, so that one who is interrupted here leaves nothing that looks like an engine.
    places.record.unlink(missing_ok=True)
    for entry in places.root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _converge(engine: EngineDescription, programs: EnginePrograms, wanted: tuple[str, ...], say: Say) -> None:
    places, names = engine.places, engine.names
    if not namespaces.exist(names):
        # What still runs is in namespaces that nobody finds any more.
        for component in reversed(COMPONENTS):
            components.stop(places, component, _GRACE)
    namespaces.make(names, places, (names.sockets,))
    cgroups.make(names.cgroup)
    # A new network namespace has its loopback down.
    call([*namespaces.enter(names), programs.path("ip"), "link", "set", "lo", "up"], programs.environment())
    if engine.slot is None:
        way_out.disconnect(names, say)
    else:
        way_out.connect(names, engine.slot, say)
    if engine.tcp is Tcp.TLS:
        pki.ensure(places.pki, _certificates())
    for component in wanted:
        if components.running(places, component) is None:
            say(f"Starting {component}.")
        argv, inputs = _command(engine, component, programs)
        components.start(places, component, argv, programs.environment(), inputs)
        _await(engine, component)


def _command(
    engine: EngineDescription, component: str, programs: EnginePrograms
) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """How the component is started, and the files that it reads when it is."""
    places, names = engine.places, engine.names
    nsenter, *namespace = namespaces.enter(names)
    inside = (str(programs.path(nsenter)), *namespace)
    if component == "containerd":
        file = places.config / "containerd.toml"
        write_private(file, config.containerd(places, names))
        return (*inside, str(programs.path("containerd")), "--config", str(file)), (file,)
    file = places.config / "daemon.json"
    write_private(file, config.dockerd(engine, places, names, programs.path("tini-static")))
    daemon = (*inside, str(programs.path("dockerd")), "--config-file", str(file))
    if engine.port is not None:
        daemon = (sys.executable, "-I", listen.__file__, str(engine.port), *daemon)
    return daemon, (file,)


def _await(engine: EngineDescription, component: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not _well(engine, component):
        ended = components.running(engine.places, component) is None
        if ended or time.monotonic() > deadline:
            log = components.log_file(engine.places, component)
            end = [f"  {line}" for line in log.read_text(errors="replace").splitlines()[-_LOG_LINES:]]
            what = "ended at its start" if ended else f"did not answer within {_PATIENCE:.0f} s"
            raise LocalClusterError(
                "\n".join([f"{component} {what}. The end of {log}:", *end]),
                f"Mend what the log names and run `claude-sandbox engine up --name {engine.name}` again, "
                f"or begin afresh after `claude-sandbox engine down --name {engine.name}`.",
            )
        time.sleep(0.05)


def _well(engine: EngineDescription, component: str) -> bool:
    if component == "containerd":
        return api.listens(engine.names.sockets / "containerd.sock")
    return api.answers(engine.socket_path)


def _component(engine: EngineDescription, name: str) -> ComponentStatus:
    process: Process | None = components.running(engine.places, name)
    return ComponentStatus(name, None if process is None else process.pid, process is not None and _well(engine, name))


def _certificates() -> dict[str, tuple[str, Subject]]:
    return {
        "server": ("ca", Subject("dockerd", server=True, client=False, names=_LOOPBACK)),
        "client": ("ca", Subject("client")),
    }


def _require(places: Places) -> EngineDescription:
    engine = record.load(places)
    if engine is None:
        raise LocalClusterError(
            f"There is no engine {places.name!r}.", f"Make it: `claude-sandbox engine up --name {places.name}`."
        )
    return engine


def _known(component: str) -> str:
    if component not in COMPONENTS:
        raise LocalClusterError(
            f"An engine has no component {component!r}.", f"Name one of these: {', '.join(COMPONENTS)}."
        )
    return component


def _silent(_line: str) -> None:
    pass
